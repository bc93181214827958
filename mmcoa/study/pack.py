"""The tables of a study: `pack` makes them of its records, `rows` chooses result rows for `mmcoa results`.

Records under runs/STUDY become the tables of results/STUDY that git keeps (mmcoa/store/packed.py).

A cell comes from its record where that is current, else from the tables as they are: so a fresh clone that computes one
defence again changes that defence alone. Cells that the profile no longer has go.
"""

import random
import tempfile
from pathlib import Path

import pandas as pd

from mmcoa.errors import UserError, unknown
from mmcoa.store import packed
from mmcoa.store.files import digest
from mmcoa.store.finished import read_outcomes, read_record, record_path, seconds_of
from mmcoa.store.packed import CHANGES, OUTCOMES, POINT, as_json
from mmcoa.study.plan import make_plan
from mmcoa.study.profiles import entry_name, load_profile

CELL = ("cell", "kind", "model", "entry", "defense", "seed", "task", *POINT[2:], "identity", "versions")
MADE = (
    "commit",
    "dirty",
    "device",
    "hardware",
    "threads",
    "python",
    "torch",
    "open_clip",
    "mmcoa",
    "started",
    "seconds",
    "notes",
)
ROW = ("model", "entry", "defense", "base_model", "trained_on", "task", "dataset", "split", "classes", *POINT[3:], "attack")
SHOWN = ("model", "dataset", "attack", "sweep", "sweep_value", "accuracy", "ci_low", "ci_high", "correct", "n")
TRAINING = ("seconds", "images", "train_samples", "pictures", "processes", "device", "threads")


def pack(profile, results=Path("results"), runs=Path("runs")):
    """Write the tables of a profile. Returns (paths that changed, number of cells without a current result)."""
    return pack_plan(make_plan(profile, results, runs))


def pack_plan(plan):
    """`pack` for a plan that is there already."""
    before = packed.read(plan.results) if (plan.results / "cells.csv").is_file() else None
    before = {"cells": {}} if before is None else _grouped(before)
    tables = {name: [] for name in ("cells", "rows", "trainings", "checks", "logs", "outcomes", "changes")}
    for cell in plan.cells:
        record = current(plan, cell)
        if record is not None:
            add_record(tables, plan, cell, record)
        elif cell.id in before["cells"]:
            add_packed(tables, before, cell)
    missing = sum(not plan.is_done(cell) for cell in plan.cells)
    frames = {name: _joined(parts) for name, parts in tables.items()}
    if not len(frames["cells"]):
        return [], missing
    frames["cells"] = frames["cells"].reindex(columns=[*CELL, *MADE])
    frames["rows"] = frames["rows"].reindex(columns=list(dict.fromkeys((*ROW, *frames["rows"].columns))))
    for name, columns in (("outcomes", OUTCOMES), ("changes", CHANGES)):
        frames[name] = frames[name].reindex(columns=list(columns))
    return packed.write(plan.results, packed.Packed(**frames)), missing


def current(plan, cell):
    """The record of a cell where it is current, else None; a damaged one counts as none."""
    seen = plan.stored.look(cell)
    if seen is None or seen.packed or seen.identity != cell.identity:
        return None
    return read_record(plan.runs, cell.id)


def add_record(tables, plan, cell, record):
    """Lines of one cell from its record."""
    entry = {entry_name(entry): entry for entry in plan.profile.models}.get(cell.entry)
    seeds = {one.model: one.parameters["seed"] for one in plan.cells if one.kind == "train"}
    dataset = cell.parameters.get("dataset", "")
    point = {"model": cell.model, "entry": cell.entry, "dataset": dataset, "sweep": cell.sweep, "sweep_value": cell.sweep_value}
    about = {"defense": entry.defense if entry else None, "seed": seeds.get(cell.model), "task": _task_of(entry)}
    made = record["provenance"]
    line = {"cell": cell.id, "kind": cell.kind, **point, **about, "identity": cell.identity, "versions": as_json(cell.versions)}
    line |= {"commit": made.get("git_commit"), "dirty": made.get("git_dirty"), **made.get("versions", {})}
    line |= {key: made.get(key) for key in ("device", "hardware", "threads", "started")}
    tables["cells"].append(
        pd.DataFrame([line | {"seconds": seconds_of(record), "notes": "; ".join(record.get("notes") or [])}])
    )
    if cell.kind == "evaluate":
        tables["rows"].append(pd.DataFrame([_row(row) | point for row in record["rows"]]))
        tables["outcomes"].append(long_outcomes(read_outcomes(plan.runs, cell.id)).assign(**point))
        tables["changes"].append(pd.DataFrame([change | point for change in record["changes"]]))
        tables["checks"].append(pd.DataFrame([point | check for check in record.get("checks") or []]))
    else:
        line = {"model": cell.model, "entry": cell.entry, "defense": about["defense"], "base_model": plan.profile.base_model}
        tables["trainings"].append(pd.DataFrame([line | training_line(cell, record)]))
        log = record_path(plan.runs, cell.id).with_suffix(".csv")
        if log.is_file():
            tables["logs"].append(pd.read_csv(log).assign(model=cell.model, entry=cell.entry))


def add_packed(tables, before, cell):
    """Lines of one cell as they are packed already. `before`: {table: {key: its lines}}."""
    key = (cell.model, cell.parameters.get("dataset", ""), cell.sweep, cell.sweep_value)
    for name in ("rows", "outcomes", "changes", "checks") if cell.kind == "evaluate" else ("trainings", "logs"):
        if (lines := before[name].get(key if cell.kind == "evaluate" else cell.model)) is not None:
            tables[name].append(lines)
    tables["cells"].append(before["cells"][cell.id])


def _grouped(found):
    """{table: {key: its lines}} of packed tables: by cell, by point, or by model."""
    point = ["model", "dataset", "sweep", "sweep_value"]
    keys = dict.fromkeys(("rows", "outcomes", "changes", "checks"), point) | {
        "trainings": "model",
        "logs": "model",
        "cells": "cell",
    }
    return {name: dict(iter(getattr(found, name).groupby(by, sort=False, observed=True))) for name, by in keys.items()}


def long_outcomes(frame):
    """One line a sample and attack from the wide outcomes of an evaluation; margins and predictions are not kept."""
    parts = []
    for column in frame.columns:
        name = column.removesuffix("_correct")
        if name == column:
            continue
        part = frame[["sample_id", "label"]].assign(attack=name, correct=frame[column].astype(bool))
        by = f"{name}_broken_by"
        parts.append(part.assign(broken_by=frame[by].astype(object).where(frame[by] != "", None) if by in frame else None))
    return pd.concat(parts, ignore_index=True)


def training_line(cell, record):
    """What a training record says about its model: settings, cost, accuracy on its held-out slice."""
    settings = {name: as_json(value) if isinstance(value, dict) else value for name, value in cell.parameters.items()}
    settings |= {name: " ".join(map(str, value)) for name, value in settings.items() if isinstance(value, list)}
    training, made = record["training"], record["provenance"]
    line = settings | {name: training.get(name, made.get(name)) for name in TRAINING}
    held_out = training.get("held_out") or {}
    line["held_out_samples"] = held_out.get("samples")
    for state in ("final", "best"):
        line |= {f"{state}_{name}": value for name, value in (held_out.get(state) or {}).items()}
    return line | {"commit": made.get("git_commit")}


def _row(row):
    """A result row as a line: its threat model's fields are columns of it already, and its role follows from others."""
    kept = {name: value for name, value in row.items() if name not in ("threat", "role")}
    return {name: " ".join(value) if isinstance(value, list | tuple) else value for name, value in kept.items()}


def _task_of(entry):
    """The task of an entry's models; what is not fine-tuned is judged `zero_shot`."""
    return None if entry is None else "zero_shot" if entry.defense == "none" else entry.task


def _joined(parts):
    """Frames one below the other, with the columns of all; text that repeats is text again, not categories of one part."""
    parts = [part for part in parts if len(part)]
    if not parts:
        return pd.DataFrame()
    plain = [part.assign(**{c: part[c].astype(object) for c in part.columns if part[c].dtype == "category"}) for part in parts]
    return pd.concat(plain, ignore_index=True)


def fingerprint(results):
    """Digest of the identities in cells.csv: what a report of the study is made of. None where nothing is packed."""
    cells = packed.read_cells(results)
    return None if cells is None else digest(cells[["cell", "identity"]].to_numpy().tolist())


def rows(profile, where=(), results=Path("results"), runs=Path("runs")):
    """Rows (DataFrame) of a profile's finished cells that fulfil each condition `COLUMN=VALUE`; values compare as text.

    Several conditions on one column are alternatives. Raises `UserError` for a malformed condition or an unknown column.
    """
    folder = Path(results) / load_profile(profile).name
    if (Path(runs) / folder.name / "cells").is_dir():
        pack(profile, results, runs)
    path = folder / "rows.csv"
    if not path.is_file():
        raise UserError(f"no results of '{profile}' in {folder}; start with: mmcoa run {profile}")
    frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    wanted = {}
    for condition in where:
        column, equals, value = condition.partition("=")
        if not equals:
            raise UserError(f"--where '{condition}' is not COLUMN=VALUE, such as attack=image")
        if column not in frame.columns:
            raise unknown("column", column, list(frame.columns))
        wanted.setdefault(column, []).append(value)
    for column, values in wanted.items():
        frame = frame[frame[column].isin(values)]
    return frame


def shown(frame, columns=SHOWN):
    """(columns, rows of text and numbers) for a table: columns that are empty throughout are left out."""
    names = [name for name in columns if name in frame.columns and (frame[name] != "").any()]
    numbers = {"accuracy", "ci_low", "ci_high"}
    return names, [[float(row[name]) if name in numbers else row[name] for name in names] for _, row in frame.iterrows()]


# Are the stored results reproduced? Chosen evaluate cells are run again and compared, sample by sample, with what is stored.
#
# On the hardware, thread count and versions of the record they must be equal; elsewhere rounding may move a few samples, and a
# count may differ by `TOLERANCE` percent of the samples.

TOLERANCE = 1.0  # percent of the samples


def candidates(plan):
    """([(model path, cell)] that can be run again here, names of models whose checkpoint is missing)."""
    found, missing = [], []
    for process in plan.processes:
        done = [cell for cell in process.cells if cell.kind == "evaluate" and plan.is_done(cell)]
        if not process.has_model:
            missing += [process.cells[0].model] if done else []
            continue
        found += [(process.model, cell) for cell in done]
    return found, missing


def verify(profile, count=3, seed=None, device="auto", results=Path("results"), runs=Path("runs"), echo=print):
    """Run `count` random finished cells again; one dict an attack: cell, attack, n, stored, again, moved, place, passed.

    `stored`, `again`: samples right; `moved`: samples whose outcome differs. Raises `UserError` where there is nothing to run.
    """
    plan = make_plan(profile, results, runs)
    found, missing = candidates(plan)
    if missing:
        echo(f"not here, so not verified: checkpoints of {', '.join(missing)} (mmcoa run {profile} trains them)")
    if not found:
        raise UserError(f"no finished cell of '{profile}' can be run again here; start with: mmcoa run {profile}")
    seed = random.randrange(10_000) if seed is None else seed
    chosen = random.Random(seed).sample(found, min(count, len(found)))
    echo(f"{len(chosen)} of {len(found)} finished cells, chosen with --seed {seed}")
    return [row for path, cell in chosen for row in again(plan, path, cell, device)]


def stored(plan, cell):
    """(outcomes with columns attack, sample_id, correct; provenance) of a finished cell: of its record, else as packed."""
    if record := current(plan, cell):
        return long_outcomes(read_outcomes(plan.runs, cell.id)), record["provenance"]
    tables = packed.read(plan.results)
    line = tables.cells[tables.cells.cell == cell.id].iloc[0]
    made = {"device": line.device, "threads": int(line.threads), **({"hardware": line.hardware} if line.hardware else {})}
    made["versions"] = {name: line[name] for name in ("python", "torch", "open_clip", "mmcoa")}
    here = (tables.outcomes.model == cell.model) & (tables.outcomes.dataset == cell.parameters["dataset"])
    return tables.outcomes[
        here & (tables.outcomes.sweep == cell.sweep) & (tables.outcomes.sweep_value == cell.sweep_value)
    ], made


def again(plan, path, cell, device):
    """Compare one cell with what is stored of it."""
    import torch

    from mmcoa.model.loading import load_model
    from mmcoa.study.compute import compute

    before, made = stored(plan, cell)
    torch.set_num_threads(made["threads"])  # sums are bitwise equal for one number of threads
    loaded = load_model(path, device, resize=cell.parameters["resize"], precision=cell.parameters["precision"])
    with tempfile.TemporaryDirectory() as temporary:
        compute(cell, loaded, Path(temporary))
        fresh, after = read_record(temporary, cell.id), long_outcomes(read_outcomes(Path(temporary), cell.id))
    same_place = all(made.get(key) == fresh["provenance"].get(key) for key in ("versions", "device", "threads", "hardware"))
    rows = []
    for row in fresh["rows"]:
        old, new = (frame[frame.attack == row["attack"]].set_index("sample_id").correct for frame in (before, after))
        if old.index.tolist() != new.index.tolist():
            raise UserError(f"{cell.id}: other samples than are stored; the data have changed")
        moved = int((old != new).sum())
        limit = 0 if same_place else TOLERANCE / 100 * row["n"]
        passed = abs(int(old.sum()) - row["correct"]) <= limit and (not same_place or moved == 0)
        rows.append(
            {"cell": cell.id, "attack": row["attack"], "n": row["n"], "stored": int(old.sum()), "again": row["correct"]}
            | {"moved": moved, "place": "same" if same_place else "other", "passed": passed}
        )
    return rows
