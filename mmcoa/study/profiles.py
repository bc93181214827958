"""Profiles: what a study trains and evaluates, as validated YAML.

    profile = load_profile("quick")           # shipped in mmcoa/study/profiles/
    profile = load_profile("my/profile.yaml")

A mistake in the file is one line that names the file, the line and the key.
"""

import re
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from mmcoa import defenses
from mmcoa.attacks import catalog
from mmcoa.datasets import records as dataset_records
from mmcoa.errors import UserError, unknown
from mmcoa.threat import NORMS, SPACES, ThreatModel, format_epsilon

CANDIDATE_SOURCES = ("table:train", "table:eval", "table:synonyms", "neighbours")


def safe_name(text):
    """A name fit for files: `openmoji/birds` -> `openmoji-birds`."""
    return re.sub(r"[^A-Za-z0-9._]+", "-", text).strip("-.")


def _whole(value):
    """YAML's `yes` and 10.5 are no counts."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"must be a whole number, got {value!r}")
    return value


def _epsilon(value):
    """The range is the threat model's business; written one way, so that 2/255 and 0.00784313725 are one cell."""
    return format_epsilon(ThreatModel(epsilon=value).epsilon)


def _known(kind, names, prefix=None, suffix=None):
    """Validator: one of `names`, or anything that starts with `prefix` or ends with `suffix`."""

    def check(value):
        valid = list(names())
        if value not in valid and not (prefix and value.startswith(prefix)) and not (suffix and value.endswith(suffix)):
            raise unknown(kind, value, valid)
        return value

    return check


def _base_model(name):
    """Embedded, a folder on disk, open_clip's ARCH/TAG or a hub name: the last two are checked when they are loaded."""
    embedded = [p.name for p in files("mmcoa.assets").iterdir() if p.is_dir() and (p / "open_clip_config.json").is_file()]
    if name not in embedded and "/" not in name and not Path(name).is_dir():
        raise unknown("model", name, embedded)
    return name


def _as_value_errors(check):
    """Our `UserError` as the ValueError that pydantic expects."""

    def wrapped(value):
        try:
            return check(value)
        except UserError as error:
            raise ValueError(str(error)) from error

    return wrapped


def _checked(check):
    return AfterValidator(_as_value_errors(check))


Count = Annotated[int, BeforeValidator(_whole), Field(ge=1)]
Seed = Annotated[int, BeforeValidator(_whole), Field(ge=0)]
Epsilon = Annotated[str, BeforeValidator(_as_value_errors(_epsilon))]
DatasetName = Annotated[str, _checked(_known("data set", dataset_records, prefix="wds:"))]
AttackName = Annotated[str, _checked(_known("attack", lambda: catalog.ATTACKS))]
DefenseName = Annotated[str, _checked(_known("defence", lambda: ["none", *defenses.names()]))]
ModelName = Annotated[str, _checked(_base_model)]
CandidateSource = Annotated[str, _checked(_known("candidate source", lambda: CANDIDATE_SOURCES, suffix=".json"))]
Slug = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]


class Strict(BaseModel):
    """Unknown keys are errors; values do not change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class TrainSettings(Strict):
    """Fine-tuning; None: the base model's own default. Shared settings stand under `train`, a model may override each."""

    dataset: DatasetName | None = None
    split: str = "train"
    samples: Count | None = None
    shots: Count | None = None
    steps: Count | None = None
    batch_size: Count | None = None
    inner_steps: Count | None = None
    epsilon: Epsilon | None = None
    lr: Annotated[float, Field(gt=0)] | None = None
    lambda_image: Annotated[float, Field(ge=0)] | None = None
    lambda_text: Annotated[float, Field(ge=0)] | None = None
    positives: Literal["class", "index"] | None = None
    candidate_source: CandidateSource = "table:train"


class ModelSettings(TrainSettings):
    """One method: a defence, its seeds, and what it does otherwise than `train` says."""

    defense: DefenseName
    name: Slug | None = None  # of the results; default: the defence's name
    seeds: Annotated[list[Seed], Field(min_length=1)] = [0]

    @model_validator(mode="after")
    def _nothing_to_train(self):
        extra = sorted(self.model_fields_set - {"defense", "name"})
        if self.defense == "none" and extra:
            raise ValueError(f"impossible combination: defence 'none' is not trained, so it takes no '{extra[0]}'")
        return self


class EvaluateSettings(Strict):
    """What each model is attacked with, and on what."""

    datasets: Annotated[list[DatasetName], Field(min_length=1)]
    split: str = "test"
    samples: Count | None = None
    attacks: Annotated[list[AttackName], Field(min_length=1)]
    epsilon: Epsilon | None = None
    steps: Count = 10
    restarts: Count = 1
    norm: Annotated[str, _checked(_known("norm", lambda: NORMS))] = "linf"
    attacked_space: Annotated[str, _checked(_known("attacked space", lambda: SPACES))] = "native"
    candidate_source: CandidateSource = "table:eval"
    seed: Seed = 0


class Profile(Strict):
    """A whole study."""

    name: Slug
    base_model: ModelName
    device: str = "auto"
    resize: Literal["openclip", "reference"] = "openclip"
    train: TrainSettings = TrainSettings()
    models: Annotated[list[ModelSettings], Field(min_length=1)]
    evaluate: EvaluateSettings

    @model_validator(mode="after")
    def _consistent(self):
        seen = set()
        for name in (name for entry in self.models for name in model_ids(entry)):
            if name in seen:
                raise ValueError(f"impossible combination: two models are called '{name}'; give one of them a `name`")
            seen.add(name)
        for entry in self.models:
            if entry.defense != "none" and not train_settings(self, entry)["dataset"]:
                raise ValueError(f"impossible combination: '{entry.defense}' is trained, but neither `train` nor the model names a dataset")
            else:
                _check_split(train_settings(self, entry)["dataset"], train_settings(self, entry)["split"])
        files = [safe_name(name) for name in self.evaluate.datasets]
        for kind, names in (("data set", files), ("attack", self.evaluate.attacks)):
            twice = [name for name in names if names.count(name) > 1]
            if twice:
                raise ValueError(f"impossible combination: {kind} '{twice[0]}' is listed twice under evaluate")
        for name in self.evaluate.datasets:
            _check_split(name, self.evaluate.split)
        return self


def _check_split(dataset, split):
    """A folder's splits are seen when it is read; a record states its own."""
    splits = dataset_records().get(dataset or "", {}).get("splits", [split])
    if split not in splits:
        raise ValueError(f"impossible combination: '{dataset}' has no split '{split}'; it has: {', '.join(splits)}")


def model_ids(entry):
    """Names of the models that one entry of `models` makes: `none`, or NAME-seedS for each seed."""
    name = entry.name or entry.defense
    return [name] if entry.defense == "none" else [f"{name}-seed{seed}" for seed in entry.seeds]


def train_settings(profile, entry):
    """Settings of one method, as a dict: `train`, overridden by what its entry says."""
    shared = profile.train.model_dump()
    return shared | {key: getattr(entry, key) for key in entry.model_fields_set & shared.keys()}


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
    profile = _parse(path)
    if profile.name in shipped and path.resolve() != shipped[profile.name].resolve():
        raise UserError(f"{path}: the name '{profile.name}' belongs to a shipped profile, whose results it would overwrite; choose another")
    return profile


def _parse(path):
    try:
        text = path.read_text(encoding="utf8")
        lines = {}
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
    try:
        return Profile.model_validate(data)
    except ValidationError as error:
        raise UserError(_message(error.errors(), lines, path)) from error


def _locate(node, place, lines, path):
    """Fill `lines`: {(key, index, ...): line, from 1}; a key given twice is an error (YAML keeps the last in silence)."""
    if node is None:
        return
    lines.setdefault(place, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            here = (*place, key.value)
            if here in lines:
                raise UserError(f"{path}, line {key.start_mark.line + 1}: key '{key.value}' is given twice")
            lines[here] = key.start_mark.line + 1
            _locate(value, here, lines, path)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            _locate(value, (*place, index), lines, path)


def _message(errors, lines, path):
    """One line about the first error."""
    error = errors[0]
    place = tuple(error["loc"])
    known = next(place[:k] for k in range(len(place), -1, -1) if place[:k] in lines)
    keys = [str(part) for part in place if isinstance(part, str)]
    key, parent = (keys[-1] if keys else ""), place[:-1]
    if error["type"] == "extra_forbidden":
        text = str(unknown("key", key, _fields(parent)))
    elif error["type"] == "missing":
        text = f"key '{key}' is missing"
    elif error["type"] == "value_error":
        said = error["msg"].removeprefix("Value error, ")
        text = said if said.startswith("impossible") else f"{key}: {said}" if key else said
    else:
        said = error["msg"][0].lower() + error["msg"][1:]
        text = f"{key}: {said}, got {error['input']!r:.60}" if key else said
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    return re.sub(r"\s+", " ", f"{path}, line {lines[known]}: {text}{more}")


def _fields(place):
    """Keys that a mapping at `place` may have."""
    section = next((part for part in place if isinstance(part, str)), None)
    return {"train": TrainSettings, "models": ModelSettings, "evaluate": EvaluateSettings}.get(section, Profile).model_fields
