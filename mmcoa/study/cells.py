"""Cells: the units of a study. A train cell makes one model; an evaluate cell is one model on one data set.

A cell's hash covers its parameters, the code that computes it and its inputs (weights, data, candidate table); a train
cell's hash is an input of its evaluate cells. Equal hash, equal result: the hash alone decides whether a record is current.
"""

from dataclasses import dataclass
from pathlib import Path

from mmcoa import defenses
from mmcoa.errors import unknown
from mmcoa.study.profiles import load_profile, model_ids, safe_name, train_settings
from mmcoa.study.sources import candidates_hash, code_hash, dataset_hash, digest, model_hash
from mmcoa.threat import format_epsilon, parse_epsilon

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Cell:
    """`kind`: train or evaluate; `model`: id within the study; `parameters`: all that shapes the result."""

    id: str
    kind: str
    model: str
    parameters: dict
    inputs: dict

    @property
    def hash(self):
        return digest([SCHEMA_VERSION, self.kind, self.model, self.parameters, self.inputs])


def _canonical(parameters):
    """Epsilon written one way: 2/255 and 0.00784313725 are one cell."""
    epsilon = parameters["epsilon"]
    return {**parameters, "epsilon": None if epsilon is None else format_epsilon(parse_epsilon(epsilon))}


def train_cell(name, model, **parameters):
    """The cell that fine-tunes base model `model` into `name`; parameters as in notebooks/finetune.ipynb."""
    parameters = _canonical(parameters)
    if parameters["defense"] not in defenses.names():
        raise unknown("defence", parameters["defense"], defenses.names())
    inputs = {
        "code": code_hash("mmcoa.finetune", f"mmcoa.defenses.{parameters['defense']}"),
        "model": model_hash(model),
        "dataset": dataset_hash(parameters["dataset"]),
        "candidates": candidates_hash(parameters["candidate_source"]),
    }
    return Cell(f"train__{name}", "train", name, parameters, inputs)


def evaluate_cell(name, weights, dataset, **parameters):
    """The cell that evaluates model `name`, whose weights have the hash `weights`, on one data set."""
    parameters = _canonical({"dataset": dataset, **parameters})
    inputs = {
        "code": code_hash("mmcoa.evaluation", "mmcoa.datasets"),
        "model": weights,
        "dataset": dataset_hash(dataset),
        "candidates": candidates_hash(parameters["candidate_source"]),
    }
    return Cell(f"{name}__{safe_name(dataset)}", "evaluate", name, parameters, inputs)


@dataclass(frozen=True)
class StudyModel:
    """One model of a study: its train cell (None for the base model), its evaluate cells, and what the notebooks are told."""

    name: str
    train: Cell | None
    evaluate: list
    train_parameters: dict | None
    evaluate_parameters: dict


def study_models(profile, runs=Path("runs"), results=Path("results")):
    """All models of a profile, in its order."""
    profile = load_profile(profile)
    folder, output = Path(runs) / profile.name / "models", str(Path(results) / profile.name)
    shared = profile.evaluate.model_dump(exclude={"datasets"}) | {"resize": profile.resize}
    models = []
    for entry in profile.models:
        seeds = [None] if entry.defense == "none" else entry.seeds
        for name, seed in zip(model_ids(entry), seeds, strict=True):
            train = train_parameters = None
            path, weights = profile.base_model, None
            if seed is not None:
                settings = {"defense": entry.defense, **train_settings(profile, entry), "seed": seed}
                train = train_cell(name, profile.base_model, **settings)
                path, weights = str(folder / name), train.hash
                train_parameters = {"model": profile.base_model, **settings, "device": profile.device}
                train_parameters |= {"name": name, "output": path, "results": output}
            weights = weights or model_hash(profile.base_model)
            cells = [evaluate_cell(name, weights, dataset, **shared) for dataset in profile.evaluate.datasets]
            evaluate_parameters = {"model": path, "dataset": profile.evaluate.datasets, **shared, "device": profile.device}
            evaluate_parameters |= {"name": name, "output": output}
            models.append(StudyModel(name, train, cells, train_parameters, evaluate_parameters))
    return models


def expand(profile, runs=Path("runs"), results=Path("results")):
    """All cells of a profile: each model's train cell, then its evaluate cells."""
    models = study_models(profile, runs, results)
    return [cell for model in models for cell in ([model.train] if model.train else []) + model.evaluate]
