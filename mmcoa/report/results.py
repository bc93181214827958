"""What a finished study left on disk, complete and current, or an error that says how to make it.

study = results.load("quick")
study.rows        # one row a model, data set and attack: see results/README.md
study.sweep("epsilon")["4/255"].rows      # the same of an extra evaluation with that epsilon
"""

from dataclasses import dataclass, field, fields, replace
from pathlib import Path

import numpy as np
import pandas as pd
from pyarrow import parquet

from mmcoa.errors import UserError
from mmcoa.report.holes import find_holes
from mmcoa.report.names import method_of
from mmcoa.study.cells import expand
from mmcoa.study.profiles import load_profile
from mmcoa.study.records import is_current, read_record, record_path
from mmcoa.threat import ThreatModel

NAMED = 5  # cells that an error names
ZERO_IS_A_VALUE = ("targets", "min_similarity", "seed")  # settings of a threat model for which 0 is not "none"


class NothingToReport(UserError):
    """A study with holes whose undefended model has no result at all."""


@dataclass(frozen=True)
class Study:
    """The results of one profile, as tables. A method is an entry of the profile's `models`: one model, or one a seed.

    rows: result rows, with `model_id`, `method` (`none`: the undefended base model), `cell`, `cell_hash` (its first
        16 digits), `cell_seconds` and `made_with` (commits).
    outcomes: one row a model, data set and sample: model_id, method, dataset, sample_id, label and for each attack
        `<attack>_correct`.
    changes: one row a model, data set, class prompt and `attack` (`text`, `joint`): what was done to the prompt.
    checks: one row a model and self-check: model_id, method, dataset, attack, check, value, limit, passed, n, verdict.
    training: one row a fine-tuned model: model_id, method and what its record says about settings and cost.
    notes: what the evaluations left out, in words.
    holes: `Hole`s of the whole study, and in a sweep its own; none unless `load` was asked to allow them. A method shows no outcome
        on a data set on which any of its seeds has one.
    point: (sweep, value) that this is the study of.
    sweeps: {name: {value: Study}}, the extra evaluations, in the profile's order. Each is a study of its own (without
        training and sweeps), so that every function of the report takes it as it takes the main evaluation.
    """

    profile: str
    rows: pd.DataFrame
    outcomes: pd.DataFrame
    changes: pd.DataFrame
    checks: pd.DataFrame
    training: pd.DataFrame
    notes: tuple = ()
    sweeps: dict = field(default_factory=dict)
    holes: tuple = ()
    point: tuple = ("", "")

    @property
    def attacks(self):
        """Names of the attacks that every evaluation has; a data set without a train split lacks `joint`."""
        each = self.rows.groupby(["model_id", "dataset"]).attack.agg(set) if len(self.rows) else ()
        names = dict.fromkeys([*self.rows.attack, *(attack for hole in self.own_holes for attack in hole.attacks)])
        return [name for name in names if all(name in there for there in each)]

    @property
    def methods(self):
        return list(dict.fromkeys([*self.rows.method, *(hole.method for hole in self.own_holes)]))

    @property
    def own_holes(self):
        """Evaluations that are missing here, not in sweeps."""
        return [hole for hole in self.holes if hole.kind == "evaluate" and hole.point == self.point]

    def lacking(self, method):
        """Data sets on which a method has a hole here, in alphabetical order."""
        return sorted({hole.dataset for hole in self.own_holes if hole.method == method})

    @property
    def incomplete(self):
        """Methods that have a hole here."""
        return [name for name in self.methods if self.lacking(name)]

    def untrained(self):
        """Methods of which a training is missing."""
        return list(dict.fromkeys(hole.method for hole in self.holes if hole.kind == "train"))

    def sweep(self, name):
        """{value: Study} of a sweep. Raises `UserError` where the profile has none of that name."""
        if name not in self.sweeps:
            has = ", ".join(self.sweeps) or "none"
            raise UserError(
                f"profile '{self.profile}' has no sweep '{name}' (it has {has}); add it under `sweeps` of the profile"
            )
        return self.sweeps[name]


def load(profile, results="results", holes=False):
    """Read `results/PROFILE`.

    Arguments:
        profile: a shipped profile's name or the path of a profile.
        results: folder of all results.
        holes: read what there is although results are missing or stale; `Study.holes` says which.

    Returns a `Study`. Raises `UserError` that names the first cell whose record is missing, stale (made with other
    settings, code or inputs: its hash differs) or damaged, and the command that makes it; with `holes` only for damaged ones, and
    where the undefended model has no result at all.
    """
    name = load_profile(profile).name
    folder = Path(results) / name
    records = [(cell, read_record(folder, cell.id)) for cell in expand(profile, results=results)]
    if all(cell.kind != "evaluate" for cell, _ in records):
        raise UserError(f"profile '{name}' evaluates nothing, so it has no report")
    found = find_holes(records) if holes else ()
    if not found:
        check_current(records, folder, profile)
    away = {hole.cell for hole in found}
    gaps = {(hole.point, hole.method, hole.dataset) for hole in found if hole.kind == "evaluate"}
    training, points = (
        [],
        {(cell.sweep, cell.sweep_value): [] for cell, _ in records},
    )  # its evaluations; ("", "") is the main one
    for cell, record in records:
        if cell.id in away:
            continue
        if cell.kind == "train":
            training.append(training_row(cell, record))
        elif cell.kind == "evaluate":
            method = method_of(cell.model, record["rows"][0]["defense"])
            if ((cell.sweep, cell.sweep_value), method, cell.parameters["dataset"]) not in gaps:
                points[cell.sweep, cell.sweep_value].append((cell, record))
    if found and not any(record["rows"][0]["defense"] == "none" for _, record in points["", ""]):
        raise NothingToReport(f"nothing to report: the undefended model has no result in {folder}; run: mmcoa run {profile}")
    main = join(name, folder, profile, points.pop(("", "")), pd.DataFrame(training), found)
    for (sweep, value), evaluations in points.items():
        own = tuple(hole for hole in found if hole.point == (sweep, value))
        part = (
            join(name, folder, profile, evaluations, holes=own, point=(sweep, value))
            if evaluations
            else emptied(main, own, (sweep, value))
        )
        main.sweeps.setdefault(sweep, {})[value] = part
    return main


def emptied(study, holes, point):
    """The study of a point of a sweep that has no result: the tables of another one without their rows."""
    frames = {name: getattr(study, name).iloc[:0] for name in ("rows", "outcomes", "changes", "checks", "training")}
    return replace(study, **frames, notes=(), sweeps={}, holes=holes, point=point)


def join(name, folder, profile, evaluations, training=None, holes=(), point=("", "")):
    """The `Study` of some evaluations [(cell, record), ...], one a model and data set, without sweeps."""
    rows, outcomes, lists = [], [], {"changes": [], "checks": []}
    for cell, record in evaluations:
        first = record["rows"][0]
        who = {"model_id": cell.model, "method": method_of(cell.model, first["defense"]), "dataset": first["dataset"]}
        rows += [
            row
            | who
            | {
                "cell": cell.id,
                "cell_hash": cell.hash[:16],
                "cell_seconds": record["provenance"]["seconds"],
                "made_with": made_with(record),
            }
            for row in record["rows"]
        ]
        outcomes.append((who, read_outcomes(folder, cell, profile)))
        for key, items in lists.items():
            items += [who | item for item in record.get(key) or []]
    frame = pd.concat([part for _, part in outcomes], ignore_index=True)
    sizes = [len(part) for _, part in outcomes]
    for key in ("model_id", "method", "dataset"):
        frame[key] = np.repeat(np.array([who[key] for who, _ in outcomes], object), sizes)
    notes = dict.fromkeys(note for _, record in evaluations for note in record.get("notes") or [])
    changes, checks = (pd.DataFrame(items) for items in lists.values())
    training = pd.DataFrame() if training is None else training
    return Study(name, pd.DataFrame(rows), frame, changes, checks, training, tuple(notes), holes=holes, point=point)


def made_with(record):
    """The commit that a record was made with, and what was run again where it was kept with a later one."""
    text = (record["provenance"].get("git_commit") or "unknown")[:7]
    for note in record.get("adopted", []):
        again = f"{note['evaluations']} evaluations and {note['trainings']} trainings"
        text += (
            f" (kept with {(note['git_commit'] or 'unknown')[:7]}, with which {again} of {note['of']} cells came out the same)"
        )
    return text


def threat_of(row):
    """`ThreatModel` that a result row (mapping) states; what the row does not say, or not for its attack, is the default."""
    settings = {}
    for item in fields(ThreatModel):
        value = row.get("attack_seed" if item.name == "seed" else item.name)
        value = value.item() if hasattr(value, "item") else value
        if value is None or value == "" or value != value or (value == 0 and item.name not in ZERO_IS_A_VALUE):
            continue  # a row leaves 0 or nothing where its attack has no such setting
        if item.name == "text_score":  # a worst case may use two
            value = value.split(" and ")[0]
        settings[item.name] = int(value) if item.type is int else value
    return ThreatModel(**settings)


def check_current(records, folder, profile):
    """`UserError` that names the missing, else the stale ones of the records [(cell, record or None), ...]."""
    missing = [cell for cell, record in records if record is None]
    stale = [cell for cell, record in records if record is not None and not is_current(record, cell.hash)]
    for cells, what in ((missing, "no result"), (stale, "stale result (other settings, code or inputs made it)")):
        if cells:
            others = [f"'{cell.id}'" for cell in cells[1:NAMED]] + ["..."] * (len(cells) > NAMED)
            more = f" and {len(cells) - 1} more ({', '.join(others)})" if others else ""
            path = record_path(folder, cells[0].id)
            raise UserError(f"{what} for cell '{cells[0].id}'{more}: {path}; run: mmcoa run {profile}")


def read_outcomes(folder, cell, profile):
    """Per-sample outcomes of an evaluated cell."""
    path = folder / "outcomes" / f"{cell.id}.parquet"
    try:
        return parquet.read_table(path, use_threads=False).to_pandas()
    except (OSError, ValueError) as error:  # pyarrow's own errors are these
        hint = f"delete {record_path(folder, cell.id)} and run: mmcoa run {profile}"
        raise UserError(f"no readable outcomes of cell '{cell.id}' ({path}); {hint}") from error


def training_row(cell, record):
    """What a training record says about its model and the cost."""
    provenance = record["provenance"]
    row = {"model_id": cell.model, "method": method_of(cell.model, record["parameters"]["defense"])}
    row |= record["parameters"] | record["training"]
    return row | {key: provenance[key] for key in ("device", "threads")}
