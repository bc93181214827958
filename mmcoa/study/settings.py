"""Settings of a study, validated: what is trained and what is evaluated. `profiles.py` reads them from YAML.

Most settings of an evaluation are fields of the threat model: names, defaults and ranges are taken from there.
"""

import functools
import re
from dataclasses import fields
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    TypeAdapter,
    ValidationError,
    create_model,
    field_validator,
    model_validator,
)

from mmcoa import defenses
from mmcoa.attacks import catalog
from mmcoa.datasets.records import Strict, is_path
from mmcoa.datasets.records import records as dataset_records
from mmcoa.defenses import at_test
from mmcoa.errors import UserError, unknown
from mmcoa.model import lite
from mmcoa.model.embedded import embedded_names
from mmcoa.model.paths import parted
from mmcoa.prompts import PRESETS as PROMPT_PRESETS
from mmcoa.threat import PRESETS, ThreatModel, format_epsilon, parse_epsilon
from mmcoa.training import config as training
from mmcoa.training.faults import FAULTS

TABLES = ("table:train", "table:eval", "table:synonyms")
CANDIDATE_SOURCES = (*TABLES, "neighbours", "mlm", "wordnet", "characters", "characters:nonword")
AT_TEST = ("with_at_test", "adversary", "draws")  # what else an evaluation says of its `defense_at_test`
THREAT_FIELDS = tuple(field.name for field in fields(ThreatModel) if field.name not in ("step_size", "keep"))  # those: `preset`


def safe_name(text):
    """A name fit for files: `openmoji/birds` -> `openmoji-birds`."""
    return re.sub(r"[^A-Za-z0-9._]+", "-", text).strip("-.")


def written(epsilon):
    """An epsilon written one way, so that 2/255 and 0.00784313725 are one cell: in 255ths, else as a fraction that is exact."""
    epsilon = parse_epsilon(epsilon)
    text = format_epsilon(epsilon)
    if text.endswith("/255"):
        return text
    fraction = Fraction(epsilon).limit_denominator(100_000)
    return str(fraction) if float(fraction) == epsilon else repr(epsilon)


def _whole(value):
    """YAML's `yes` and 10.5 are no counts."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"must be a whole number, got {value!r}")
    return value


def _known(kind, names, prefix=(), suffix=(), there=lambda value: False):
    """Validator: one of `names`, or anything that starts with one of `prefix`, ends with one of `suffix`, or is `there`."""

    def check(value):
        valid = list(names())
        if value not in valid and not value.startswith(prefix) and not value.endswith(suffix) and not there(value):
            raise unknown(kind, value, valid)
        return value

    return check


def base_model(name):
    """Embedded, a path (or PATH@ARCH), open_clip's ARCH/TAG or a hub name: the last two are checked when they are loaded."""
    embedded = [*embedded_names(), lite.NAME]
    if name not in embedded and "/" not in name and parted(name) is None:
        raise unknown("model", name, embedded)
    return name


def distinct(names):
    """Names of which no two make the same file."""
    made = [safe_name(name) for name in names]
    twice = [name for name, file in zip(names, made, strict=True) if made.count(file) > 1]
    if twice:
        raise ValueError(f"'{twice[0]}' is listed twice")
    return names


class Misplaced(ValueError):
    """A mistake found when more than one setting is looked at; `place`: keys and indices of where it stands."""

    def __init__(self, text, *place):
        super().__init__(text)
        self.place = place


def _checked(check, kind=AfterValidator):
    """A validator of pydantic, which expects a ValueError, from a check that raises `UserError`."""

    def wrapped(value):
        try:
            return check(value)
        except UserError as error:
            raise ValueError(str(error)) from error

    return kind(wrapped)


def _epsilon(norm):
    """Validator: the range is the threat model's business."""
    return _checked(lambda value: written(ThreatModel(epsilon=value, norm=norm).epsilon), BeforeValidator)


def one(kind, value, name=""):
    """One value, as its type writes it. ValueError for a bad one, in our words."""
    try:
        return TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        raise ValueError(said(error.errors()[0], name, ())) from error


Count = Annotated[int, BeforeValidator(_whole), Field(ge=1)]
Seed = Annotated[int, BeforeValidator(_whole), Field(ge=0)]
Epsilon = Annotated[str, _epsilon("linf")]
DatasetName = Annotated[str, _checked(_known("data set", dataset_records, prefix="wds:", there=is_path))]
AttackName = Annotated[str, _checked(_known("attack", lambda: catalog.ATTACKS))]
ShardName = Annotated[str, _checked(_known("data set", dataset_records, prefix="wds:"))]
Datasets = Annotated[list[DatasetName], Field(min_length=1), AfterValidator(distinct)]
Attacks = Annotated[list[AttackName], Field(min_length=1), AfterValidator(distinct)]
Seeds = Annotated[list[Seed], Field(min_length=1)]
AtTestName = Annotated[str, _checked(_known("test-time defence", lambda: ["none", *at_test.names()]))]
DefenseName = Annotated[str, _checked(_known("defence", lambda: ["none", *defenses.names()]))]
CandidateSource = Annotated[
    str, _checked(_known("candidate source", lambda: CANDIDATE_SOURCES, prefix=("mlm:", "wordnet:"), suffix=".json"))
]  # fmt: skip
Slug = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]


def _train_field(field):
    """(type, default) of a setting that is a field of `TrainConfig`, which also judges its value."""
    kind = {"epsilon": Epsilon | None, "candidate_source": CandidateSource}.get(field.name)
    if kind is None:
        own = training.KINDS[field.name]
        plain = list[float] if own.type is tuple else own.type
        judged = _checked(functools.partial(training.checked, field.name), BeforeValidator)
        kind = Annotated[plain | None if own.optional else plain, judged]
    return kind, list(field.default) if isinstance(field.default, tuple) else field.default


def _there(value):
    """Files of a user's own words: one for all data sets, or {data set: file}."""
    for path in [value] if isinstance(value, str) else (value or {}).values():
        if not Path(path).is_file():
            raise ValueError(f"no file {path}")
    return value


OwnFile = Annotated[str | dict[str, str] | None, AfterValidator(_there)]


class ReadSettings(Strict):
    """How pictures and prompts are read: arguments of `load_dataset` by these names."""

    prompts: Literal[PROMPT_PRESETS] = "reference"
    template: str | None = None  # a prompt template with {}, in place of the data set's own
    templates: OwnFile = None  # file of templates, an ensemble, or JSON {class: [prompt, ...]}; or {data set: file}
    classnames: OwnFile = None  # file of class names; or {data set: file}
    transform: Literal["reference", "openclip"] = "reference"  # of pictures whose size varies: mmcoa/datasets/transforms.py
    skip_unreadable: bool = False  # leave damaged pictures out, and count them


READING = tuple(ReadSettings.model_fields)
OWN_FILES = ("templates", "classnames")


def reading_of(settings, dataset):
    """The part `READING` of some settings for one data set: of {data set: file} its own file."""
    chosen = {key: settings[key] for key in READING if key in settings}
    return {key: value.get(dataset) if isinstance(value, dict) else value for key, value in chosen.items()}


class TrainSettings(
    create_model(
        "TrainFields",
        __base__=ReadSettings,
        **{f.name: _train_field(f) for f in fields(training.TrainConfig) if f.name != "seed"},
    )
):
    """Fine-tuning: the fields of `TrainConfig`; None: the base model's own default.

    Shared settings stand under `train`, a model may override each.
    """

    dataset: DatasetName | None = None
    fault: Annotated[str, _checked(_known("fault", lambda: FAULTS))] | None = None  # of the released code: training/faults.py


class PretrainSettings(Strict):
    """A base model that the study trains from scratch: see mmcoa/training/pretrain.py."""

    data: str | list[str]  # names of data sets; or `openmoji`, the glyphs
    architecture: Literal["vit", "resnet"] = "vit"
    epochs: Count | None = None
    steps: Count | None = None
    batch_size: Annotated[Count, Field(ge=2)] = 128
    lr: Annotated[float, Field(gt=0)] = 1.5e-3
    warmup: Count = 200
    weight_decay: Annotated[float, Field(ge=0)] = 0.1
    seed: Seed = 0

    @field_validator("data", mode="before")
    @classmethod
    def _known_data(cls, data):
        if data == "openmoji":
            return data
        if not isinstance(data, list) or not data:
            raise ValueError(f"data: give a list of data sets, or openmoji, got {data!r}")
        return distinct([one(ShardName, name) for name in data])

    @model_validator(mode="after")
    def _length(self):
        if (self.epochs is None) == (self.steps is None):
            raise ValueError("impossible combination: give 'epochs' or 'steps', one of the two")
        if self.data == "openmoji" and self.steps is None:
            raise ValueError("impossible combination: views of OpenMoji glyphs have no end, so they take 'steps', no 'epochs'")
        return self


def _own_of(of, record):
    """Validator of a defence's own settings: those that it has, with its defaults; as given where the defence itself is wrong.

    of: key of the defence; record: function that gives its statement.
    """

    def settled(given, info):
        if info.data.get(of, "none") == "none":
            return given
        stated = record(info.data[of])
        for key, value in given.items():
            try:
                defenses.settled(stated, {key: value})
            except UserError as error:
                raise Misplaced(str(error), key) from error
        return defenses.settled(stated, given)

    return AfterValidator(settled)


class ModelSettings(
    create_model(
        "MethodSettings",
        __base__=TrainSettings,
        defense=(DefenseName, ...),
        **{
            "with": (Annotated[dict[str, Any], _own_of("defense", defenses.record), Field(validate_default=True)], {}),
            "from": (Slug | None, None),
        },
    )
):
    """One method: a defence, its seeds, `with` settings of its own, and what it does otherwise than `train` says.

    `from`: an entry above it, from whose model of the same seed (in distribution: and data set) it starts; None: the base
    model.
    """

    name: Slug | None = None  # of the results; default: the defence's name
    seeds: Seeds = [0]
    # out_of_distribution: trained once, on `dataset`, and judged on all; in_distribution: on each, and judged on that one
    task: Literal["out_of_distribution", "in_distribution"] = "out_of_distribution"
    datasets: Datasets | None = None  # of the task in_distribution; None: all that are evaluated

    @model_validator(mode="after")
    def _nothing_to_train(self):
        extra = sorted(self.model_fields_set - {"defense", "name"})
        if self.defense == "none" and extra:
            raise ValueError(f"impossible combination: defence 'none' is not trained, so it takes no '{extra[0]}'")
        if self.task == "in_distribution" and "dataset" in self.model_fields_set:
            why = "in distribution a model is trained on each of `datasets`, so it takes no 'dataset'"
            raise ValueError(f"impossible combination: {why}")
        if self.task == "out_of_distribution" and self.datasets is not None:
            raise ValueError("impossible combination: 'datasets' of a model belongs to task in_distribution")
        return self


def _threat_field(field):
    """(type, default) of a setting that is a field of the threat model, which also judges its value."""
    if field.name == "epsilon":  # None: the headline epsilon of the model. What l_inf forbids is checked with the norm
        return Annotated[str, _epsilon("l2")] | None, None
    if field.name in ("candidate_source", "seed"):
        return {"candidate_source": CandidateSource, "seed": Seed}[field.name], field.default
    kind = Annotated[int, BeforeValidator(_whole)] if field.type is int else field.type
    kind = str | None if field.name == "target" else kind  # a name; whether a data set has it is seen with its classes
    return Annotated[kind, _checked(lambda value: getattr(ThreatModel(**{field.name: value}), field.name))], field.default


ThreatSettings = create_model(
    "ThreatSettings",
    __base__=ReadSettings,
    **{f.name: _threat_field(f) for f in fields(ThreatModel) if f.name in THREAT_FIELDS},
)


class EvaluateSettings(ThreatSettings):
    """What each model is attacked with, and on what: these and the fields of the threat model (THREAT_FIELDS)."""

    datasets: Annotated[
        list[DatasetName], AfterValidator(distinct)
    ]  # none: a study that only trains, as to choose learning rates
    attacks: Attacks
    split: str = "test"
    samples: Count | None = None
    preset: Literal[PRESETS] = "protocol"
    precision: Literal["fp32", "bf16", "auto"] = "fp32"  # auto: the faster one where it is computed
    check_dataset: DatasetName | None = None  # on whose test samples the self-checks are run; None: they are not
    check_samples: Annotated[Count, Field(le=200)] = 200
    defense_at_test: AtTestName = "none"  # stands before every model: mmcoa/defenses/at_test
    with_at_test: Annotated[dict[str, Any], _own_of("defense_at_test", at_test.record)] = {}  # settings of its own
    adversary: Literal[at_test.ADVERSARIES] = "worst"  # what is known of it: mmcoa/evaluation/at_test.py
    draws: Count | None = None  # of what is random, over which the adversary averages; None: as the defence states
    craft_on: Annotated[str, _checked(base_model)] | None = None  # what pictures and prompts are made on: evaluation/crafted.py

    @model_validator(mode="after")
    def _of_a_defence(self):
        said = [name for name in AT_TEST if name in self.model_fields_set]
        if self.defense_at_test == "none" and said:
            raise ValueError(f"impossible combination: without a 'defense_at_test' there is no '{said[0]}'")
        if self.defense_at_test != "none" and self.craft_on is not None:
            raise ValueError(
                "impossible combination: 'craft_on' makes pictures on another model, 'defense_at_test' has its own"
            )
        return self


def _defaults(settings):
    return {name: field.default for name, field in settings.model_fields.items() if not field.is_required()}


PRETRAIN_DEFAULTS = _defaults(PretrainSettings)
TRAIN_DEFAULTS = TrainSettings().model_dump() | {"seed": 0}
EVALUATE_DEFAULTS = _defaults(EvaluateSettings)


def checked_settings(kind, values):
    """All settings of a `Strict` class from a dict, as they are by hand in a notebook; a wrong one is a `UserError`."""
    try:
        return kind.model_validate(values).model_dump()
    except ValidationError as error:
        first = error.errors()[0]
        key = next((part for part in first["loc"] if isinstance(part, str)), "")
        raise UserError(said(first, key, kind.model_fields)) from error


def said(error, key, keys):
    """One of pydantic's errors in our words: what is wrong with `key`, one of `keys`."""
    if error["type"] == "extra_forbidden":
        return str(unknown("key", key, keys))
    if error["type"] == "missing":
        return f"key '{key}' is missing"
    text = error["msg"].removeprefix("Value error, ")
    if error["type"] != "value_error":
        text = f"{text[0].lower()}{text[1:]}, got {error['input']!r:.60}"
    return text if not key or text.startswith(("impossible", f"{key} ")) else f"{key}: {text}"
