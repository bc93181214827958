"""Are the stored results reproduced? Chosen evaluate cells are run again and compared, sample by sample, with what is stored.

On the hardware, thread count and versions of the record they must be equal; elsewhere rounding may move a few samples, and a
count may differ by `TOLERANCE` percent of the samples.
"""

import random
import tempfile
from pathlib import Path

from mmcoa.errors import UserError
from mmcoa.store import packed
from mmcoa.store.finished import read_outcomes, read_record
from mmcoa.study.pack import current, long_outcomes
from mmcoa.study.plan import make_plan

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
