import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmcoa.evaluation.statistics import by_relation, macro_interval, mcnemar, wilson


@pytest.mark.parametrize("correct,n,low,high", [(5, 10, 23.66, 76.34), (0, 20, 0.0, 16.11), (20, 20, 83.89, 100.0)])
def test_wilson_against_known_values(correct, n, low, high):
    assert wilson(correct, n) == pytest.approx((low, high), abs=0.01)


def test_macro_mean_weighs_data_sets_equally():
    mean, low, high = macro_interval([(np.ones(1000), np.arange(1000) % 10), (np.zeros(10), np.arange(10))])
    assert mean == 50 and low == 0 and high == 100


def test_samples_of_one_class_that_fall_together_widen_the_interval():
    """The design effect of a per-class attack: 10 classes of 50 equal outcomes are worth about 10 samples, not 500."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(10), 50)
    together = np.repeat(rng.random(10) < 0.5, 50)
    apart = rng.permutation(together)
    widths = [high - low for _, low, high in (macro_interval([(values, labels)]) for values in (together, apart))]
    assert widths[0] > 2.5 * widths[1]


def test_interval_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(1)
    hits = 0
    for _ in range(100):
        sets = [(rng.random(100) < rng.normal(0.6, 0.05), np.arange(100) % 20) for _ in range(12)]
        _, low, high = macro_interval(sets, resamples=300)
        hits += low <= 60 <= high
    assert hits >= 85


def test_no_data_is_an_error():
    with pytest.raises(ValueError, match="at least one"):
        macro_interval([])


def test_mcnemar_against_the_binomial_test():
    from scipy.stats import binomtest

    rng = np.random.default_rng(0)
    a, b = rng.random(200) < 0.7, rng.random(200) < 0.6
    found = mcnemar(a, b)
    assert found["both"] + found["only_a"] + found["only_b"] + found["neither"] == found["n"] == 200
    assert found["difference"] == pytest.approx(100 * (a.mean() - b.mean()))
    assert found["p"] == pytest.approx(binomtest(found["only_a"], found["only_a"] + found["only_b"]).pvalue)
    assert mcnemar(a, a)["p"] == 1
    with pytest.raises(ValueError, match="same samples"):
        mcnemar(a, b[:10])


SAMPLE = st.tuples(st.integers(0, 4), st.booleans(), st.booleans())


@given(st.lists(SAMPLE, min_size=1), st.lists(st.sampled_from(["synonym", "sister", "", None]), min_size=5, max_size=5))
def test_damage_by_relation_adds_up(samples, relations):
    label, clean, correct = map(np.array, zip(*samples, strict=True))
    table = by_relation(label, clean, correct, relations)
    assert table.relation.is_unique and set(table.relation) == {name or "unchanged" for name in relations}
    assert table.prompts.sum() == 5 and table.n.sum() == len(samples) and table.prompts.is_monotonic_decreasing
    for line in table.itertuples():
        own = [sample for sample in samples if (relations[sample[0]] or "unchanged") == line.relation]
        assert line.n == len(own) and (line.n > 0 or np.isnan([line.clean, line.attacked, line.damage]).all())
        if own:
            assert line.clean == pytest.approx(100 * sum(right for _, right, _ in own) / len(own))
            assert line.damage == pytest.approx(100 * sum(int(a) - int(b) for _, a, b in own) / len(own))
