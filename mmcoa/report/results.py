"""The results of a study as pages use them, from results/STUDY alone (mmcoa/store/packed.py).

study = results.load("quick")
study.rows        # one row a model, data set and attack: see results/README.md
study.sweep("epsilon")["4/255"].rows      # the same of an extra evaluation with that epsilon
"""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from mmcoa.datasets.roles import role
from mmcoa.errors import UserError
from mmcoa.store import packed

UNDEFENDED = "none"


@dataclass(frozen=True)
class Results:
    """Tables of a study's main evaluation. A method is an entry of the profile's `models`: one model, or one a seed.

    rows: result rows, with `method` (`none`: the undefended base model) and `role` (datasets/roles.py).
    outcomes: one row a model, data set and sample: model, method, dataset, sample_id, label and for each attack
        `ATTACK_correct`: bool, or float with NaN where not every evaluation has the attack.
    changes: one row a model, data set, class prompt and `attack` (`text`, `joint`): what was done to the prompt.
    checks: one row a model, data set and self-check.
    training: one row a fine-tuned model: settings, cost, accuracy on its held-out slice.
    logs: one row a logged step of a training.
    cells: one row a cell, those of sweeps too.
    sweeps: {name: {value: Results}}, the extra evaluations. Each is a study of its own (without training and sweeps), so that
        every function of the report takes it as it takes the main evaluation.
    """

    name: str
    rows: pd.DataFrame
    outcomes: pd.DataFrame
    changes: pd.DataFrame
    checks: pd.DataFrame
    training: pd.DataFrame
    logs: pd.DataFrame
    cells: pd.DataFrame
    sweeps: dict = field(default_factory=dict)

    @cached_property
    def attacks(self):
        """Names of the attacks that every evaluation has; a data set without a train split lacks `joint`."""
        each = self.rows.groupby(["model", "dataset"], sort=False).attack.agg(set)
        return [name for name in dict.fromkeys(self.rows.attack) if all(name in there for there in each)]

    @property
    def methods(self):
        return list(dict.fromkeys(self.rows.method))

    @cached_property
    def by_sample(self):
        """{method: {data set: frame}}, in alphabetical order: of each sample, by its id and label, `ATTACK_correct` in [0, 1],
        the mean over the method's training seeds."""
        return {method: means_by_sample(own) for method, own in self.outcomes.groupby("method", sort=False)}

    @property
    def notes(self):
        """What the evaluations left out, in words."""
        own = self.cells[(self.cells.kind == "evaluate") & self.cells.sweep.isin(self.rows.sweep)]
        return list(dict.fromkeys(note for notes in own.notes if notes for note in notes.split("; ")))

    def sweep(self, name):
        """{value: Results} of a sweep. Raises `UserError` where the study has none of that name."""
        if name not in self.sweeps:
            has = ", ".join(self.sweeps) or "none"
            raise UserError(f"study '{self.name}' has no sweep '{name}' (it has {has}); add it under `sweeps` of the profile")
        return self.sweeps[name]


def means_by_sample(outcomes):
    """What `Results.by_sample` has for a method, of that method's outcomes."""
    columns = [name for name in outcomes.columns if name.endswith("_correct")]
    means = outcomes.groupby(["dataset", "sample_id", "label"])[columns].mean()
    return {name: part.droplevel("dataset") for name, part in means.groupby(level="dataset")}


def load(study, results="results"):
    """The `Results` of results/STUDY.

    Arguments:
        study: name of the study.
        results: folder of all results.

    Raises `UserError` where there are none, a file is damaged, or no model is evaluated.
    """
    found = packed.read(Path(results) / study)
    rows = found.rows.assign(method=method_of(found.rows))
    rows["role"] = [role(*one) for one in zip(rows.dataset, rows.base_model, rows.trained_on, strict=True)]
    if not (rows.sweep == "").any():
        raise UserError(f"nothing to report: {Path(results) / study} holds no evaluation; run: mmcoa run {study}")
    training = found.trainings.assign(method=method_of(found.trainings))
    methods = {model: name for frame in (training, rows) for model, name in zip(frame.model, frame.method, strict=True)}
    logs = found.logs.assign(method=found.logs.model.map(methods)) if len(found.logs) else found.logs
    tables = {"outcomes": found.outcomes, "changes": found.changes, "checks": found.checks}
    tables = {name: frame.assign(method=frame.model.map(methods).astype(object)) for name, frame in tables.items()}
    texts = dict.fromkeys(("model", "dataset", "attack"), object)  # groups of categories come in an order of their own
    for name in ("changes", "checks"):  # a study without self-checks has a table without columns
        tables[name] = tables[name].reindex(columns=list(dict.fromkeys((*tables[name].columns, *texts)))).astype(texts)
    parts = {name: by_point(frame) for name, frame in tables.items()}
    sweeps, main = {}, None
    for (sweep, value), own in rows.groupby(["sweep", "sweep_value"], sort=False):
        frames = {name: each.get((sweep, value), tables[name].iloc[:0]) for name, each in parts.items()}
        frames["outcomes"] = wide(frames["outcomes"])
        more = (training, logs) if not sweep else (training.iloc[:0], logs.iloc[:0])
        part = Results(study, own.reset_index(drop=True), *frames.values(), *more, found.cells)
        if sweep:
            sweeps.setdefault(sweep, {})[value] = part
        else:
            main = part
    main.sweeps.update(sweeps)
    return main


def method_of(frame):
    """The method of each row of a table: its entry in the profile; the base model is `none`, whatever the profile calls it."""
    defense = frame.get("defense", frame.entry)  # a study that trains nothing has a table without this column
    return frame.entry.astype(object).where(defense != UNDEFENDED, UNDEFENDED)


def by_point(frame):
    """{(sweep, value): its rows}."""
    parts = frame.groupby(["sweep", "sweep_value"], sort=False, observed=True)
    return {key: part.drop(columns=["sweep", "sweep_value", "entry"]).reset_index(drop=True) for key, part in parts}


def wide(outcomes):
    """Outcomes of one evaluation, one row an attack, as one row a model, data set and sample with columns `ATTACK_correct`."""
    types = dict.fromkeys(("model", "method", "dataset"), str) | {"sample_id": np.int64, "label": np.int64}
    groups = outcomes.groupby(["model", "dataset", "sample_id"], observed=True).ngroup()
    place, _ = pd.factorize(groups)  # in the order in which samples come
    made = outcomes.loc[~groups.duplicated(), list(types)].reset_index(drop=True).astype(types)
    for name in outcomes.attack.unique():
        own, column = outcomes.attack == name, np.full(len(made), np.nan)
        column[place[own]] = outcomes.correct[own]
        made[f"{name}_correct"] = column if np.isnan(column).any() else column.astype(bool)
    return made
