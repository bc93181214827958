import numpy as np
import pandas as pd
import pytest

from mmcoa.errors import UserError
from mmcoa.report import paired


def simulated(rng, truth=0.0, seeds=1, sets=3, classes=20, size=4):
    """Differences in [-1, 1] with a share of each class's own, whose mean over all classes that might be drawn is `truth`."""
    made = []
    for _ in range(sets):
        label = np.repeat(np.arange(classes), size)
        own = truth + rng.uniform(-0.3, 0.3, classes)[label]
        made.append((np.clip(own + rng.uniform(-0.3, 0.3, (seeds, len(label))), -1, 1), label))
    return made


def by_loops(sets, resamples, seed):
    """The same resamples, one class and one seed at a time."""
    rng = np.random.default_rng(seed)
    seeds = len(sets[0][0])
    chosen = rng.integers(seeds, size=(resamples, seeds))
    draws = [rng.integers(len(set(label)), size=(resamples, len(set(label)))) for _, label in sets]
    estimates = []
    for r in range(resamples):
        means = []
        for (difference, label), draw in zip(sets, draws, strict=True):
            names = sorted(set(label))
            values = [difference[s][i] for s in chosen[r] for c in draw[r] for i in range(len(label)) if label[i] == names[c]]
            means.append(sum(values) / len(values))
        estimates.append(100 * sum(means) / len(means))
    return np.quantile(estimates, [0.025, 0.975])


def test_equals_a_plain_loop():
    rng = np.random.default_rng(1)
    sets = [(rng.integers(-1, 2, (3, n)), rng.integers(3, 3 + c, n)) for n, c in ((13, 4), (9, 2))]
    mean, low, high = paired.interval(sets, resamples=50, seed=7)
    assert mean == pytest.approx(100 * np.mean([difference.mean() for difference, _ in sets]))
    assert (low, high) == pytest.approx(tuple(by_loops(sets, 50, 7)))


@pytest.mark.parametrize("seeds", [1, 3])
def test_covers_the_truth_as_often_as_it_says(seeds):
    rng, truth, covered = np.random.default_rng(0), 0.1, 0
    for _ in range(200):
        _, low, high = paired.interval(simulated(rng, truth, seeds), resamples=200)
        covered += low <= 100 * truth <= high
    assert 0.9 <= covered / 200 <= 0.99


def test_no_difference_is_exactly_none():
    assert paired.interval([(np.zeros((2, 10)), np.arange(10) % 3)]) == (0, 0, 0)


def test_seeds_that_disagree_widen_the_interval():
    label = np.arange(40) % 8
    agree = [(np.full((3, 40), 0.1), label)]
    disagree = [(np.array([[0.0], [0.1], [0.2]]) * np.ones(40), label)]
    assert paired.interval(agree) == pytest.approx((10, 10, 10))
    mean, low, high = paired.interval(disagree)
    assert mean == pytest.approx(10) and low < 5 and high > 15


def test_no_data_set():
    with pytest.raises(ValueError, match="at least one data set"):
        paired.interval([])


def outcomes(correct, seed, dataset="birds"):
    """Outcomes of one model: picture i is of class i // 2."""
    n = len(correct)
    label = np.arange(n) // 2
    return pd.DataFrame(dict(dataset=dataset, sample_id=np.arange(n), label=label, train_seed=seed, image_correct=correct))


def test_effect_pairs_seed_by_seed():
    reference = pd.concat([outcomes([True] * 4, 0), outcomes([False] * 4, 1)])
    variant = outcomes([False, False, True, False], 1)  # better than the reference of its own seed, worse than the other
    found = paired.effect(variant, reference, "image")
    assert (found["accuracy"], found["points"], found["n"], found["seeds"]) == (25, 25, 4, (1,))
    assert found["low"] == 0 and found["high"] == 50


def test_effect_takes_the_pictures_that_both_have():
    shorter = pd.concat([outcomes([True] * 2, 0), outcomes([True] * 2, 0, "tools")])
    longer = pd.concat([outcomes([False] * 4, 0), outcomes([True] * 4, 0, "tools"), outcomes([True] * 4, 0, "plants")])
    found = paired.effect(shorter, longer, "image")
    assert found["n"] == 4 and found["points"] == 50


def test_nothing_to_pair():
    with pytest.raises(UserError, match=r"training seeds \[0\], the other \[1\]"):
        paired.effect(outcomes([True], 0), outcomes([True], 1), "image")
    with pytest.raises(UserError, match="different pictures"):
        paired.effect(outcomes([True], 0), outcomes([True], 0, "tools"), "image")
