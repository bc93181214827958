"""The one engine behind every mean, difference and interval of the report.

    levels(study, sets)           accuracy of each method under each attack, macro mean over data sets
    gains(study, sets, "none")    what each method has over another one, on the same pictures

A level speaks of the very data sets in its mean. What comes by chance is which classes a set has and which pictures: pictures
of one class share a prompt, and so are no independent draws. Its interval is the cluster-robust one, classes as clusters
(Liang and Zeger, Biometrika 1986). A gain over `SETS_FOR_T` or more data sets speaks of data sets like these: its interval is
Student's t over the differences of the data sets. With fewer it is the cluster-robust one. All are 95 % intervals.
Where no two pictures differ, both would have no width: then it is what Wilson's interval leaves of 0 of n pictures.
Training seeds are averaged first: the chance of training is not in the interval.
"""

from dataclasses import dataclass, replace
from operator import sub

import numpy as np
import pandas as pd
from scipy import stats
from statsmodels.stats.multitest import multipletests

from mmcoa.evaluation.statistics import wilson
from mmcoa.report.names import METHODS, ordered, ordered_attacks

SETS_FOR_T = 5  # data sets from which on they are what is drawn
LEVEL = 0.95
DATA_SETS, CLASSES, PICTURES = "data sets", "classes", "pictures"


@dataclass(frozen=True)
class Estimate:
    """A mean in percent or a difference in points, with its interval.

    low, high: 95 %; p: two-sided, against zero; n: pictures; sets: data sets; draws: what the interval draws, `data sets`,
    `classes` or `pictures`.
    """

    value: float
    low: float
    high: float
    p: float
    n: int
    sets: int
    draws: str

    @property
    def half(self):
        """Half the interval's width."""
        return (self.high - self.low) / 2


def estimate(parts, over_sets=False):
    """The `Estimate` of a macro mean.

    Arguments:
        parts: one (values [N], classes [N]) a data set; values are right or wrong as 1 and 0, or differences of such.
        over_sets: whether data sets are drawn, where there are enough (see the head of this file).
    """
    if not parts:
        raise ValueError("a mean needs at least one data set")
    means, errors, freedom = np.array([clustered(*part) for part in parts]).T
    count = len(parts)
    if over_sets and count >= SETS_FOR_T:
        error, degrees, draws = means.std(ddof=1) / np.sqrt(count), count - 1, DATA_SETS
    else:
        error, degrees, draws = np.sqrt((errors**2).sum()) / count, freedom.sum(), CLASSES
    value, error = 100 * means.mean(), 100 * error
    half = stats.t.ppf((1 + LEVEL) / 2, degrees) * error
    n = sum(len(values) for values, _ in parts)
    if all((np.asarray(values) == parts[0][0][0]).all() for values, _ in parts):
        half, draws = wilson(0, n)[1], PICTURES
    p = float(2 * stats.t.sf(abs(value) / error, degrees)) if error > 0 else float(value == 0)
    return Estimate(float(value), float(value - half), float(value + half), p, n, count, draws)


def clustered(values, classes):
    """(mean, its cluster-robust standard error, degrees of freedom) of one data set's values, in [-1, 1]."""
    values = np.asarray(values, float)
    _, index = np.unique(np.asarray(classes), return_inverse=True)
    count = index.max() + 1
    sums = np.bincount(index, weights=values - values.mean(), minlength=count)
    error = np.sqrt(count / max(count - 1, 1) * (sums**2).sum()) / len(values)
    return values.mean(), error, max(count - 1, 1)


def right(study, method, attack, sets=None):
    """{data set: Series} of a method's pictures: share of its seeds that are right, indexed by sample id and label.

    sets: data sets to keep, None: all. Data sets that were not attacked so are left out.
    """
    column, found = f"{attack}_correct", {}
    for name, part in study.by_sample.get(method, {}).items():
        if (sets is None or name in sets) and column in part and part[column].notna().all():
            found[name] = part[column]
    return found


def parts_of(series):
    """What `estimate` takes, of a {data set: Series} as `right` gives it."""
    return [(each.to_numpy(float), each.index.get_level_values("label").to_numpy()) for each in series.values()]


def together(make, *sides):
    """{data set: make(Series, ...)} where all sides, each as `right` gives it, have the data set; on shared pictures."""
    shared = [name for name in sides[0] if all(name in side for side in sides)]
    made = {name: make(*(side[name] for side in sides)).dropna() for name in shared}
    return {name: each for name, each in made.items() if len(each)}


def on_pictures_of(like, values):
    """`values` on the very pictures of `like`, both as `right` gives them."""
    return together(lambda there, own: own.reindex(there.index), like, values)


def known(values, over_sets=True):
    """`Estimate` of a {data set: Series}, None of an empty one; an `Estimate` as it is."""
    return estimate(parts_of(values), over_sets) if isinstance(values, dict) and values else values or None


def level(values):
    """`known` of accuracies, not of differences: an interval that is of no class's making stays within 0 to 100 %."""
    found = known(values, over_sets=False)
    return replace(found, low=max(found.low, 0.0), high=min(found.high, 100.0)) if found and found.draws == PICTURES else found


def among_right(study, method, attack, sets=None):
    """As `right`, for those pictures alone that are right without attack under every seed."""
    clean, attacked = right(study, method, "clean", sets), right(study, method, attack, sets)
    return together(lambda own, before: own[before == 1], attacked, clean)


def frame(rows):
    """Rows of (method, attack, Estimate) as a data frame of numbers."""
    made = [{"method": method, "attack": attack} | vars(found) for method, attack, found in rows]
    return pd.DataFrame(made, columns=["method", "attack", *Estimate.__dataclass_fields__])


def levels(study, sets=None, attacks=None, values=right):
    """Accuracy in percent: one row a method and attack, columns of `Estimate`.

    values: `right`, or `among_right` for accuracy among the pictures that are right without attack; of the latter no row says
        that all of them are right without attack.
    """
    rows = []
    for method in ordered(study.methods, METHODS):
        for attack in attacks or ordered_attacks(study.attacks):
            if values is among_right and attack == "clean":
                continue
            if found := level(values(study, method, attack, sets)):
                rows.append((method, attack, found))
    return frame(rows)


def gains(study, sets=None, against="none", attacks=None, methods=None):
    """Points of accuracy that each method has over another on the same pictures: one row a method and attack."""
    rows = []
    for method in ordered(methods or study.methods, METHODS):
        for attack in attacks or ordered_attacks(study.attacks):
            found = known(together(sub, right(study, method, attack, sets), right(study, against, attack, sets)))
            if method != against and found:
                rows.append((method, attack, found))
    return frame(rows)


def holm(p_values):
    """p-values adjusted for looking at all of them (Holm, Scandinavian Journal of Statistics 1979)."""
    return multipletests(list(p_values), method="holm")[1] if len(p_values) else np.array([])


def coverage(sets, repeats=2000):
    """Share of simulated studies of some data sets whose interval of a gain holds the true value, in percent.

    The true value is that of all data sets where these are drawn, else that of the data sets of the study. The true gain
    differs by `spread` (standard deviation) between data sets, and between the classes of one.
    """
    rng, truth, hits, classes, pictures, spread = np.random.default_rng(0), 0.1, 0, 20, 10, 0.08
    label = np.repeat(np.arange(classes), pictures)
    for _ in range(repeats):
        own = truth + spread * rng.standard_normal((sets, 1))
        gain = own + spread * rng.standard_normal((sets, classes))
        before = rng.random((sets, classes, pictures)) < 0.3
        after = rng.random((sets, classes, pictures)) < np.clip(0.3 + gain, 0, 1)[:, :, None]
        parts = [(a.ravel().astype(float) - b.ravel(), label) for a, b in zip(after, before, strict=True)]
        found = estimate(parts, over_sets=True)
        hits += found.low <= 100 * (truth if found.draws == DATA_SETS else own.mean()) <= found.high
    return 100 * hits / repeats
