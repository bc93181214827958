"""What a finished study left on disk, complete and current, or an error that says how to make it.

    study = results.load("quick")
    study.rows        # one row a model, data set and attack: see results/README.md
"""

import re
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from mmcoa.errors import UserError
from mmcoa.study.cells import expand
from mmcoa.study.profiles import load_profile
from mmcoa.study.records import is_current, read_record, record_path
from mmcoa.threat import ThreatModel


@dataclass(frozen=True)
class Study:
    """The results of one profile, as tables. A method is an entry of the profile's `models`: one model, or one a seed.

    rows: result rows, with `model_id`, `method` (`none`: the undefended base model), `cell` and `cell_seconds`.
    outcomes: one row a model, data set and sample: model_id, method, dataset, sample_id, label and for each attack
        `<attack>_correct`.
    changes: one row a model, data set and class prompt: what the text attack did.
    training: one row a fine-tuned model: model_id, method and what its record says about settings and cost.
    """

    profile: str
    rows: pd.DataFrame
    outcomes: pd.DataFrame
    changes: pd.DataFrame
    training: pd.DataFrame

    @property
    def attacks(self):
        """Names of the attacks that every evaluation has."""
        return list(self.rows.attack.unique())

    @property
    def methods(self):
        return list(self.rows.method.unique())


def load(profile, results="results"):
    """Read `results/PROFILE`.

    Arguments
        profile: a shipped profile's name or the path of a profile.
        results: folder of all results.

    Returns a `Study`. Raises `UserError` that names the first cell whose record is missing, stale (made with other
    settings, code or inputs: its hash differs) or damaged, and the command that makes it.
    """
    name = load_profile(profile).name
    folder = Path(results) / name
    records = [(cell, read_record(folder, cell.id)) for cell in expand(profile, results=results)]
    check_current(records, folder, profile)
    rows, outcomes, changes, training = [], [], [], []
    for cell, record in records:
        if cell.kind == "train":
            training.append(training_row(cell, record))
            continue
        frame = pd.DataFrame(record["rows"]).assign(cell=cell.id, model_id=cell.model)
        frame["cell_seconds"] = record["provenance"]["seconds"]
        frame["method"] = method_of(cell.model, frame.defense.iloc[0])
        who = {key: frame[key].iloc[0] for key in ("model_id", "method", "dataset")}
        rows.append(frame)
        outcomes.append(read_outcomes(folder, cell, profile).assign(**who))
        changes += [{**who, **change} for change in record["changes"]]
    rows, outcomes = (pd.concat(frames, ignore_index=True) for frames in (rows, outcomes))
    return Study(name, rows, outcomes, pd.DataFrame(changes), pd.DataFrame(training))


def method_of(model_id, defense):
    """`mmcoa-seed1` -> `mmcoa`; the base model is `none`, whatever the profile calls it."""
    return "none" if defense == "none" else re.sub(r"-seed\d+$", "", model_id)


def threat_of(row):
    """`ThreatModel` that a result row (mapping) states; text settings only where the row has them."""
    keys = ("epsilon", "norm", "steps", "step_size", "restarts", "attacked_space")
    settings = {key: row[key].item() if hasattr(row[key], "item") else row[key] for key in keys}
    if row["candidate_source"]:
        settings["candidate_source"] = row["candidate_source"]
    return ThreatModel(**settings, seed=int(row["attack_seed"]))


def check_current(records, folder, profile):
    """`UserError` about the first missing, else the first stale one of the records [(cell, record or None), ...]."""
    missing = [cell for cell, record in records if record is None]
    stale = [cell for cell, record in records if record is not None and not is_current(record, cell.hash)]
    for cells, what in ((missing, "no result"), (stale, "stale result (other settings, code or inputs made it)")):
        if cells:
            more = f" and {len(cells) - 1} more" if len(cells) > 1 else ""
            path = record_path(folder, cells[0].id)
            raise UserError(f"{what} for cell '{cells[0].id}'{more}: {path}; run: mmcoa run {profile}")


def read_outcomes(folder, cell, profile):
    """Per-sample outcomes of an evaluated cell."""
    path = folder / "outcomes" / f"{cell.id}.parquet"
    try:
        return pd.read_parquet(path)
    except (OSError, ValueError) as error:
        hint = f"delete {record_path(folder, cell.id)} and run: mmcoa run {profile}"
        raise UserError(f"no readable outcomes of cell '{cell.id}' ({path}); {hint}") from error


def training_row(cell, record):
    """What a training record says about its model and the cost."""
    provenance = record["provenance"]
    row = {"model_id": cell.model, "method": method_of(cell.model, record["parameters"]["defense"])}
    row |= record["parameters"] | record["training"]
    return row | {key: provenance[key] for key in ("device", "threads")}
