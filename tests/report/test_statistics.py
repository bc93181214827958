"""The one engine: against statsmodels and plain sums, and by simulation."""

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from scipy import stats

from mmcoa.report import statistics


def studies(seed=0, sets=6):
    """(values, classes) of some made-up data sets, classes with a luck of their own."""
    rng, parts = np.random.default_rng(seed), []
    for size in range(sets):
        classes = rng.integers(5 + size, size=60)
        luck = rng.uniform(0.2, 0.8, 5 + size)
        parts.append(((rng.random(60) < luck[classes]).astype(float), classes))
    return parts


def test_the_error_of_one_data_set_is_the_cluster_robust_one_of_statsmodels():
    values, classes = studies()[0]
    groups = np.unique(classes, return_inverse=True)[1]
    fit = sm.OLS(values, np.ones(len(values))).fit(cov_type="cluster", cov_kwds={"groups": groups, "use_correction": False})
    count = len(np.unique(classes))
    mean, error, freedom = statistics.clustered(values, classes)
    assert mean == pytest.approx(values.mean()) and freedom == count - 1
    assert error == pytest.approx(fit.bse[0] * np.sqrt(count / (count - 1)))


def test_a_gain_over_many_sets_is_a_t_test_of_the_sets():
    parts = [(values - 0.4, classes) for values, classes in studies()]
    found = statistics.estimate(parts, over_sets=True)
    own = stats.ttest_1samp([100 * values.mean() for values, _ in parts], 0)
    assert found.draws == statistics.DATA_SETS and found.sets == 6 and found.n == 360
    assert (found.low, found.high) == pytest.approx(tuple(own.confidence_interval())) and found.p == pytest.approx(own.pvalue)


def test_a_level_and_a_gain_over_few_sets_draw_classes():
    parts = studies(sets=4)
    assert statistics.estimate(parts, over_sets=True) == statistics.estimate(parts)
    assert statistics.estimate(parts).draws == statistics.CLASSES
    errors = [statistics.clustered(*part)[1] for part in parts]
    half = statistics.estimate(parts).half / 100
    freedom = sum(len(np.unique(classes)) - 1 for _, classes in parts)
    assert half == pytest.approx(stats.t.ppf(0.975, freedom) * np.sqrt(np.square(errors).sum()) / 4)


def test_what_never_differs_is_as_wide_as_n_pictures_leave_it():
    parts = [(np.zeros(10), np.arange(10) % 3)] * 5
    found = statistics.estimate(parts, over_sets=True)
    assert (found.value, found.p, found.draws) == (0, 1, statistics.PICTURES)
    assert found.high == -found.low == pytest.approx(100 * 1.96**2 / (50 + 1.96**2), abs=1e-3)
    series = pd.Series(1.0, pd.MultiIndex.from_product([range(50), [0]], names=["sample_id", "label"]))
    sure = statistics.level({"a": series})
    assert sure.high == 100 and sure.low == pytest.approx(statistics.wilson(50, 50)[0])
    with pytest.raises(ValueError, match="at least one data set"):
        statistics.estimate([])
    assert statistics.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06]) and len(statistics.holm([])) == 0


def test_levels_and_gains_are_plain_means_of_outcomes(rich):
    levels, sets = statistics.levels(rich), ("openmoji/birds", "openmoji/tools")
    gains = statistics.gains(rich, sets)
    frame = rich.outcomes[rich.outcomes.dataset.isin(sets)]
    for row in gains[gains.method.isin(["tecoa", "mmcoa"])].itertuples():
        by = frame.groupby(["method", "dataset"])[f"{row.attack}_correct"].mean().unstack()
        assert row.value == pytest.approx(100 * (by.loc[row.method] - by.loc["none"]).mean())
    own = levels[(levels.method == "none") & (levels.attack == "image")].iloc[0]
    part = rich.outcomes[rich.outcomes.method == "none"]
    assert own.value == pytest.approx(100 * part.groupby("dataset").image_correct.mean().mean()) and own.n == len(part)
    assert "none" not in set(gains.method)


@pytest.mark.parametrize("sets, low, high", [(8, 93, 97), (1, 92, 97)])
def test_intervals_hold_the_truth_as_often_as_they_say(sets, low, high):
    assert low <= statistics.coverage(sets, repeats=800) <= high
