"""The bootstrap of `statistics.macro_interval` for many models and attacks at once, with the same draws.

A mean is linear: where two models were right or wrong on the same pictures, the resampled mean of their difference is the
difference of their resampled means. So each model is resampled once, and every pair of models costs one subtraction.
"""

import numpy as np

from mmcoa.evaluation.statistics import draws

RESAMPLES = 2000


class Resampler:
    """The draws for a list of data sets: classes within each, then data sets, with replacement.

    Arguments:
        labels: one int array [N_d] a data set, the class of each picture.
    """

    def __init__(self, labels, resamples=RESAMPLES, seed=0):
        parts = [np.unique(np.asarray(label), return_inverse=True, return_counts=True) for label in labels]
        self.index = [index for _, index, _ in parts]
        self.weights, self.share = draws(tuple(tuple(count.tolist()) for *_, count in parts), resamples, seed)

    def estimates(self, correct):
        """Resampled macro means in percent, [resamples, K]; correct: one float array [N_d, K] in [0, 1] a data set."""
        total = 0.0
        for values, index, weights, share in zip(correct, self.index, self.weights, self.share, strict=True):
            sums = np.zeros((weights.shape[1], values.shape[1]))
            np.add.at(sums, index, values)
            total = total + share[:, None] * (weights @ sums)
        return 100 * total


def bounds(estimates, level=0.95):
    """Low and high end of the interval of each column: two arrays [K]."""
    return np.quantile(estimates, [(1 - level) / 2, (1 + level) / 2], axis=0)
