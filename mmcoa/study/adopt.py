"""Keep finished results across a change of code that should have changed none of them.

Any edit of code that a result depends on makes its record stale. `adopt` runs some of the stale cells again with today's code: where
every outcome of every sample, and every weight of a model that is trained again, is as it was, all are marked as today's, with a
note of what was run again; where one differs, nothing is marked. A model whose checkpoint is not here any more is trained again and
then judged by its outcomes. Cells that are stale for another reason (parameters, weights, candidates, other data) are never adopted.
"""

import json
import random
import tempfile
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from mmcoa.errors import UserError
from mmcoa.study.cells import study_models
from mmcoa.study.profiles import load_profile
from mmcoa.study.records import git_state, is_current, lined, read_record, record_path, write_atomic
from mmcoa.study.settings import EVALUATE_DEFAULTS
from mmcoa.study.sources import MARKER, checkpoint_cell, file_hash
from mmcoa.study.verify import again

OF_LOST = 4  # evaluations of a model that is trained again because its checkpoint is gone
OF_CODE = (
    "code",
    "dataset",
    "check_dataset",
)  # inputs that new code may spell otherwise: what they give is run again and compared


@dataclass(frozen=True)
class Stale:
    """A finished cell that today's code has not made; `model`: its `StudyModel`, `path`: the checkpoint that it is about; `here`: whether that is here."""

    cell: object
    record: dict
    model: object
    here: bool = True

    @property
    def path(self):
        return self.model.path


def stale_cells(profile, results=Path("results"), runs=Path("runs")):
    """([stale train cells], [stale evaluate cells], {reason: [names of cells that cannot be adopted]})."""
    profile = load_profile(profile)
    folder, trained, evaluated, refused = Path(results) / profile.name, [], [], {}
    for model in study_models(profile, runs, results):
        made_by = read_record(folder, model.made_by.id) if model.made_by else None
        here = model.made_by is None or (made_by and checkpoint_cell(model.path) in (made_by["hash"], model.made_by.hash))
        for cell in [*([model.train] if model.train else []), *model.evaluate]:
            record = read_record(folder, cell.id)
            if record is None or is_current(record, cell.hash):
                continue
            if reason := difference(cell, record, made_by):
                refused.setdefault(reason, []).append(cell.id)
            else:
                (trained if cell.kind == "train" else evaluated).append(Stale(cell, record, model, bool(here)))
    return trained, evaluated, refused


def difference(cell, record, made_by):
    """Why a stale cell is more than other code, None where it is not. `made_by`: record of the train cell of its model, or None."""
    before, now = record["parameters"], cell.parameters
    for name in before.keys() | now.keys():
        if name not in before and now[name] != EVALUATE_DEFAULTS.get(name):
            return f"parameter '{name}' is new"
        if name in before and before[name] != now.get(name):
            return f"parameter '{name}' has changed"
    inputs = cell.inputs if cell.kind == "train" or made_by is None else {**cell.inputs, "model": made_by["hash"]}
    older = {name: value for name, value in record["inputs"].items() if name not in OF_CODE}
    if cell.kind == "evaluate" and made_by is not None and cell.inputs["model"] == older.get("model"):
        inputs = cell.inputs  # its model was adopted before
    for name, value in older.items():
        if inputs.get(name) != value:
            return f"input '{name}' has changed"
    return None


def choose(evaluated, count, seed):
    """`count` cells at random, and as many more as it takes for every data set, sweep and method to be among them."""
    order = sorted(evaluated, key=lambda stale: stale.cell.id)
    random.Random(seed).shuffle(order)
    chosen, seen = [], set()
    for stale in order:
        parameters = stale.cell.parameters
        kinds = {("data", parameters["dataset"]), ("sweep", stale.cell.sweep), ("method", stale.record["rows"][0]["defense"])}
        if kinds - seen:
            chosen.append(stale)
            seen |= kinds
    rest = [stale for stale in order if stale not in chosen]
    return chosen + rest[: max(0, count - len(chosen))]


def choose_trainings(trained, count, seed):
    """`count` train cells at random, of as many defences as there can be."""
    order, seen, ranked = sorted(trained, key=lambda stale: stale.cell.id), Counter(), []
    random.Random(seed).shuffle(order)
    for stale in order:
        defense = stale.cell.parameters["defense"]
        ranked.append((seen[defense], len(ranked), stale))
        seen[defense] += 1
    return [stale for _, _, stale in sorted(ranked, key=lambda item: item[:2])[:count]]


def adopt(profile, count=12, trainings=2, seed=0, device="auto", results=Path("results"), runs=Path("runs"), echo=print):
    """Run stale cells again and, if all are equal, mark all stale cells as today's. Returns the number of records marked.

    count: evaluations to run again (at least one of each data set, sweep and method); trainings: models to train again, of different
        defences first.
    Raises `UserError` where nothing is stale, a cell cannot be adopted, or one differs.
    """
    name = load_profile(profile).name
    folder = Path(results) / name
    trained, evaluated, refused = stale_cells(profile, results, runs)
    if refused:
        reason, cells = next(iter(refused.items()))
        raise UserError(
            f"{sum(map(len, refused.values()))} cells cannot be adopted; {cells[0]}: {reason}; run: mmcoa run {profile}"
        )
    if not trained and not evaluated:
        raise UserError(f"nothing of '{profile}' is stale")
    chosen = choose([stale for stale in evaluated if stale.here], count, seed)
    retrained = choose_trainings(trained, trainings, seed)
    lost = {stale.cell.model for stale in trained if not stale.here}
    if lost and not lost & {stale.cell.model for stale in retrained}:
        raise UserError(
            f"checkpoints of {len(lost)} models are not here: at least one of them has to be trained again; say --trainings 1"
        )
    echo(
        f"{len(trained) + len(evaluated)} stale cells; again: {len(chosen)} evaluations, {len(retrained)} trainings (--seed {seed})"
    )
    compared = [compare(stale, stale.path, folder, device, echo) for stale in chosen]
    for stale in retrained:
        own = [one for one in evaluated if one.model is stale.model and not one.here]
        compared += train_again(stale, choose(own, 1, seed)[:OF_LOST], folder, device, echo)
    commit, dirty = git_state()
    note = {"date": datetime.now(UTC).isoformat(timespec="seconds"), "git_commit": commit, "git_dirty": dirty, "seed": seed}
    note |= {
        "evaluations": len(compared),
        "outcomes": sum(compared),
        "trainings": len(retrained),
        "of": len(trained) + len(evaluated),
    }
    for stale in [*evaluated, *trained]:
        mark(stale, folder, note)
    return len(trained) + len(evaluated)


def compare(stale, path, folder, device, echo):
    """Evaluate a cell again with the model in `path`; the number of outcomes, all of them equal, or `UserError`."""
    rows = again(path, stale.cell, folder, device)
    wrong = [row for row in rows if row["place"] != "same" or not row["passed"]]
    if wrong:
        where = "" if wrong[0]["place"] == "same" else " on other hardware or versions"
        raise UserError(
            f"{stale.cell.id}, {wrong[0]['attack']}: {wrong[0]['moved']} of {wrong[0]['n']} outcomes moved{where}; nothing was adopted"
        )
    echo(f"equal: {stale.cell.id} ({rows[0]['n']} samples, {len(rows)} attacks)")
    return sum(row["n"] for row in rows)


def train_again(stale, evaluations, folder, device, echo):
    """Train a model again, with the same number of threads: bit for bit the same weights, or `UserError`.

    Where its checkpoint is not here, some of its evaluations are compared instead, outcome by outcome. Returns their numbers of outcomes.
    """
    import torch

    from mmcoa.study.cell import run_train_cell

    kept = torch.get_num_threads()
    torch.set_num_threads(stale.record["provenance"]["threads"])
    try:
        with tempfile.TemporaryDirectory() as temporary:
            parameters = {
                **stale.model.train_parameters,
                "output": f"{temporary}/{stale.model.name}",
                "results": None,
                "device": device,
            }
            made = run_train_cell(**parameters)
            if not stale.here:
                echo(f"trained again: {stale.cell.id}, whose checkpoint is not here")
                return [compare(one, str(made), folder, device, echo) for one in evaluations]
            if file_hash(made / "model.safetensors") != file_hash(Path(stale.path) / "model.safetensors"):
                raise UserError(f"{stale.cell.id}: training again gives other weights; nothing was adopted")
            echo(f"equal: {stale.cell.id} (every weight)")
            return []
    finally:
        torch.set_num_threads(kept)


def mark(stale, folder, note):
    """Write the record, and of a train cell the checkpoint's marker, as today's."""
    cell, record = stale.cell, stale.record
    adopted = [*record.get("adopted", []), {"from": record["hash"], **note}]
    record = {**record, "hash": cell.hash, "parameters": cell.parameters, "inputs": cell.inputs, "adopted": adopted}
    write_atomic(record_path(folder, cell.id), lambda path: path.write_text(lined(record), encoding="utf8"))
    if cell.kind == "train" and stale.here:
        marker = json.dumps({"cell": cell.id, "hash": cell.hash})
        write_atomic(Path(stale.path) / MARKER, lambda path: path.write_text(marker))
