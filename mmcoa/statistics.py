"""Intervals and aggregation."""

import numpy as np
from statsmodels.stats.proportion import proportion_confint


def wilson(correct, n):
    """95 % Wilson interval of a proportion, in percent: (low, high) (Wilson, JASA 1927). Per sample: see `macro_interval`."""
    low, high = proportion_confint(correct, n, alpha=0.05, method="wilson")
    return 100 * float(low), 100 * float(high)


def macro_interval(outcomes, resamples=2000, seed=0, level=0.95):
    """Macro mean over data sets and its bootstrap interval, in percent: (mean, low, high).

    Arguments
        outcomes: list with one item a data set: (correct, label), arrays of one length; `correct` may be the difference of
            two models or attacks on the same samples, values -1, 0, 1: then the interval is a paired one.
        resamples: bootstrap resamples.

    The text attack changes a whole class at once, so samples of one class are not independent: each resample draws data
    sets, then classes within each, with replacement (Cameron, Gelbach and Miller, REStat 2008, cluster bootstrap).
    """
    if not outcomes:
        raise ValueError("macro_interval needs at least one data set")
    rng = np.random.default_rng(seed)
    means, sums, counts = [], [], []
    for correct, label in outcomes:
        correct = np.asarray(correct, float)
        classes, index = np.unique(np.asarray(label), return_inverse=True)
        sums.append(np.bincount(index, weights=correct, minlength=len(classes)))
        counts.append(np.bincount(index, minlength=len(classes)))
        means.append(correct.mean())
    # One draw of classes for each data set and resample; a data set drawn twice in a resample may reuse its draw.
    by_dataset = np.empty((resamples, len(outcomes)))
    for d, (total, count) in enumerate(zip(sums, counts, strict=True)):
        draw = rng.integers(len(total), size=(resamples, len(total)))
        by_dataset[:, d] = total[draw].sum(axis=1) / count[draw].sum(axis=1)
    chosen = rng.integers(len(outcomes), size=(resamples, len(outcomes)))
    estimates = np.take_along_axis(by_dataset, chosen, axis=1).mean(axis=1)
    low, high = np.quantile(estimates, [(1 - level) / 2, (1 + level) / 2])
    return 100 * float(np.mean(means)), 100 * float(low), 100 * float(high)
