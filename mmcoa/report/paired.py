"""Two models on the same pictures: points of accuracy by which they differ, with an interval that does not mistake luck for
an effect.

Two things would come out otherwise in a repeated study: which classes a data set has (the text attack changes a class at
once, so pictures of one class are not independent) and the training seed. Both are drawn again; the data sets stay.
"""

import numpy as np

from mmcoa.errors import UserError

KEYS = ["dataset", "sample_id", "label"]


def effect(ours, theirs, attack):
    """What sets our model apart from theirs under one attack, macro mean over data sets.

    Arguments:
        ours, theirs: outcomes, data frames with `dataset`, `sample_id`, `label`, `train_seed` and `ATTACK_correct`.

    Returns {accuracy (ours, percent), points (ours minus theirs), low, high, n (pictures), seeds (tuple)}, from the
    pictures and seeds that both have. Raises `UserError` where there are none.
    """
    seeds, sets = pairs(ours, theirs, attack)
    points, low, high = interval([(a - b, label) for a, b, label in sets])
    accuracy = 100 * float(np.mean([a.mean() for a, _, _ in sets]))
    n = sum(len(label) for *_, label in sets)
    return {"accuracy": accuracy, "points": points, "low": low, "high": high, "n": n, "seeds": seeds}


def pairs(ours, theirs, attack):
    """(seeds that both have, one (correct of ours, correct of theirs, label) a data set): float [seeds, N] twice, and [N]."""
    a, b = (part.pivot(index=KEYS, columns="train_seed", values=f"{attack}_correct").astype(float) for part in (ours, theirs))
    seeds = sorted(set(a) & set(b))
    if not seeds:
        raise UserError(f"nothing to pair: one model has the training seeds {sorted(set(a))}, the other {sorted(set(b))}")
    a, b = a[seeds].dropna().align(b[seeds].dropna(), join="inner", axis=0)
    if a.empty:
        raise UserError("nothing to pair: the two models were evaluated on different pictures")
    sets = []
    for dataset, part in a.groupby(level="dataset"):
        other = b.xs(dataset, level="dataset", drop_level=False)
        sets.append((part.to_numpy().T, other.to_numpy().T, part.index.get_level_values("label").to_numpy()))
    return tuple(int(seed) for seed in seeds), sets


def level(outcomes, attack):
    """Accuracy of one model itself under one attack, macro mean over data sets, with `interval`'s draws: (percent, low,
    high)."""
    wide = outcomes.pivot(index=KEYS, columns="train_seed", values=f"{attack}_correct").astype(float).dropna()
    return interval(
        [(part.to_numpy().T, part.index.get_level_values("label").to_numpy()) for _, part in wide.groupby(level="dataset")]
    )


def interval(sets, resamples=2000, seed=0, level=0.95):
    """Macro mean over data sets of a paired difference and its bootstrap interval, in points: (mean, low, high).

    Arguments:
        sets: list with one item a data set: (difference, label), float [seeds, N] in [-1, 1] and [N]; the same seeds in each.

    A resample draws training seeds, and in each data set classes, with replacement. All seeds are judged on the same pictures,
    so they share the draw of classes (Owen, Annals of Applied Statistics 2007, the pigeonhole bootstrap). With one seed the
    chance of training is not in the interval. It speaks of these data sets, as none is drawn.
    """
    means, estimates = resamples_by_set(sets, resamples, seed)
    low, high = np.quantile(100 * estimates.mean(axis=0), [(1 - level) / 2, (1 + level) / 2])
    return 100 * float(np.mean(means)), float(low), float(high)


def resamples_by_set(sets, resamples=2000, seed=0):
    """What `interval` draws, before the mean over data sets: (mean differences [D], estimates [D, resamples]), in [-1, 1]."""
    if not sets:
        raise ValueError("a paired interval needs at least one data set")
    rng, seeds = np.random.default_rng(seed), len(sets[0][0])
    chosen = rng.integers(seeds, size=(resamples, seeds))
    means, estimates = np.empty(len(sets)), np.empty((len(sets), resamples))
    for d, (difference, label) in enumerate(sets):
        difference = np.asarray(difference, float)
        classes, index = np.unique(np.asarray(label), return_inverse=True)
        count = np.bincount(index)
        total = np.stack([np.bincount(index, weights=row, minlength=len(classes)) for row in difference])
        draw = rng.integers(len(classes), size=(resamples, len(classes)))
        rows = draw + len(classes) * np.arange(resamples)[:, None]
        times = np.bincount(rows.ravel(), minlength=rows.size).reshape(draw.shape)  # how often each class is drawn
        by_seed = (times @ total.T) / (times @ count)[:, None]  # [resamples, seeds]
        estimates[d] = np.take_along_axis(by_seed, chosen, axis=1).mean(axis=1)
        means[d] = difference.mean()
    return means, estimates
