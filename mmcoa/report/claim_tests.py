"""How a part of a claim is tested: a paired difference in points, its bootstrap interval and p-value, Holm's adjustment, a
verdict.

Every effect is written so that a positive number speaks for the claim.
"""

from dataclasses import dataclass, field, replace

import numpy as np
from statsmodels.stats.multitest import multipletests

from mmcoa.report.claim_pairs import UNDEFENDED, NotJudged
from mmcoa.report.names import attack_label
from mmcoa.report.paired import resamples_by_set

MARGIN = 1.0  # points: a smaller effect is no effect worth the claim
ALPHA = 0.05
RESAMPLES = 10_000  # with 2,000 a p-value adjusted over some thirty tests changes sides of 0.05 with the bootstrap's own seed
MIN_SEEDS = 3  # training seeds below which nothing is judged
SUPPORTED, NOT_SUPPORTED, INCONCLUSIVE = "supported", "not supported", "inconclusive"
NOT_JUDGED, NO_VERDICT = "not judged", "no verdict"
DECIDES, SECOND, SHOWN = "decides", "second", "shown"  # has a say in the claim's verdict; has a verdict beside it; is no test


@dataclass(frozen=True)
class Contrast:
    """What a part compares. sets: one (data set, difference float [seeds, N], label [N]) each; `less`: data sets whose mean is
    subtracted; levels: {what: macro accuracy in percent}; seeds: shared training seeds, None where no trained model is in
    it."""

    sets: list
    levels: dict
    seeds: tuple | None
    less: list = ()


@dataclass(frozen=True)
class Part:
    """One comparison of a claim. Effects in points, positive in the claim's direction; n: pictures; higher: data sets with an
    effect above zero; p: two-sided, p_holm: adjusted over all tests of the page; why: of a part that has no verdict."""

    name: str
    attack: str
    role: str
    verdict: str = NOT_JUDGED
    why: str = ""
    points: float = np.nan
    low: float = np.nan
    high: float = np.nan
    p: float = np.nan
    p_holm: float = np.nan
    n: int = 0
    sets: int = 0
    higher: int | None = None
    seeds: int | None = None
    levels: dict = field(default_factory=dict)
    most: bool = False

    @property
    def measured(self):
        """Whether there is an effect, with a verdict or without."""
        return self.sets > 0


@dataclass(frozen=True)
class Ask:
    """A part before it is measured. build: () -> Contrast, may raise `NotJudged`; most: `supported` also needs most data
    sets."""

    name: str
    attack: str
    role: str
    build: object
    most: bool = False


def contrast(found, task, groups, make, levels, only=None):
    """Compare groups of methods on each data set where each of them has a model that enters.

    Arguments:
        found: `claim_pairs.Found`.
        groups: tuple of tuples of methods; a group is the mean over those of its methods that the study has.
        make: one function (attack -> float [seeds, N]) a group -> difference [seeds, N].
        levels: {what: (number of the group, attack, ...)}, accuracies to print beside the effect; with several attacks that of
            pictures that survive each of them.
        only: training seeds to keep; None: all that the models share.

    Raises `NotJudged` where a group has no model, an attack is missing or no data set is left.
    """
    own = [found.own(names, task) for names in groups]
    shared = sorted(set.intersection(*map(set, own)))
    entering = {dataset: [[pair for pair in side[dataset] if found.enters(pair)] for side in own] for dataset in shared}
    entering = {dataset: members for dataset, members in entering.items() if all(members)}
    if not entering:
        raise NotJudged("no data set with clean accuracy of at least three times chance" if shared else "no shared data set")
    seeds = shared_seeds(entering, only)
    sets, means = [], {what: [] for what in levels}
    for dataset, members in entering.items():
        sides = [mean_of(pairs, seeds) for pairs in members]
        sets.append((dataset, np.atleast_2d(make(*sides)), members[0][0].label))
        for what, (side, *attacks) in levels.items():
            means[what].append(100 * np.prod([sides[side](attack) for attack in attacks], axis=0).mean())
    return Contrast(sets, {what: float(np.mean(values)) for what, values in means.items()}, seeds)


def shared_seeds(entering, only=None):
    """Training seeds that all trained models have; None where none of the models is trained."""
    pairs = [pair for groups in entering.values() for group in groups for pair in group]
    ids = {pair.dataset: pair.sample_id for pair in pairs}
    if any(not np.array_equal(pair.sample_id, ids[pair.dataset]) for pair in pairs):
        raise NotJudged("the models were evaluated on different pictures")
    trained = [set(pair.seeds) for pair in pairs if pair.method != UNDEFENDED]
    if not trained:
        return None
    seeds = set.intersection(*trained, *([set(only)] if only is not None else []))
    if not seeds:
        raise NotJudged("the models share no training seed")
    return tuple(sorted(seeds))


def mean_of(pairs, seeds):
    """attack -> correct, mean over methods, float [seeds, N] ([1, N] for the undefended model)."""

    def correct(attack):
        if attack not in pairs[0].correct:
            raise NotJudged(f"no attack {attack_label(attack)}")
        rows = [
            p.correct[attack] if p.method == UNDEFENDED else p.correct[attack][[p.seeds.index(s) for s in seeds]] for p in pairs
        ]
        return np.mean(rows, axis=0)

    return correct


def bootstrap(found, resamples=RESAMPLES, seed=0):
    """(effect, estimates [resamples]) of a `Contrast`, in points, macro mean over data sets.

    A resample draws training seeds, data sets, and classes within each data set, with replacement (`paired.resamples_by_set`; a
    data set drawn twice keeps its draw of classes). The two sides of a contrast with `less` draw their own data sets.
    """
    items = [*found.sets, *found.less]
    means, estimates = resamples_by_set([(difference, label) for _, difference, label in items], resamples, seed)
    rng, effect, drawn, start = np.random.default_rng([seed, 1]), 0.0, np.zeros(resamples), 0
    for sign, size in ((1, len(found.sets)), (-1, len(found.less))):
        if size:
            own = slice(start, start + size)
            pick = rng.integers(size, size=(size, resamples))
            drawn += sign * np.take_along_axis(estimates[own], pick, axis=0).mean(axis=0)
            effect += sign * means[own].mean()
            start += size
    return 100 * float(effect), 100 * drawn


def p_value(estimates):
    """Two-sided p of "no effect" from bootstrap estimates: twice the smaller tail at zero (Davison and Hinkley 1997, 4.4
    and 5.6)."""
    below, above = (
        int((sign * estimates <= 1e-9).sum()) for sign in (1, -1)
    )  # means of differences are exact but for rounding
    return min(1.0, 2 * (1 + min(below, above)) / (1 + len(estimates)))


def measure(ask, smoke=False, resamples=RESAMPLES, seed=0):
    """The `Part` of an `Ask`, before Holm's adjustment. smoke: the study gives no verdicts."""
    part = Part(ask.name, ask.attack, ask.role, most=ask.most)
    try:
        found = ask.build()
    except NotJudged as reason:
        return replace(part, why=str(reason))
    points, estimates = bootstrap(found, resamples, seed)
    low, high = (float(value) for value in np.quantile(estimates, [ALPHA / 2, 1 - ALPHA / 2]))
    seeds = None if found.seeds is None else len(found.seeds)
    part = replace(
        part,
        points=points,
        low=low,
        high=high,
        n=sum(len(label) for *_, label in [*found.sets, *found.less]),
        sets=len(found.sets) + len(found.less),
        higher=None if found.less else sum(float(difference.mean()) > 1e-12 for _, difference, _ in found.sets),
        seeds=seeds,
        levels=found.levels,
        verdict="",
    )
    if smoke or (seeds is not None and seeds < MIN_SEEDS):
        why = "smoke run" if smoke else f"{seeds} training seed{'s' * (seeds > 1)}, {MIN_SEEDS} are needed"
        return replace(part, verdict=NO_VERDICT, why=why)
    return part if part.role == SHOWN else replace(part, p=p_value(estimates))


def adjusted(parts):
    """The parts with p adjusted by Holm's method over all that have one (Holm, Scandinavian Journal of Statistics 1979),
    and verdicts."""
    tested = [part for part in parts if not np.isnan(part.p)]
    holm = iter(multipletests([part.p for part in tested], alpha=ALPHA, method="holm")[1] if tested else ())
    done = [replace(part, p_holm=float(next(holm))) if not np.isnan(part.p) else part for part in parts]
    return [part if part.verdict or part.role == SHOWN else replace(part, verdict=verdict_of(part)) for part in done]


def verdict_of(part):
    """`supported`: interval wholly above the margin, adjusted p below 0.05 and, where the claim says so, higher on most data
    sets. `not supported`: interval wholly below the margin. Else `inconclusive`. As printed, to one decimal."""
    most = not part.most or part.higher > part.sets / 2
    if round(part.low, 1) > MARGIN and part.p_holm < ALPHA and most:
        return SUPPORTED
    return NOT_SUPPORTED if round(part.high, 1) < MARGIN else INCONCLUSIVE


def combined(parts):
    """A claim's verdict from its deciding parts: one `not supported` is enough against it, all have to be `supported` for
    it."""
    verdicts = [part.verdict for part in parts if part.role == DECIDES]
    judged = [verdict for verdict in verdicts if verdict not in (NOT_JUDGED, NO_VERDICT)]
    if not judged:
        return NO_VERDICT if NO_VERDICT in verdicts else NOT_JUDGED
    if NOT_SUPPORTED in judged:
        return NOT_SUPPORTED
    return SUPPORTED if set(verdicts) == {SUPPORTED} else INCONCLUSIVE
