"""Cells of a study without a current result, for reports that are made all the same.

A table then says MISSING wherever a number needs one of them. Nothing is computed over fewer data sets or seeds than beside it: a
method has a result on a data set if all its seeds do, and a mean over data sets if all of them do.
"""

from dataclasses import dataclass, replace

import numpy as np

from mmcoa.report.names import method_of
from mmcoa.study.records import is_current

MISSING = "missing"
NO_SET = (np.array([np.nan]), np.array([0]))  # stands for the (outcomes, labels) of a data set with a hole


@dataclass(frozen=True)
class Hole:
    """A cell that has no current result; an evaluation is one too where the training of its model has none.

    point: (sweep, value), both empty for the main evaluation and for trainings; trained_on: data set, empty for the base model;
    attacks: of an evaluation; seeds and outcomes of the same method on the same data set are then not shown either.
    shots: pictures of each class that the model is fine-tuned on; None: all.
    """

    cell: str
    kind: str
    why: str
    model_id: str
    method: str
    defense: str
    trained_on: str
    dataset: str = ""
    point: tuple = ("", "")
    attacks: tuple = ()
    shots: int | None = None


def find_holes(records):
    """The `Hole`s among the cells of a study, [(cell, record or None), ...]."""
    trainings = {cell.model: cell for cell, _ in records if cell.kind == "train"}
    why = {cell.id: "missing" if record is None else "stale" for cell, record in records if not is_current(record, cell.hash)}
    found = []
    for cell, _ in records:
        trained = trainings.get(cell.model)
        defense, trained_on = (trained.parameters["defense"], trained.parameters["dataset"]) if trained else ("none", "")
        reason = why.get(cell.id) or ("its model's training is missing" if trained and trained.id in why else None)
        if reason is None:
            continue
        shots = trained.parameters.get("shots") if trained else None
        hole = Hole(cell.id, cell.kind, reason, cell.model, method_of(cell.model, defense), defense, trained_on, shots=shots)
        if cell.kind == "evaluate":
            point = (cell.sweep, cell.sweep_value)
            hole = replace(hole, dataset=cell.parameters["dataset"], point=point, attacks=tuple(cell.parameters["attacks"]))
        found.append(hole)
    return tuple(found)


def task_of(hole):
    """The task of an evaluation that is missing, as rows name it."""
    if not hole.trained_on:
        return "zero_shot"
    return "in_distribution" if hole.trained_on == hole.dataset else "out_of_distribution"


def difference(ours, theirs):
    """Paired differences of two lists of (outcomes, labels), one a data set; `NO_SET` where either is missing."""
    pairs = zip(ours, theirs, strict=True)
    return [NO_SET if is_missing(a) or is_missing(b) else (a[0] - b[0], a[1]) for a, b in pairs]


def is_missing(pair):
    """Whether (outcomes, labels) stand for a data set with a hole."""
    return bool(np.isnan(pair[0]).any())


def pictures(sets):
    """Number of pictures of all data sets that there are."""
    return sum(len(pair[1]) for pair in sets if not is_missing(pair))


def shown(value, form):
    """A number in a format such as `.1f`, or MISSING."""
    return MISSING if np.isnan(value) else format(value, form)
