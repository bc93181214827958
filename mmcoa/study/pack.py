"""The tables of a study: made of its records, asked for rows, and reproduced.

    pack("quick")                           # runs/STUDY/cells -> results/STUDY, which git keeps (mmcoa/store/packed.py)
    rows("quick", ["attack=image"])         # `mmcoa results`
    verify("quick", count=3)                # run again and compared, sample by sample

A cell comes from its record where that is current, else from the tables as they are: so a fresh clone that computes one
defence again changes that defence alone. Cells that the profile no longer has go.
"""

import random
import tempfile
from pathlib import Path

import pandas as pd

from mmcoa.errors import UserError, unknown
from mmcoa.store import packed
from mmcoa.store.finished import read_outcomes, read_record, record_path, seconds_of
from mmcoa.store.packed import CHANGES, OUTCOMES, POINT, as_json
from mmcoa.study.plan import make_plan
from mmcoa.study.profiles import entry_name, load_profile

CELL = ("cell", "kind", "model", "entry", "defense", "seed", "task", *POINT[2:], "identity", "versions")
MADE = (
    *("commit", "dirty", "device", "hardware", "threads"),
    *("python", "torch", "open_clip", "mmcoa", "started", "seconds", "notes"),
)
ROW = ("model", "entry", "defense", "base_model", "trained_on", "task", "dataset", "split", "classes", *POINT[3:], "attack")
SHOWN = ("model", "dataset", "attack", "sweep", "sweep_value", "accuracy", "ci_low", "ci_high", "correct", "n")
TRAINING = ("seconds", "images", "train_samples", "pictures", "processes", "device", "threads")
TABLES = {  # of the cells of one kind, beside `cells`, and the columns that tell one cell's lines
    "evaluate": (("rows", "outcomes", "changes", "checks"), ("model", "dataset", "sweep", "sweep_value")),
    "train": (("trainings", "logs"), ("model",)),
    "pretrain": (("trainings", "logs"), ("model",)),
}
TOLERANCE = 1.0  # percent of the samples by which a count may differ on another machine


def pack(profile, results=Path("results"), runs=Path("runs")):
    """Write the tables of a profile. Returns (paths that changed, number of cells without a current result)."""
    return pack_plan(make_plan(profile, results, runs))


def pack_plan(plan):
    """`pack` for a plan that is there already."""
    before = _cell_by_cell(plan.results)
    tables = {field: [] for field in packed.Packed.__dataclass_fields__}
    for cell in plan.cells:
        record = current(plan, cell)
        for name, lines in (before.get(cell.id, {}) if record is None else lines_of(plan, cell, record)).items():
            tables[name].append(lines)
    missing = sum(not plan.is_done(cell) for cell in plan.cells)
    frames = {name: _joined(parts) for name, parts in tables.items()}
    if not len(frames["cells"]):
        return [], missing
    columns = {"cells": [*CELL, *MADE], "rows": list(dict.fromkeys((*ROW, *frames["rows"].columns)))}
    for name, own in (columns | {"outcomes": list(OUTCOMES), "changes": list(CHANGES)}).items():
        frames[name] = frames[name].reindex(columns=own)
    return packed.write(plan.results, packed.Packed(**frames)), missing


def current(plan, cell):
    """The record of a cell where it is current, else None; a damaged one counts as none."""
    seen = plan.look(cell)
    if seen is None or seen.packed or seen.identity != cell.identity:
        return None
    return read_record(plan.runs, cell.id)


def lines_of(plan, cell, record):
    """{table: lines} of one cell from its record."""
    entry = {entry_name(entry): entry for entry in plan.profile.models}.get(cell.entry)
    seed = next((one.parameters["seed"] for one in plan.cells if one.kind == "train" and one.model == cell.model), None)
    task = None if entry is None else "zero_shot" if entry.defense == "none" else entry.task
    point = {"model": cell.model, "entry": cell.entry, "dataset": cell.parameters.get("dataset", "")}
    point |= {"sweep": cell.sweep, "sweep_value": cell.sweep_value}
    about = {"defense": entry.defense if entry else None, "seed": seed, "task": task}
    made = record["provenance"]
    line = {"cell": cell.id, "kind": cell.kind, **point, **about, "identity": cell.identity, "versions": as_json(cell.versions)}
    line |= {"commit": made.get("git_commit"), "dirty": made.get("git_dirty"), **made.get("versions", {})}
    line |= {key: made.get(key) for key in ("device", "hardware", "threads", "started")}
    line |= {"seconds": seconds_of(record), "notes": "; ".join(record.get("notes") or [])}
    lines = {"cells": pd.DataFrame([line])}
    if cell.kind == "evaluate":
        outcomes = long_outcomes(read_outcomes(plan.runs, cell.id)).assign(**point)
        listed = {"rows": [_row(row) for row in record["rows"]], "changes": record["changes"]}
        listed |= {"checks": record.get("checks") or []}
        return (
            lines | {"outcomes": outcomes} | {name: pd.DataFrame([each | point for each in of]) for name, of in listed.items()}
        )
    line = {"model": cell.model, "entry": cell.entry, "defense": about["defense"], "base_model": plan.profile.base_model}
    lines["trainings"] = pd.DataFrame([line | training_line(cell, record)])
    log = record_path(plan.runs, cell.id).with_suffix(".csv")
    return lines | ({"logs": pd.read_csv(log).assign(model=cell.model, entry=cell.entry)} if log.is_file() else {})


def _cell_by_cell(results):
    """{cell's id: {table: its lines}} of what is packed already."""
    if not (results / "cells.csv").is_file():
        return {}
    tables, grouped = packed.read(results), {}
    for names, columns in TABLES.values():
        for name in names:
            table = getattr(tables, name)
            grouped[name] = dict(iter(table.groupby(list(columns), sort=False, observed=True))) if len(table) else {}
    found = {}
    for (cell_id,), line in tables.cells.groupby(["cell"], sort=False):
        names, columns = TABLES[line.kind.iloc[0]]
        key = tuple(line[list(columns)].iloc[0])
        found[cell_id] = {"cells": line} | {name: grouped[name][key] for name in names if key in grouped[name]}
    return found


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


def _joined(parts):
    """Frames one below the other, with the columns of all; text that repeats is text again, not categories of one part."""
    parts = [part for part in parts if len(part)]
    if not parts:
        return pd.DataFrame()
    plain = [part.assign(**{c: part[c].astype(object) for c in part.columns if part[c].dtype == "category"}) for part in parts]
    return pd.concat(plain, ignore_index=True)


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

    `stored`, `again`: samples right; `moved`: samples whose outcome differs. On the hardware, thread count and versions of the
    record they must be equal; elsewhere rounding may move a few samples, and a count may differ by `TOLERANCE` percent of the
    samples. Raises `UserError` where there is nothing to run.
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
    lines = _cell_by_cell(plan.results)[cell.id]
    line = lines["cells"].iloc[0]
    made = {"device": line.device, "threads": int(line.threads), **({"hardware": line.hardware} if line.hardware else {})}
    return lines["outcomes"], made | {"versions": {name: line[name] for name in ("python", "torch", "open_clip", "mmcoa")}}


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
