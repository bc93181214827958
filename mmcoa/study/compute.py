"""What a process of a study computes. Notebooks call `run_spec` with the path that the plan wrote; without Jupyter the same is

    python -m mmcoa.study.compute SPEC.json        # as in runs/STUDY/specs/

`evaluate_by_hand` is the same evaluation without a study.
"""

import contextlib
import functools
import json
import shutil
import sys
import time
from pathlib import Path

import torch

from mmcoa import defenses, identity
from mmcoa.attacks.catalog import find
from mmcoa.datasets import attacker_dataset, load_dataset
from mmcoa.defenses import at_test
from mmcoa.distributed import join
from mmcoa.errors import UserError, unknown
from mmcoa.evaluation.loop import evaluate
from mmcoa.model.lite.build import lite_folder
from mmcoa.model.loading import load_model, resolve_device
from mmcoa.model.paths import called, parted
from mmcoa.runtime import tune_allocator
from mmcoa.store import base_models
from mmcoa.store.files import write_json
from mmcoa.store.finished import provenance, read_record, write_log, write_outcomes, write_record
from mmcoa.study.cells import evaluate_cells
from mmcoa.study.plan import read_spec
from mmcoa.study.settings import (
    EVALUATE_DEFAULTS,
    READING,
    THREAT_FIELDS,
    EvaluateSettings,
    checked_settings,
    reading_of,
    safe_name,
)
from mmcoa.study.sweeps import points, read_sweeps
from mmcoa.threat import default_threat, preset
from mmcoa.training import faults
from mmcoa.training.config import TrainConfig
from mmcoa.training.finetune import fine_tune
from mmcoa.training.pretrain import pretrain


def run_spec(path, progress=None):
    """Compute the cells of a SPEC.json that have no current record yet.

    Arguments:
        progress: of trainings, called with (step, steps, log); of evaluations with (what, samples done, samples in all); of an
            alignment with (done, total).

    Returns the checkpoint folder of a training or an alignment, all result rows of an evaluation.
    """
    spec, cells = read_spec(path)
    if spec["kind"] == "align":
        return lite_folder(progress=progress)
    if spec["kind"] == "evaluate":
        return compute_cells(spec["model"], cells, spec["runs"], spec["device"], progress)
    return train(spec, cells[0], progress)


def train(spec, cell, progress=None):
    """Fine-tune or pre-train the model of a cell and write its record and its log. Returns the checkpoint folder.

    A finished checkpoint of the same cell is kept, an unfinished one continued, one of an outdated cell removed first. Several
    processes train one model together (`accelerate launch`); the first one writes.
    """
    tune_allocator()
    began, started, output = time.monotonic(), time.time(), Path(spec["output"])
    device, settings = str(resolve_device(spec["device"])), dict(cell.parameters)
    team = join(device)  # before the model is loaded: it makes `cuda` mean this process's own GPU
    if team.is_main_process:
        claim_folder(output, cell)
    team.wait_for_everyone()
    if cell.kind == "pretrain":
        pretrain(cell.model, settings.pop("data"), output, **settings, device=device, progress=progress)
    else:
        method = defenses.choose(settings.pop("defense"), settings.pop("with"))
        dataset, change = settings.pop("dataset"), faults.change(settings.pop("fault"))
        reading = {key: settings.pop(key) for key in READING if key in settings}
        run = dict(device=device, name=cell.model, progress=progress, change=change, **reading)
        fine_tune(method, spec["model"], dataset, output, TrainConfig.of(settings), **run)
    if not team.is_main_process:
        return output
    write_log(output / "log.csv", spec["runs"], cell.id)
    record = read_record(spec["runs"], cell.id)
    if record is None or record["identity"] != cell.identity:
        trained, made = json.loads((output / "mmcoa.json").read_text()), provenance_of(cell, started, began, device)
        kept = {key: trained[key] for key in ("seconds", "images", "train_samples", "pictures", "held_out") if key in trained}
        kept |= {"processes": team.num_processes} if team.num_processes > 1 else {}  # their sums round otherwise than one's
        write_record(spec["runs"], cell, made, training=kept)
    if cell.kind == "pretrain":
        base_models.keep(output, spec["results"], cell.model)
    return output


def claim_folder(output, cell):
    """Mark a study's checkpoint folder as this cell's; what an outdated cell left in it is removed."""
    marker = output / identity.MARKER
    if marker.is_file():
        if json.loads(marker.read_text()).get("identity") != cell.identity:
            shutil.rmtree(output)
    elif (output / "mmcoa.json").is_file():
        raise UserError(f"{output} holds a checkpoint that no study made; move it away")
    write_json(marker, {"cell": cell.id, "identity": cell.identity})


def evaluate_by_hand(
    model, datasets, attacks=("clean", "image", "text", "multimodal"), *,
    sweeps=(), resize="openclip", device="auto", name=None, output=None, progress=None, **settings,
):  # fmt: skip
    """Evaluate one model on one or many data sets, then at the points of each sweep, and return all result rows.

    Arguments:
        sweeps: dicts as under `sweeps` in a profile, without `models`.
        name: what rows call the model.
        output: folder for the records; a cell whose record is current is read instead, one that was killed goes on.
        settings: any of `EVALUATE_DEFAULTS`.
    """
    if odd := sorted(settings.keys() - EVALUATE_DEFAULTS.keys()):
        raise unknown("parameter", odd[0], EVALUATE_DEFAULTS)
    datasets = [datasets] if isinstance(datasets, str) else list(datasets)
    given = {key: value for key, value in settings.items() if value != EVALUATE_DEFAULTS[key]}
    main = checked_settings(EvaluateSettings, {**given, "datasets": [], "attacks": list(attacks)}) | {"datasets": datasets}
    by_path = parted(model)
    name = name or safe_name(called(by_path[0]) if by_path else Path(model).name)
    cells = evaluate_cells(name, name, identity.model(model), points(main, read_sweeps(sweeps)), resize)
    return compute_cells(model, cells, output, device, progress)


def compute_cells(model, cells, runs=None, device="auto", progress=None):
    """All result rows of some evaluate cells of one model; those without a current record in `runs` are computed.

    A cell that fails does not keep the others from running; the error comes after the last.
    """
    tune_allocator()
    load = functools.cache(lambda resize, precision: load_model(model, device, resize=resize, precision=precision))
    rows, failures = [], {}
    for cell in cells:
        record = read_record(runs, cell.id) if runs is not None else None
        if record is None or record["identity"] != cell.identity:
            loaded = load(cell.parameters["resize"], cell.parameters["precision"])
            try:
                record = compute(cell, loaded, runs, progress)
            except (UserError, RuntimeError) as error:  # RuntimeError: out of memory in one cell
                failures[described(cell)] = error
                continue
        rows += record["rows"]
    if failures:
        what, error = next(iter(failures.items()))
        if len(cells) == 1:
            raise error
        raise UserError(f"{len(failures)} of {len(cells)} evaluations failed; {what}: {error}") from error
    return rows


def provenance_of(cell, started, began, device):
    """Provenance of a cell that began at `started` (POSIX seconds), `began` on the monotonic clock, and has just ended."""
    hardware = torch.cuda.get_device_name(device) if device.startswith("cuda") else None
    return provenance(started, time.monotonic() - began, cell.parameters["seed"], device, torch.get_num_threads(), hardware)


def described(cell):
    """A cell in words: `openmoji/birds, epsilon 1/255`."""
    return ", ".join(filter(None, (cell.parameters["dataset"], f"{cell.sweep} {cell.sweep_value}".strip())))


def compute(cell, loaded, runs=None, progress=None):
    """Evaluate one cell with the model that it is about and, with `runs`, write record and outcomes. Returns {"rows": rows}."""
    settings, began, started = cell.parameters, time.monotonic(), time.time()
    threat = preset(default_threat(loaded, **{key: settings[key] for key in THREAT_FIELDS}), settings["preset"])
    reading = {**reading_of(settings, settings["dataset"]), **loaded.picture_input}
    dataset = load_dataset(settings["dataset"], settings["split"], samples=settings["samples"], stream=True, **reading)
    learns = needs_attacker(settings["attacks"], threat) and settings["split"] != "train"  # never from what is evaluated
    attacker = attacker_dataset(settings["dataset"], threat, **reading) if learns else None
    check = load_check(settings["check_dataset"], settings["check_samples"]) if settings["check_dataset"] else None
    defense = defense_at_test(settings)
    craft = load_craft(settings["craft_on"], loaded) if settings["craft_on"] else None
    report = (lambda done, total: progress(described(cell), done, total)) if progress else None
    # Parts of an unfinished evaluation count for the same inputs and versions alone: the identity is part of their place.
    parts = None if runs is None else Path(runs) / "partial" / cell.id
    resume = None if runs is None else parts / cell.identity[:16]
    found = evaluate(
        loaded, dataset, settings["attacks"], threat, progress=report, attacker=attacker, resume=resume, check=check,
        defense=defense, craft=craft,
    )  # fmt: skip
    rows = [{**row, "model": cell.model, "sweep": cell.sweep, "sweep_value": cell.sweep_value} for row in found]
    if runs is not None:
        write_outcomes(found.outcomes, runs, cell.id)
        made = provenance_of(cell, started, began, str(loaded.device))
        write_record(runs, cell, made, rows, found.changes, checks=found.checks, notes=found.notes)
        shutil.rmtree(parts, ignore_errors=True)  # also what an outdated cell of this name left
        with contextlib.suppress(OSError):
            parts.parent.rmdir()  # empty after the last one
    return {"rows": rows}


def defense_at_test(settings):
    """The `AtTest` that an evaluation's parameters speak of, None for `none`."""
    if (name := settings["defense_at_test"]) == "none":
        return None
    return at_test.choose(name, settings["with_at_test"], settings["adversary"], settings["draws"])


def needs_attacker(attacks, threat):
    """Whether one of the attacks learns from labelled pictures of the train split, which take seconds to draw."""
    leaves = [find(leaf) for name in attacks for leaf in (find(name).parts or (name,))]
    return any(leaf.train_pictures or (leaf.text and threat.text_score == "margin") for leaf in leaves)


def load_craft(name, like):
    """The model that pictures and prompts are made on, as `like` is read."""
    return load_model(name, like.device, resize=like.resize, precision=like.precision)


@functools.cache
def load_check(name, samples):
    """The pictures of the self-checks: the first test samples of a data set, the same for every cell."""
    return load_dataset(name, samples=samples)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m mmcoa.study.compute SPEC.json")
    try:
        run_spec(sys.argv[1])
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
