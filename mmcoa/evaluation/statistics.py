"""Intervals and aggregation."""

import functools

import numpy as np
import pandas as pd
from statsmodels.stats import contingency_tables
from statsmodels.stats.proportion import proportion_confint

CONTROL_LEVEL = 15.0  # percent right under the image attack that an undefended model has at most
CONTROL_GAIN = 5.0  # points that TeCoA gains on it at least


def control_holds(undefended, gain, low):
    """The rule of the positive control: whether a bed shows the known effect, before it is asked what is not known.

    undefended: percent right under the image attack; gain, low: TeCoA's in points, and the lower end of its 95 % interval.
    """
    return undefended <= CONTROL_LEVEL and gain >= CONTROL_GAIN and low > 0


def wilson(correct, n):
    """95 % Wilson interval of a proportion, in percent: (low, high) (Wilson, JASA 1927). Per sample: see `macro_interval`."""
    low, high = proportion_confint(correct, n, alpha=0.05, method="wilson")
    return 100 * float(low), 100 * float(high)


def macro_interval(outcomes, resamples=2000, seed=0, level=0.95):
    """Macro mean over data sets and its bootstrap interval, in percent: (mean, low, high).

    Arguments:
        outcomes: list with one item a data set: (correct, label), arrays of one length; `correct` may be the difference of
            two models or attacks on the same samples, values -1, 0, 1: then the interval is a paired one.
        resamples: bootstrap resamples.

    The text attack changes a whole class at once, so samples of one class are not independent: each resample draws data
    sets, then classes within each, with replacement (Cameron, Gelbach and Miller, REStat 2008, cluster bootstrap).
    """
    if not outcomes:
        raise ValueError("macro_interval needs at least one data set")
    means, sums, counts = [], [], []
    for correct, label in outcomes:
        correct = np.asarray(correct, float)
        _, index, count = np.unique(np.asarray(label), return_inverse=True, return_counts=True)
        sums.append(np.bincount(index, weights=correct))
        counts.append(tuple(count.tolist()))
        means.append(correct.mean())
    weights, share = draws(tuple(counts), resamples, seed)
    estimates = sum(part * (weight @ total) for part, weight, total in zip(share, weights, sums, strict=True))
    low, high = np.quantile(estimates, [(1 - level) / 2, (1 + level) / 2])
    return 100 * float(np.mean(means)), 100 * float(low), 100 * float(high)


@functools.lru_cache(maxsize=8)  # a report asks for the same data sets hundreds of times
def draws(counts, resamples=2000, seed=0):
    """The draws of the bootstrap: of classes within each data set, then of data sets. Not to be changed: they are shared.

    Arguments:
        counts: of each data set the number of samples of each class, tuple of tuples.

    Returns (weights, share). weights: of each data set float [resamples, classes]; its product with the right samples of each
    class is the data set's resampled mean. share: [data sets, resamples], of each data set in the mean over data sets.
    """
    rng = np.random.default_rng(seed)
    weights = []
    for count in counts:  # one draw of classes for each resample; a data set drawn twice in a resample may reuse its draw
        draw = rng.integers(len(count), size=(resamples, len(count)))
        rows = draw + len(count) * np.arange(resamples)[:, None]
        times = np.bincount(rows.ravel(), minlength=rows.size).reshape(draw.shape)  # how often each class is drawn
        weights.append(times / (times @ np.array(count))[:, None])
    chosen = rng.integers(len(counts), size=(resamples, len(counts)))
    return weights, np.stack([(chosen == d).mean(axis=1) for d in range(len(counts))])


def mcnemar(correct_a, correct_b):
    """Two models (or attacks) on the same samples: counts, difference in points and the exact p of McNemar's test.

    Arguments:
        correct_a, correct_b: bool [N], right or not, in the same order of samples.

    Returns {"both", "only_a", "only_b", "neither", "n", "difference", "p"}; difference = accuracy of a minus b, in points. The
    test takes samples as independent, so it holds within one data set and for image attacks; the text attack moves whole
    classes, for which `macro_interval` is meant (McNemar, Psychometrika 1947).
    """
    a, b = np.asarray(correct_a, bool), np.asarray(correct_b, bool)
    if a.shape != b.shape or not len(a):
        raise ValueError(f"McNemar's test needs the same samples twice, got {len(a)} and {len(b)}")
    counts = {"both": a & b, "only_a": a & ~b, "only_b": ~a & b, "neither": ~a & ~b}
    counts = {key: int(value.sum()) for key, value in counts.items()}
    table = [[counts["both"], counts["only_a"]], [counts["only_b"], counts["neither"]]]
    difference = 100 * (counts["only_a"] - counts["only_b"]) / len(a)
    return {**counts, "n": len(a), "difference": difference, "p": float(contingency_tables.mcnemar(table, exact=True).pvalue)}


def by_relation(label, clean, correct, relations):
    """Accuracy under a text attack, split by how the word put into each sample's own class prompt is related to the old one.

    Arguments:
        label: int [N], class of each sample; clean, correct: bool [N], right without and with the attack.
        relations: of each class [C], from the column `relation` of the changes; "" or None: its prompt was not changed.

    Returns a DataFrame, one line a relation that occurs, most prompts first: `relation` ("unchanged" for none), `prompts`, `n`
    samples, accuracies `clean` and `attacked` in percent, and `damage`, their difference in points; nan where n is 0. The
    prompts of other classes move too, so that samples of an unchanged prompt can break: damage is where it fell, no cause.
    """
    names = np.array([name or "unchanged" for name in relations])
    own, lines = names[np.asarray(label)], []
    for name in dict.fromkeys(names.tolist()):
        at = own == name
        before, after = (100 * float(np.asarray(right)[at].mean()) if at.any() else np.nan for right in (clean, correct))
        lines.append(
            {"relation": name, "prompts": int((names == name).sum()), "n": int(at.sum())}
            | {"clean": before, "attacked": after, "damage": before - after}
        )
    columns = ["relation", "prompts", "n", "clean", "attacked", "damage"]
    return pd.DataFrame(lines, columns=columns).sort_values("prompts", ascending=False, kind="stable", ignore_index=True)
