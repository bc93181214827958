"""Outcomes as the claims compare them: each defence in each task, picture by picture and seed by seed.

Of the entries of a profile these count: the undefended model; out of distribution those that are called by their defence's
own name (`mmcoa`, not `mmcoa-eps4`), and MATCHED for comparison; in distribution the fully trained ones (no few-shot), one
for each data set.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from mmcoa.report.names import METHODS, dataset_label, listed, method_label, ordered

UNDEFENDED = "none"
OUT, IN = "out_of_distribution", "in_distribution"
MATCHED = "image_only-matched"  # image only with as much compute as MMCoA
TIMES_CHANCE = 3  # clean accuracy that a model needs on a data set, as a multiple of chance
CHANCE_RULES = ("both", "undefended")  # whose clean accuracy counts: of all models compared, or of the undefended one


class NotJudged(Exception):
    """A part of a claim cannot be judged on this study; says why."""


@dataclass(frozen=True)
class Pair:
    """One method on one data set. correct: {attack: float [seeds, N]}; label, sample_id: [N]; chance in percent."""

    method: str
    dataset: str
    seeds: tuple
    sample_id: np.ndarray
    label: np.ndarray
    correct: dict
    chance: float

    @cached_property
    def clean(self):
        """Clean accuracy in percent, mean over training seeds."""
        return 100 * float(self.correct["clean"].mean())

    @property
    def enters(self):
        """Whether clean accuracy is at least three times chance."""
        return self.clean >= TIMES_CHANCE * self.chance - 1e-9


@dataclass(frozen=True)
class Found:
    """Pairs of a study: {(defence, task): {data set: Pair}}; the undefended model is in both tasks.

    chance_rule: see CHANCE_RULES.
    """

    pairs: dict
    attacks: tuple
    chance_rule: str = "both"

    def defences(self, task=OUT):
        """Fine-tuned methods that have a model in this task, in the order of tables."""
        return ordered((name for name, of in self.pairs if of == task and name not in (UNDEFENDED, MATCHED)), METHODS)

    def own(self, names, task):
        """{data set: [Pair, ...]} of those of the named methods that the study has; `NotJudged` where it has none."""
        there = [name for name in names if (name, task) in self.pairs]
        if not there:
            where = " fine-tuned on a data set that it is judged on" if task == IN else ""
            raise NotJudged(f"no model {listed(map(method_label, names), 'or') or 'that is defended'}{where}")
        sets = {}
        for name in there:
            for dataset, pair in self.pairs[name, task].items():
                sets.setdefault(dataset, []).append(pair)
        return sets

    def enters(self, pair):
        return pair.enters or (self.chance_rule == "undefended" and pair.method != UNDEFENDED)

    @property
    def excluded(self):
        """Pairs below three times chance, each once: [(method, task, Pair), ...]."""
        return [
            (name, task, pair)
            for (name, task), sets in self.pairs.items()
            for pair in sets.values()
            if not pair.enters and name != MATCHED and (name != UNDEFENDED or task == OUT)
        ]

    @property
    def count(self):
        """How many pairs of method and data set there are, each once."""
        return sum(
            len(sets) for (name, task), sets in self.pairs.items() if name != MATCHED and (name != UNDEFENDED or task == OUT)
        )


def find(study, chance_rule="both"):
    """The `Found` of a study."""
    models = study.rows.drop_duplicates(["model", "dataset"])[["model", "method", "defense", "dataset", "task", "classes"]]
    models = models.merge(trainings(study), on="model", how="left")
    attacks = tuple(study.attacks)
    outcomes = dict(list(study.outcomes.groupby(["method", "dataset"], sort=False)))
    pairs = {}
    models = models.assign(
        defense=[MATCHED if name == MATCHED else own for name, own in zip(models.method, models.defense, strict=True)]
    )
    for (defense, task, dataset), part in models.groupby(["defense", "task", "dataset"], sort=False):
        method = chosen(defense, task, part)
        if method is None:
            continue
        own = part[part.method == method]
        frame = outcomes[method, dataset].merge(own[["model", "seed"]], on="model")
        pair = pair_of(defense, dataset, frame, attacks, 100 / float(own.classes.iloc[0]))
        for key in (OUT, IN) if defense == UNDEFENDED else (task,):
            pairs.setdefault((defense, key), {})[dataset] = pair
    return Found(pairs, attacks, chance_rule)


def trainings(study):
    """model, seed and shots (NaN: all pictures) of the fine-tuned models."""
    if study.training.empty:
        return pd.DataFrame({"model": pd.Series(dtype=object), "seed": [], "shots": []})
    return study.training[["model", "seed", "shots"]]


def chosen(defense, task, part):
    """The one method of a defence in a task on a data set that counts, or None."""
    names = list(dict.fromkeys(part.method))
    if defense in names and not (task == IN and part[part.method == defense].shots.notna().any()):
        return defense
    if task != IN:
        return None
    return next(iter(part[part.shots.isna()].method), None)


def pair_of(defense, dataset, frame, attacks, chance):
    """`Pair` from outcomes with a column `seed` (NaN: not trained)."""
    frame = frame.assign(seed=frame.seed.fillna(0).astype(int))
    wide = frame.pivot(index=["sample_id", "label"], columns="seed", values=[f"{attack}_correct" for attack in attacks])
    correct = {attack: wide[f"{attack}_correct"].to_numpy(float).T for attack in attacks}
    seeds = tuple(int(seed) for seed in sorted(frame.seed.unique())) if defense != UNDEFENDED else ()
    ids, labels = (wide.index.get_level_values(key).to_numpy() for key in ("sample_id", "label"))
    return Pair(defense, dataset, seeds, ids, labels, correct, chance)


def excluded_text(found):
    """Which pairs do not enter: `MMCoA and TeCoA on MNIST; ...`, data sets with the same methods together."""
    names, together = {}, {}
    for name, task, pair in found.excluded:
        names.setdefault(f"{dataset_label(pair.dataset)}{' (in distribution)' if task == IN else ''}", []).append(name)
    for where, who in names.items():
        together.setdefault(listed(map(method_label, ordered(who, METHODS))), []).append(where)
    return "; ".join(f"{who} on {listed(where)}" for who, where in together.items()) or "none"
