"""What a cell computes. The notebooks call these three functions; without Jupyter the same work is

python -m mmcoa.study.cell SPEC.json        # {"kind": "pretrain", "train" or "evaluate", "parameters": {...}}, as in runs/PROFILE/specs/
"""

import contextlib
import functools
import inspect
import json
import shutil
import sys
import time
from dataclasses import asdict
from pathlib import Path

import torch

from mmcoa import defenses
from mmcoa.attacks.catalog import find
from mmcoa.datasets import attacker_dataset, load_dataset
from mmcoa.distributed import join
from mmcoa.errors import UserError, unknown
from mmcoa.evaluation.loop import evaluate
from mmcoa.model.loading import load_model, resolve_device
from mmcoa.runtime import tune_allocator
from mmcoa.study.cells import evaluate_cells, pretrain_cell, train_cell
from mmcoa.study.records import is_current, provenance, read_record, write_atomic, write_outcomes, write_record
from mmcoa.study.settings import EVALUATE_DEFAULTS, THREAT_FIELDS, safe_name
from mmcoa.study.sources import MARKER, model_hash
from mmcoa.study.sweeps import read_sweeps
from mmcoa.study.weights import keep
from mmcoa.threat import default_threat, preset
from mmcoa.training import config as training
from mmcoa.training import faults
from mmcoa.training.finetune import fine_tune
from mmcoa.training.pretrain import pretrain


def run_pretrain_cell(data, output, *, name="pretrained", device="auto", results=None, progress=None, **settings):
    """Train a base model from scratch and write the checkpoint folder `output`.

    With `results` (results/PROFILE) the record of the cell is written there, the log of the training as training/NAME.csv, and the
    checkpoint where it is small (weights.py); checkpoints as in `run_train_cell`. settings: of `mmcoa.training.pretrain.pretrain`. Returns the folder.
    """
    for parameter in settings:
        if parameter not in PRETRAIN_SETTINGS:
            raise unknown("parameter", parameter, parameters_of(run_pretrain_cell))
    tune_allocator()
    began, started, output = time.monotonic(), time.time(), Path(output)
    device, settings = str(resolve_device(device)), PRETRAIN_SETTINGS | settings
    cell = None
    if results is not None:
        cell = pretrain_cell(name, data, **settings)
        claim_folder(output, cell)
    pretrain(name, data, output, **settings, device=device, progress=progress)
    if cell is not None:
        conclude_training(cell, output, results, began, started, settings["seed"], device)
        if join(device).is_main_process:
            keep(output, results, cell)
    return output


def run_train_cell(
    defense, model, dataset, output, *, own=None, fault=None, device="auto", name=None, results=None, progress=None, more=None,
    **settings,
):  # fmt: skip
    """Fine-tune `model` on `dataset` and write the checkpoint folder `output`.

    Arguments:
        own: {name: value} of the defence's own settings; the others are its defaults.
        fault: of the released code, a name out of mmcoa/training/faults.py.
        name: what results call the model (default DEFENSE-seedSEED).
        results: results/PROFILE, where the record of the cell is written, and the log of the training as training/NAME.csv.
        settings, more: fields of `mmcoa.TrainConfig`; None: the model's own default.

    A finished checkpoint of the same cell is kept, an unfinished one continued; in a study, one of an outdated cell is removed
    first. Several processes train one model together (`accelerate launch`); the first one writes. Returns the folder.
    """
    tune_allocator()
    began, started = time.monotonic(), time.time()
    for parameter in (settings := settings | (more or {})):
        if parameter not in training.KINDS:
            raise unknown("parameter", parameter, parameters_of(run_train_cell))
    config, method, change = training.TrainConfig(**settings), defenses.choose(defense, own), faults.change(fault)
    output, name, device = Path(output), name or f"{defense}-seed{config.seed}", str(resolve_device(device))
    run = dict(device=device, name=name, progress=progress, change=change)
    if results is None:
        return fine_tune(method, model, dataset, output, config, **run)
    parameters = {"defense": defense, "dataset": dataset, "fault": fault, "with": method.own, **asdict(config)}
    cell = train_cell(name, model, **parameters)
    team = join(device)  # before the model is loaded: it makes `cuda` mean this process's own GPU
    if team.is_main_process:
        claim_folder(output, cell)
    team.wait_for_everyone()
    fine_tune(method, model, dataset, output, config, **run)
    return conclude_training(cell, output, results, began, started, config.seed, device)


def conclude_training(cell, output, results, began, started, seed, device):
    """Write log and record of a model that is trained now; of several processes, the first one does. Returns the model's folder."""
    team = join(device)
    if not team.is_main_process:
        return output
    write_atomic(Path(results) / "training" / f"{cell.model}.csv", lambda path: shutil.copyfile(output / "log.csv", path))
    if not is_current(read_record(results, cell.id), cell.hash):
        trained = json.loads((output / "mmcoa.json").read_text())
        made = provenance(started, time.monotonic() - began, seed, device, torch.get_num_threads(), hardware(device))
        kept = {key: trained[key] for key in ("seconds", "images", "train_samples", "pictures", "held_out") if key in trained}
        kept |= {"processes": team.num_processes} if team.num_processes > 1 else {}  # their sums round otherwise than one's
        write_record(results, cell, made, training=kept)
    return output


def claim_folder(output, cell):
    """Mark a study's checkpoint folder as this cell's; what an outdated cell left in it is removed."""
    marker = output / MARKER
    if marker.is_file():
        if json.loads(marker.read_text())["hash"] != cell.hash:
            shutil.rmtree(output)
    elif (output / "mmcoa.json").is_file():
        raise UserError(f"{output} holds a checkpoint that no study made; move it away")
    write_atomic(marker, lambda path: path.write_text(json.dumps({"cell": cell.id, "hash": cell.hash})))


def run_evaluate_cells(
    model,
    datasets,
    attacks=("clean", "image", "text", "multimodal"),
    *,
    sweeps=(),
    resize="openclip",
    device="auto",
    name=None,
    output=None,
    progress=None,
    **settings,
):
    """Evaluate one model on one or many data sets, then at the points of each sweep, and return all result rows.

    Arguments:
        sweeps: dicts as under `sweeps` in a profile, without `models`.
        name: the model's id in the study.
        output: results/PROFILE. Each cell's record and per-sample outcomes are written there as it is finished, and a cell
            whose record is current is read instead; one that was killed goes on from its last finished batch.
        progress: called with (what is evaluated, samples done, samples in all).
        settings: any of `EVALUATE_DEFAULTS`.

    Rows are those of `mmcoa.evaluate` with `sweep` and `sweep_value`. A cell that fails does not keep the others from
    running; the error comes after the last.
    """
    for parameter in settings:
        if parameter not in EVALUATE_DEFAULTS:
            raise unknown("parameter", parameter, parameters_of(run_evaluate_cells))
    tune_allocator()
    datasets = [datasets] if isinstance(datasets, str) else list(datasets)
    name, weights = name or safe_name(Path(model).name), model_hash(model)
    main = {**EVALUATE_DEFAULTS, **settings, "datasets": datasets, "attacks": list(attacks)}
    cells = evaluate_cells(name, weights, main, read_sweeps(sweeps), resize)
    load = functools.cache(lambda precision: load_model(model, device, resize=resize, precision=precision))
    rows, failures = [], {}
    for cell in cells:
        record = read_record(output, cell.id) if output is not None else None
        if not is_current(record, cell.hash):
            loaded = load(cell.parameters["precision"])
            try:
                record = compute(cell, loaded, output, progress)
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


def hardware(device):
    """Name of the GPU that a device means; None for a CPU."""
    return torch.cuda.get_device_name(device) if device.startswith("cuda") else None


def described(cell):
    """A cell in words: `openmoji/birds, epsilon 1/255`."""
    return ", ".join(filter(None, (cell.parameters["dataset"], f"{cell.sweep} {cell.sweep_value}".strip())))


def compute(cell, loaded, output, progress):
    """Evaluate one cell with the model that it is about and, with `output`, write record and outcomes. Returns {"rows": rows}."""
    settings, began, started = cell.parameters, time.monotonic(), time.time()
    threat = preset(default_threat(loaded, **{key: settings[key] for key in THREAT_FIELDS}), settings["preset"])
    reading = {"prompts": settings["prompts"], "transform": settings["transform"], "image_size": loaded.image_size[0]}
    dataset = load_dataset(settings["dataset"], settings["split"], samples=settings["samples"], stream=True, **reading)
    learns = needs_attacker(settings["attacks"], threat) and settings["split"] != "train"  # never from what is evaluated
    attacker = attacker_dataset(settings["dataset"], threat, **reading) if learns else None
    check = load_check(settings["check_dataset"], settings["check_samples"]) if settings["check_dataset"] else None
    report = (lambda done, total: progress(described(cell), done, total)) if progress else None
    # Parts of an unfinished evaluation count for the same code and inputs alone: the hash is part of their place.
    parts = None if output is None else Path(output) / "partial" / cell.id
    resume = None if output is None else parts / cell.hash[:16]
    found = evaluate(
        loaded, dataset, settings["attacks"], threat, progress=report, attacker=attacker, resume=resume, check=check
    )
    rows = [{**row, "sweep": cell.sweep, "sweep_value": cell.sweep_value} for row in found]
    if output is not None:
        write_outcomes(found.outcomes, Path(output) / "outcomes", cell.id)
        device = str(loaded.device)
        made = provenance(
            started, time.monotonic() - began, settings["seed"], device, torch.get_num_threads(), hardware(device)
        )
        write_record(output, cell, made, rows, found.changes, checks=found.checks, notes=found.notes)
        shutil.rmtree(parts, ignore_errors=True)  # also what an outdated cell of this name left
        with contextlib.suppress(OSError):
            parts.parent.rmdir()  # empty after the last one
    return {"rows": rows}


def needs_attacker(attacks, threat):
    """Whether one of the attacks learns from labelled pictures of the train split, which take seconds to draw."""
    leaves = [find(leaf) for name in attacks for leaf in (find(name).parts or (name,))]
    return any(leaf.judged == "joint" or (leaf.text and threat.text_score == "margin") for leaf in leaves)


@functools.cache
def load_check(name, samples):
    """The pictures of the self-checks: the first test samples of a data set, the same for every cell."""
    return load_dataset(name, samples=samples)


def run_spec(path):
    """Run the cells that a SPEC.json describes; what the notebook of that kind does, without its figures."""
    try:
        spec = json.loads(Path(path).read_text(encoding="utf8"))
        kind, parameters = spec["kind"], dict(spec["parameters"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: expected JSON with 'kind' and 'parameters', as in runs/PROFILE/specs/ ({error})") from error
    if kind not in KINDS:
        raise UserError(f"{path}: {unknown('kind', kind, KINDS)}")
    if kind == "evaluate" and "dataset" in parameters:  # the notebook's parameter takes one name or a list
        parameters["datasets"] = parameters.pop("dataset")
    names = parameters_of(KINDS[kind])
    for parameter in parameters:
        if parameter not in names:
            raise UserError(f"{path}: {unknown('parameter', parameter, names)}")
    return KINDS[kind](**parameters)


def parameters_of(function):
    """Names of all parameters that a cell's function takes."""
    named = [name for name in inspect.signature(function).parameters if name not in ("settings", "progress")]
    rest = {run_evaluate_cells: EVALUATE_DEFAULTS, run_pretrain_cell: PRETRAIN_SETTINGS, run_train_cell: training.KINDS}
    return [*named, *rest.get(function, ())]


# Of a pretrain cell, but for the data: names and defaults are those of `pretrain`.
PRETRAIN_SETTINGS = {
    name: value.default
    for name, value in inspect.signature(pretrain).parameters.items()
    if value.kind is value.KEYWORD_ONLY and name not in ("device", "progress")
}
KINDS = {"pretrain": run_pretrain_cell, "train": run_train_cell, "evaluate": run_evaluate_cells}


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m mmcoa.study.cell SPEC.json")
    try:
        run_spec(sys.argv[1])
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
