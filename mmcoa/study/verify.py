"""Are the stored results reproduced? Chosen evaluate cells are run again and compared, sample by sample, with what is stored.

On the hardware, thread count and versions of the record they must be equal; elsewhere rounding may move a few samples, and a
count may differ by `TOLERANCE` percent of the samples.
"""

import random
import tempfile
from pathlib import Path

import pandas as pd

from mmcoa.errors import UserError
from mmcoa.study.cells import study_models
from mmcoa.study.profiles import load_profile
from mmcoa.study.records import is_current, read_record
from mmcoa.study.sources import checkpoint_cell

TOLERANCE = 1.0  # percent of the samples


def candidates(profile, results=Path("results"), runs=Path("runs")):
    """([(model path, cell)] that can be run again here, names of models whose checkpoint is missing)."""
    profile = load_profile(profile)
    found, missing = [], []
    for model in study_models(profile, runs, results):
        done = [cell for cell in model.evaluate if is_current(read_record(Path(results) / profile.name, cell.id), cell.hash)]
        path = model.path
        if model.made_by is not None and checkpoint_cell(path) != model.made_by.hash:
            missing += [model.name] if done else []
            continue
        found += [(path, cell) for cell in done]
    return found, missing


def verify(profile, count=3, seed=None, device="auto", results=Path("results"), runs=Path("runs"), echo=print):
    """Run `count` random finished cells again; one dict an attack: cell, attack, n, stored, again, moved, equal, passed.

    `stored`, `again`: samples right; `moved`: samples whose outcome differs. Raises `UserError` where there is nothing to run.
    """
    name = load_profile(profile).name
    found, missing = candidates(profile, results, runs)
    if missing:
        echo(f"not here, so not verified: checkpoints of {', '.join(missing)} (mmcoa run {profile} trains them)")
    if not found:
        raise UserError(f"no finished cell of '{profile}' can be run again here; start with: mmcoa run {profile}")
    seed = random.randrange(10_000) if seed is None else seed
    chosen = random.Random(seed).sample(found, min(count, len(found)))
    echo(f"{len(chosen)} of {len(found)} finished cells, chosen with --seed {seed}")
    rows = []
    for path, cell in chosen:
        rows += again(path, cell, Path(results) / name, device)
    return rows


def again(path, cell, folder, device):
    """Compare one cell with its record in `folder` (results/PROFILE)."""
    import torch

    from mmcoa.model.loading import load_model
    from mmcoa.study.cell import compute

    record = read_record(folder, cell.id)
    torch.set_num_threads(record["provenance"]["threads"])  # sums are bitwise equal for one number of threads
    stored = read_outcomes(folder / "outcomes", cell.id)
    settings = cell.parameters
    loaded = load_model(path, device, resize=settings["resize"], precision=settings["precision"])
    with tempfile.TemporaryDirectory() as temporary:
        compute(cell, loaded, Path(temporary), None)
        fresh, new = read_record(temporary, cell.id), read_outcomes(Path(temporary) / "outcomes", cell.id)
    if stored["sample_id"].tolist() != new["sample_id"].tolist():
        raise UserError(f"{cell.id}: other samples than in the record; the data have changed")
    same_place = all(
        record["provenance"].get(key) == fresh["provenance"].get(key) for key in ("versions", "device", "threads", "hardware")
    )
    rows = []
    for old, row in zip(record["rows"], fresh["rows"], strict=True):
        column = f"{row['attack']}_correct"
        moved = int((stored[column].astype(bool) != new[column].astype(bool)).sum())
        limit = 0 if same_place else TOLERANCE / 100 * row["n"]
        passed = abs(old["correct"] - row["correct"]) <= limit and (not same_place or moved == 0)
        rows.append(
            {"cell": cell.id, "attack": row["attack"], "n": row["n"], "stored": old["correct"], "again": row["correct"]}
            | {"moved": moved, "place": "same" if same_place else "other", "passed": passed}
        )
    return rows


def read_outcomes(folder, cell_id):
    """Stored per-sample outcomes of a cell; `UserError` where they are missing."""
    path = Path(folder) / f"{cell_id}.parquet"
    if not path.is_file():
        raise UserError(f"no outcomes {path}; run the profile again")
    return pd.read_parquet(path)
