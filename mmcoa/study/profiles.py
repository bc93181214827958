"""Profiles: what a study trains and evaluates, as validated YAML::

    profile = load_profile("quick")           # shipped in mmcoa/study/profiles/
    profile = load_profile("my/profile.yaml")

A profile may extend another, shipped or beside it, and change some keys::

    extends: openmoji
    name: mine
    evaluate: {samples: 10}

A mistake in the file is one line that names the file, the line and the key.
"""

import re
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import Field, ValidationError, model_validator

from mmcoa.datasets.records import records as dataset_records
from mmcoa.errors import UserError, unknown
from mmcoa.study.settings import (
    THREAT_FIELDS,
    EvaluateSettings,
    Misplaced,
    ModelSettings,
    PretrainSettings,
    Slug,
    Strict,
    TrainSettings,
    base_model,
    safe_name,
    said,
)
from mmcoa.study.sweeps import Sweep, points
from mmcoa.threat import ThreatModel


class Profile(Strict):
    """A whole study."""

    name: Slug
    base_model: str  # a model that there is, or with `pretrain` the name of the one that is trained from scratch
    pretrain: PretrainSettings | None = None
    device: str = "auto"
    gpus_per_training: Annotated[int, Field(ge=1)] = 1  # processes, one a GPU, that train one model together (papermill_run.py)
    resize: Literal["openclip", "reference"] = "openclip"
    train: TrainSettings = TrainSettings()
    models: Annotated[list[ModelSettings], Field(min_length=1)]
    evaluate: EvaluateSettings
    sweeps: list[Sweep] = []

    @model_validator(mode="after")
    def _base(self):
        if self.pretrain is None:
            try:
                base_model(self.base_model)
            except UserError as error:
                raise Misplaced(str(error), "base_model") from error
        elif safe_name(self.base_model) != self.base_model:
            raise Misplaced(f"'{self.base_model}' is to be trained from scratch, so it needs a plain name", "base_model")
        for dataset in [] if self.pretrain is None or self.pretrain.data == "openmoji" else self.pretrain.data:
            _check_split(dataset, "train", "pretrain", "data")
        return self

    @model_validator(mode="after")
    def _models_fit(self):
        seen = {self.base_model} if self.pretrain else set()
        for index, entry in enumerate(self.models):
            place, settings = ("models", index), train_settings(self, entry)
            for name in model_ids(self, entry):
                if name in seen:
                    raise _impossible(f"two models are called '{name}'; give one of them a `name`", *place)
                seen.add(name)
            self._chained(index, entry)
            for dataset in in_distribution(self, entry) or []:
                _check_split(dataset, settings["split"], *place)
            if entry.task == "in_distribution":
                continue
            if settings["steps"] and settings["epochs"]:
                raise _impossible("give steps or epochs, not both (null takes one back)", *place)
            if entry.defense != "none" and not settings["dataset"]:
                raise _impossible(f"'{entry.defense}' is trained, but neither `train` nor the model names a dataset", *place)
            own = entry.model_fields_set & {"dataset", "split"}
            _check_split(settings["dataset"], settings["split"], *(place if own else ("train",)))
        _check_point(points(self.evaluate.model_dump(), [])[0], "evaluate")
        return self

    def _chained(self, index, entry):
        """`from` names an entry above that makes a model for each one of this entry."""
        if (start := getattr(entry, "from")) is None:
            return
        above = {entry_name(other): other for other in self.models[:index] if other.defense != "none"}
        place = "models", index, "from"
        if start not in above:
            raise Misplaced(str(unknown("trained model above it", start, above)), *place)
        for name, seed, dataset in runs_of(self, entry):
            if start_of(self, above[start], seed, dataset) is None:
                there = f" on {dataset}" if dataset else ""
                raise _impossible(f"'{name}' starts from '{start}', which has no model of seed {seed}{there}", *place)

    @model_validator(mode="after")
    def _sweeps_fit(self):
        entries, names, suffixes = {entry_name(entry): entry for entry in self.models}, set(), {""}
        for index, sweep in enumerate(self.sweeps):
            place = "sweeps", index
            if sweep.name in names:
                raise _impossible(f"two sweeps are called '{sweep.name}'", *place, "name")
            names.add(sweep.name)
            for name in sweep.models or []:
                if name not in entries:
                    raise Misplaced(str(unknown("model", name, entries)), *place, "models")
            trained = {seed for name in sweep.models or entries for seed in entries[name].seeds}
            if absent := sorted(set(sweep.seeds or []) - trained):
                raise _impossible(f"no model of sweep '{sweep.name}' has seed {absent[0]}", *place, "seeds")
            for point in points(self.evaluate.model_dump(), [sweep])[1:]:
                if point.suffix in suffixes:
                    text = f"two evaluations of sweeps would be called '{point.suffix}'; rename one of the sweeps"
                    raise _impossible(text, *place, "name")
                suffixes.add(point.suffix)
                _check_point(point, *place)
        return self


def _impossible(text, *place):
    return Misplaced(f"impossible combination: {text}", *place)


def _check_point(point, *place):
    """What single settings cannot show: a radius that the norm forbids, a level that a source lacks, an unknown split."""
    settings = {name: point.settings[name] for name in THREAT_FIELDS if point.settings[name] is not None}
    try:
        ThreatModel(**settings)
    except UserError as error:
        about = next((name for name in ("text_threat", "words") if settings[name] in ("synonym", "seen")), "epsilon")
        raise Misplaced(str(error), *place, about if "source" in str(error) else "epsilon") from error
    for dataset in point.datasets:
        _check_split(dataset, point.settings["split"], *place, "split")


def _check_split(dataset, split, *place):
    """A folder's splits are seen when it is read; a record states its own."""
    record = dataset_records().get(dataset or "")
    if record and split not in record.splits:
        raise _impossible(f"'{dataset}' has no split '{split}'; it has: {', '.join(record.splits)}", *place)


def entry_name(entry):
    """What a profile calls one entry of `models`."""
    return entry.name or entry.defense


def in_distribution(profile, entry):
    """Data sets on each of which a model of this entry is trained and judged; None for the task out_of_distribution."""
    return None if entry.task == "out_of_distribution" else entry.datasets or profile.evaluate.datasets


def runs_of(profile, entry):
    """[(model's name, seed, data set)] of the models that one entry of `models` makes.

    `none`; NAME-seedS for each seed; in distribution NAME-on-DATASET-seedS for each data set and seed.
    """
    name, sets = entry_name(entry), in_distribution(profile, entry)
    if entry.defense == "none":
        return [(name, None, None)]
    if sets is None:
        return [(f"{name}-seed{seed}", seed, None) for seed in entry.seeds]
    return [(f"{name}-on-{safe_name(dataset)}-seed{seed}", seed, dataset) for dataset in sets for seed in entry.seeds]


def start_of(profile, entry, seed, dataset):
    """Name of the model of an entry that one of another entry starts from: of its seed and data set; None: there is none."""
    for name, *of in runs_of(profile, entry):
        if of in ([seed, dataset], [seed, None]):
            return name
    return None


def model_ids(profile, entry):
    """Names of the models that one entry of `models` makes."""
    return [name for name, _, _ in runs_of(profile, entry)]


def sweeps_of(profile, entry, seed, dataset=None):
    """The sweeps that a model takes part in: one entry's, of one seed (None: it is not trained).

    In distribution, trained on `dataset`, those that name the entry, and that data set where they name any; on it alone.
    """
    own = [sweep for sweep in profile.sweeps if seed is None or sweep.seeds is None or seed in sweep.seeds]
    if entry.task == "in_distribution":
        own = [sweep for sweep in own if entry_name(entry) in (sweep.models or []) and dataset in (sweep.datasets or [dataset])]
        return [sweep.model_copy(update={"datasets": [dataset]}) if sweep.datasets else sweep for sweep in own]
    return [sweep for sweep in own if sweep.models is None or entry_name(entry) in sweep.models]


def train_settings(profile, entry):
    """Settings of one method, as a dict: `train`, overridden by what its entry says."""
    shared = profile.train.model_dump()
    own = {key: getattr(entry, key) for key in entry.model_fields_set & shared.keys()}
    return shared | own | {"with": getattr(entry, "with")}


def shipped_profiles():
    """{name: path} of the profiles in the package."""
    folder = Path(str(files("mmcoa.study") / "profiles"))
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def load_profile(name):
    """A shipped profile by name, or a file by path. Raises `UserError`: one line with file, line, key and nearest name."""
    if isinstance(name, Profile):
        return name
    shipped, name = shipped_profiles(), str(name)
    path = shipped.get(name)
    if path is None:
        path = Path(name)
        if path.suffix not in (".yaml", ".yml"):
            raise unknown("profile", name, [*shipped, "FILE.yaml"])
        if not path.is_file():
            raise UserError(f"no profile {path}; give a file's path or one of: {', '.join(shipped)}")
    data, lines = _overlaid(path)
    try:
        profile = Profile.model_validate(data)
    except ValidationError as error:
        raise UserError(_message(error.errors(), lines, path)) from error
    if profile.name in shipped and path.resolve() != shipped[profile.name].resolve():
        whose = "belongs to a shipped profile, whose results it would overwrite"
        raise UserError(f"{path}: the name '{profile.name}' {whose}; choose another")
    return profile


def _overlaid(path, above=()):
    """(data, lines) of a file, laid over the profile that it extends: mappings key by key, anything else replaced."""
    data, lines = _read(path)
    if "extends" not in data:
        return data, lines
    name, where = data.pop("extends"), f"{path}, line {lines[('extends',)]}"
    shipped, chain = shipped_profiles(), (*above, path.resolve())
    base = shipped.get(name) or path.parent / str(name)
    if not base.is_file():
        raise UserError(f"{where}: {unknown('profile', name, [*shipped, 'FILE.yaml'])}")
    if base.resolve() in chain:
        circle = " -> ".join(step.name for step in (*chain, base))
        raise UserError(f"{where}: profiles that extend each other in a circle: {circle}")
    if "name" not in data:
        why = "a profile that extends another needs a name of its own: its results have a folder of that name"
        raise UserError(f"{where}: {why}")
    return _merged(_overlaid(base, chain)[0], data), lines


def _merged(below, above):
    """Two values as one; what stands above wins, in mappings key by key."""
    if not isinstance(below, dict) or not isinstance(above, dict):
        return above
    return below | {key: _merged(below.get(key), value) for key, value in above.items()}


def _read(path):
    """(data, {place: line}) of one file."""
    lines = {}
    try:
        text = path.read_text(encoding="utf8")
        _locate(yaml.compose(text, Loader=yaml.SafeLoader), (), lines, path)
        data = yaml.safe_load(text)
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error})") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}, line {mark.line + 1}" if mark else f"{path}"
        raise UserError(f"{where}: not valid YAML ({getattr(error, 'problem', None) or error})") from error
    if not isinstance(data, dict):
        raise UserError(f"{path}: a profile is a mapping with the keys {', '.join(Profile.model_fields)}")
    return data, lines


def _locate(node, place, lines, path):
    """Fill `lines`: {(key, index, ...): line, from 1}; a key given twice is an error (YAML keeps the last in silence)."""
    if node is None:
        return
    lines.setdefault(place, node.start_mark.line + 1)
    pairs = node.value if isinstance(node, yaml.MappingNode) else []
    for key, value in pairs:
        here, line = (*place, key.value), key.start_mark.line + 1
        if here in lines:
            raise UserError(f"{path}, line {line}: key '{key.value}' is given twice")
        lines[here] = line
        _locate(value, here, lines, path)
    for index, value in enumerate(node.value if isinstance(node, yaml.SequenceNode) else []):
        _locate(value, (*place, index), lines, path)


def _message(errors, lines, path):
    """One line about all errors, each with its line of the file."""
    sections = {"pretrain": PretrainSettings, "train": TrainSettings, "models": ModelSettings}
    sections |= {"evaluate": EvaluateSettings, "sweeps": Sweep}
    found = []
    for error in errors:
        place = (*error["loc"], *getattr(error.get("ctx", {}).get("error"), "place", ()))
        known = next(place[:k] for k in range(len(place), -1, -1) if place[:k] in lines)
        keys = [str(part) for part in place if isinstance(part, str)]
        section = sections.get(keys[0], Profile) if len(place) > 1 else Profile
        found.append(f"line {lines[known]}: {said(error, keys[-1] if keys else '', section.model_fields)}")
    return re.sub(r"\s+", " ", f"{path}, {'; '.join(dict.fromkeys(found))}")
