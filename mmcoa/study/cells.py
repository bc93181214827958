"""Cells: the units of a study. A pretrain cell makes the base model where the study trains its own; a train cell makes one
defended model; an evaluate cell is one model on one data set, under the main settings or at one point of a sweep.

A cell's hash covers its parameters, the code that computes it and its inputs (weights, data, candidate table); the hash of the
cell that made a model is an input of those that use it. Equal hash, equal result: the hash alone decides whether a record is current.
"""

from dataclasses import dataclass
from pathlib import Path

from mmcoa import defenses
from mmcoa.errors import unknown
from mmcoa.study.profiles import load_profile, runs_of, sweeps_of, train_settings
from mmcoa.study.settings import TrainSettings, safe_name, written
from mmcoa.study.sources import candidates_code, candidates_hash, code_hash, dataset_hash, digest, model_hash
from mmcoa.study.sweeps import points
from mmcoa.study.weights import kept
from mmcoa.training.config import COMMON, KINDS

SCHEMA_VERSION = 2


@dataclass(frozen=True)
class Cell:
    """`kind`: pretrain, train or evaluate; `model`: id within the study; `parameters`: all that shapes the result.

    `sweep`, `sweep_value`: the point of a sweep that an evaluate cell is; empty for the main evaluation.
    """

    id: str
    kind: str
    model: str
    parameters: dict
    inputs: dict
    sweep: str = ""
    sweep_value: str = ""

    @property
    def hash(self):
        return digest([SCHEMA_VERSION, self.kind, self.model, self.parameters, self.inputs])


def _canonical(parameters):
    """Epsilon written one way."""
    epsilon = parameters["epsilon"]
    return {**parameters, "epsilon": None if epsilon is None else written(epsilon)}


def pretrain_cell(name, data, **parameters):
    """The cell that trains a base model from scratch; parameters as in notebooks/pretrain.ipynb."""
    names = [] if data == "openmoji" else data
    inputs = {
        "code": code_hash("mmcoa.training.pretrain"),
        "datasets": {each: dataset_hash(each) for each in names},
        "candidates": candidates_hash("table:train"),  # captions meet both halves, which lie in one file
    }
    return Cell(f"pretrain__{name}", "pretrain", name, {"data": data, **parameters}, inputs)


def train_cell(name, model, weights=None, **parameters):
    """The cell that fine-tunes base model `model` into `name`; parameters as in notebooks/finetune.ipynb.

    weights: hash of the base model's weights; None: of what lies in the folder.
    """
    parameters = _canonical(parameters)
    if parameters["defense"] not in defenses.names():
        raise unknown("defence", parameters["defense"], defenses.names())
    source, fault = parameters["candidate_source"], ["mmcoa.training.faults"] if parameters.get("fault") else []
    inputs = {
        "code": code_hash(
            "mmcoa.training.finetune", f"mmcoa.defenses.{parameters['defense']}", *candidates_code(source), *fault
        ),
        "model": weights or model_hash(model),
        "dataset": dataset_hash(parameters["dataset"]),
        "candidates": candidates_hash(source),
    }
    return Cell(f"train__{name}", "train", name, parameters, inputs)


def evaluate_cell(name, weights, dataset, point, resize="openclip"):
    """The cell that evaluates model `name`, whose weights have the hash `weights`, on one data set at one `Point`."""
    parameters = _canonical({"dataset": dataset, **point.settings, "resize": resize})
    source, check = parameters["candidate_source"], parameters["check_dataset"]
    inputs = {
        "code": code_hash("mmcoa.evaluation.loop", "mmcoa.datasets", *candidates_code(source)),
        "model": weights,
        "dataset": dataset_hash(dataset),
        "candidates": candidates_hash(source),
        "check_dataset": dataset_hash(check) if check else None,
    }
    name_of_cell = "__".join(filter(None, (name, safe_name(dataset), point.suffix)))
    return Cell(name_of_cell, "evaluate", name, parameters, inputs, point.sweep, point.value)


def evaluate_cells(name, weights, main, sweeps, resize="openclip"):
    """All evaluate cells of a model: the main evaluation, then each sweep (see `sweeps.points`)."""
    return [
        evaluate_cell(name, weights, dataset, point, resize) for point in points(main, sweeps) for dataset in point.datasets
    ]


@dataclass(frozen=True)
class StudyModel:
    """One model of a study: its cells, and what the notebooks are told.

    `train`: the cell that fine-tunes it, None for the base model; `base`: the cell that trains the base model from scratch,
    None where that is not the study's own.
    """

    name: str
    train: Cell | None
    evaluate: list
    train_parameters: dict | None
    evaluate_parameters: dict
    base: Cell | None = None

    @property
    def path(self):
        """Where its weights are: a checkpoint folder or a name."""
        return self.evaluate_parameters["model"]

    @property
    def made_by(self):
        """The cell whose hash its checkpoint carries; None for a base model from elsewhere."""
        return self.train or self.base


def base_of(profile, runs=Path("runs"), results=Path("results")):
    """(path or name of the base model, its pretrain cell or None, what the notebook is told or None)."""
    if profile.pretrain is None:
        return profile.base_model, None, None
    name, settings = profile.base_model, profile.pretrain.model_dump()
    path, folder = str(Path(runs) / profile.name / "models" / name), Path(results) / profile.name
    cell = pretrain_cell(name, **settings)
    told = {**settings, "device": profile.device, "name": name, "output": path, "results": str(folder)}
    return str(kept(folder, cell) or path), cell, told


def study_models(profile, runs=Path("runs"), results=Path("results")):
    """All models of a profile, in its order."""
    profile = load_profile(profile)
    folder, output = Path(runs) / profile.name / "models", str(Path(results) / profile.name)
    main = profile.evaluate.model_dump()
    told = {"dataset": main["datasets"]} | {key: value for key, value in main.items() if key != "datasets"}
    models, (base, pretrained, _) = [], base_of(profile, runs, results)
    base_weights = pretrained.hash if pretrained else model_hash(base)
    for entry in profile.models:
        for name, seed, own in runs_of(profile, entry):
            sweeps = sweeps_of(profile, entry, seed)
            train = train_parameters = None
            judged = {"datasets": [own] if own else main["datasets"]}
            path, weights = base, base_weights
            if seed is not None:
                settings = {"defense": entry.defense, **train_settings(profile, entry), "seed": seed}
                settings |= {"dataset": own} if own else {}
                train = train_cell(name, base, base_weights, **settings)
                path, weights = str(folder / name), train.hash
                train_parameters = {"model": base, **told_to_notebook(settings), "device": profile.device}
                train_parameters |= {"name": name, "output": path, "results": output}
            cells = evaluate_cells(name, weights, main | judged, sweeps, profile.resize)
            evaluate_parameters = {
                "model": path,
                **told,
                "dataset": judged["datasets"],
                "sweeps": [sweep.as_given() for sweep in sweeps],
                "resize": profile.resize,
            }
            evaluate_parameters |= {"device": profile.device, "name": name, "output": output}
            models.append(StudyModel(name, train, cells, train_parameters, evaluate_parameters, pretrained))
    return models


def told_to_notebook(settings):
    """Settings of a training as parameters of notebooks/finetune.ipynb.

    What it does not name is under `more` where it is no default, the defence's own settings are under `own`.
    """
    plain = {key: value for key, value in settings.items() if key in COMMON or key not in KINDS}
    own, defaults = plain.pop("with"), TrainSettings().model_dump()
    more = {key: settings[key] for key in KINDS if key not in COMMON and settings[key] != defaults[key]}
    return {**plain, "own": own, "more": more}


def expand(profile, runs=Path("runs"), results=Path("results")):
    """All cells of a profile: the base model's pretrain cell, then each model's train cell and its evaluate cells."""
    models = study_models(profile, runs, results)
    first = [models[0].base] if models[0].base else []
    return first + [cell for model in models for cell in ([model.train] if model.train else []) + model.evaluate]
