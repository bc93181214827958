"""The shared bootstrap draws the same as statistics.macro_interval."""

import numpy as np
import pytest

from mmcoa.evaluation.statistics import macro_interval
from mmcoa.report.resampling import Resampler, bounds


@pytest.mark.parametrize("sizes", [(30,), (24, 40, 17)])
def test_same_intervals_as_macro_interval(sizes):
    rng = np.random.default_rng(1)
    labels = [rng.integers(7, size=n) * 3 for n in sizes]
    ours, theirs = ([rng.integers(2, size=(n, 2)).astype(float) for n in sizes] for _ in range(2))
    resampler = Resampler(labels)
    estimates = [resampler.estimates(correct) for correct in (ours, theirs)]
    for k in range(2):
        low, high = (ends[k] for ends in bounds(estimates[0]))
        assert macro_interval([(c[:, k], label) for c, label in zip(ours, labels, strict=True)])[1:] == pytest.approx(
            (low, high)
        )
        low, high = (ends[k] for ends in bounds(estimates[0] - estimates[1]))
        differences = [(a[:, k] - b[:, k], label) for a, b, label in zip(ours, theirs, labels, strict=True)]
        assert macro_interval(differences)[1:] == pytest.approx((low, high))
