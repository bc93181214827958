"""Sweeps: further evaluations of a study, in which one setting may vary. Each of their points is a cell of its own."""

from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator, Field, ValidationError, field_validator, model_validator

from mmcoa.errors import UserError, unknown
from mmcoa.study.settings import (
    AT_TEST,
    EVALUATE_DEFAULTS,
    Attacks,
    Datasets,
    EvaluateSettings,
    Seeds,
    Slug,
    distinct,
    one,
    safe_name,
    said,
)

CHOICE = {"models", "seeds"}  # which models take part: a profile's business, as a notebook is given one model


class Sweep(EvaluateSettings):
    """A further evaluation: the main one with other settings, and for each value of one field where `vary` names one."""

    name: Slug
    models: Annotated[list[str], Field(min_length=1), AfterValidator(distinct)] | None = None  # entries; None: all
    seeds: Seeds | None = None  # of those that are trained; None: all
    datasets: Datasets | None = None
    attacks: Attacks | None = None
    vary: dict[str, list] = {}

    @field_validator("vary")
    @classmethod
    def _values(cls, vary):
        if len(vary) > 1:
            raise ValueError(f"one field can vary in a sweep, got {' and '.join(vary)}; make it two sweeps")
        for name, values in vary.items():
            if name not in EVALUATE_DEFAULTS:
                raise ValueError(str(unknown("setting", name, EVALUATE_DEFAULTS)))
            kind = EvaluateSettings.model_fields[name].rebuild_annotation()
            vary = {name: [one(kind, value, name) for value in values]}
            if not values:
                raise ValueError(f"{name} has no values")
            distinct([str(value) for value in vary[name]])
        return vary

    @model_validator(mode="after")
    def _set_or_varied(self):
        both = sorted(self.vary.keys() & self.model_fields_set)
        if both:
            raise ValueError(f"impossible combination: sweep '{self.name}' sets '{both[0]}' and varies it")
        return self

    @model_validator(mode="after")
    def _of_a_defence(self):  # which may be the main evaluation's: see `points`
        return self


@dataclass(frozen=True)
class Point:
    """One evaluation of a model: the main one (`sweep` empty), or one value of a sweep."""

    sweep: str
    value: str
    datasets: list
    settings: dict  # EvaluateSettings, without the data sets

    @property
    def suffix(self):
        """What its cells' names end in."""
        return safe_name("-".join(filter(None, (self.sweep, self.value))))


def points(main, sweeps):
    """All evaluations of one model.

    Arguments:
        main: settings of the main evaluation (dict, with `datasets` and `attacks`).
        sweeps: list of `Sweep`; what one does not say is as in the main evaluation.
    """
    made = [_point("", "", main)]
    for sweep in sweeps:
        settings = main | sweep.model_dump(include=sweep.model_fields_set & EvaluateSettings.model_fields.keys())
        varied = [(name, value) for name, values in sweep.vary.items() for value in values]
        own = [_point(sweep.name, str(value), settings | {name: value}) for name, value in varied]
        own = own or [_point(sweep.name, "", settings)]
        idle = [name for name in AT_TEST if name in {*sweep.model_fields_set, *sweep.vary}]
        if idle and all(point.settings["defense_at_test"] == "none" for point in own):
            raise UserError(f"sweep '{sweep.name}': without a 'defense_at_test' there is no '{idle[0]}'")
        made += own
    return made


def _point(sweep, value, settings):
    return Point(sweep, value, settings["datasets"], {key: kept for key, kept in settings.items() if key != "datasets"})


def read_sweeps(sweeps):
    """Sweeps as a notebook is given them: list of dicts -> list of `Sweep`. Raises `UserError`."""
    read = []
    for index, sweep in enumerate(sweeps):
        if extra := sorted(CHOICE & sweep.keys()):
            raise UserError(f"sweep {index + 1}: '{extra[0]}' belongs in a profile; here is one model")
        try:
            read.append(Sweep.model_validate(sweep))
        except ValidationError as error:
            first = error.errors()[0]
            key = next((part for part in reversed(first["loc"]) if isinstance(part, str)), "")
            raise UserError(f"sweep {index + 1}: {said(first, key, Sweep.model_fields)}") from error
    return read
