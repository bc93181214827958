"""What a cell computes. The notebooks call these two functions; without Jupyter the same work is

    python -m mmcoa.study.cell SPEC.json        # {"kind": "train" or "evaluate", "parameters": {...}}, as in runs/PROFILE/specs/
"""

import importlib.util
import inspect
import json
import shutil
import sys
import time
from pathlib import Path

import torch

from mmcoa.clip import load_model, resolve_device
from mmcoa.datasets import load_dataset
from mmcoa.errors import UserError, unknown
from mmcoa.evaluation import evaluate
from mmcoa.finetune import fine_tune
from mmcoa.runtime import tune_allocator
from mmcoa.study.cells import evaluate_cell, train_cell
from mmcoa.study.profiles import safe_name
from mmcoa.study.records import is_current, provenance, read_record, write_atomic, write_record
from mmcoa.study.sources import MARKER, model_hash
from mmcoa.threat import default_threat


def run_train_cell(
    defense,
    model,
    dataset,
    output,
    *,
    split="train",
    samples=None,
    shots=None,
    steps=None,
    batch_size=None,
    inner_steps=None,
    epsilon=None,
    lr=None,
    lambda_image=None,
    lambda_text=None,
    positives=None,
    candidate_source="table:train",
    seed=0,
    device="auto",
    name=None,
    results=None,
    progress=None,
):
    """Fine-tune `model` on `dataset` and write the checkpoint folder `output`; None: the model's own default.

    `name`: what results call the model (default DEFENSE-seedSEED). With `results` (results/PROFILE) the record of the cell
    is written there. A finished checkpoint of the same cell is kept, an unfinished one continued; in a study, one of an
    outdated cell is removed first. Returns the folder; see `mmcoa.finetune.fine_tune` for the parameters.
    """
    tune_allocator()
    began, started = time.monotonic(), time.time()
    output, name = Path(output), name or f"{defense}-seed{seed}"
    settings = dict(defense=defense, dataset=dataset, split=split, samples=samples, shots=shots, steps=steps, batch_size=batch_size)
    settings |= dict(inner_steps=inner_steps, epsilon=epsilon, lr=lr, lambda_image=lambda_image, lambda_text=lambda_text)
    settings |= dict(positives=positives, candidate_source=candidate_source, seed=seed)
    device = str(resolve_device(device))
    if results is None:
        return fine_tune(model=model, output=output, device=device, name=name, progress=progress, **settings)
    cell = train_cell(name, model, **settings)
    claim_folder(output, cell)
    fine_tune(model=model, output=output, device=device, name=name, progress=progress, **settings)
    if not is_current(read_record(results, cell.id), cell.hash):
        trained = json.loads((output / "mmcoa.json").read_text())
        made = provenance(started, time.monotonic() - began, seed, device, torch.get_num_threads())
        write_record(results, cell, made, training={"seconds": trained["seconds"], "images": trained["images"]})
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
    split="test",
    samples=None,
    epsilon=None,
    steps=10,
    restarts=1,
    norm="linf",
    attacked_space="native",
    candidate_source="table:eval",
    seed=0,
    resize="openclip",
    device="auto",
    name=None,
    output=None,
    progress=None,
):
    """Evaluate one model on one or many data sets, and return all result rows.

    `output` (results/PROFILE): write each data set's record and per-sample outcomes there as it is finished, and skip
    those whose record is current. `name`: the model's id in the study. `progress`: called with (data set, samples done,
    samples in all). One data set that fails does not keep the others from running; the error comes after the last.
    """
    tune_allocator()
    datasets = [datasets] if isinstance(datasets, str) else list(datasets)
    name, weights = name or safe_name(Path(model).name), model_hash(model)
    settings = dict(split=split, samples=samples, attacks=list(attacks), epsilon=epsilon, steps=steps, restarts=restarts, norm=norm)
    settings |= dict(attacked_space=attacked_space, candidate_source=candidate_source, seed=seed, resize=resize)
    loaded, rows, failures = None, [], {}
    for dataset in datasets:
        cell = evaluate_cell(name, weights, dataset, **settings)
        record = read_record(output, cell.id) if output is not None else None
        if is_current(record, cell.hash):
            rows += record["rows"]
            continue
        loaded = loaded or load_model(model, device, resize=resize)
        threat = default_threat(
            loaded, epsilon=epsilon, steps=steps, restarts=restarts, norm=norm, attacked_space=attacked_space,
            candidate_source=candidate_source, seed=seed,
        )  # fmt: skip
        began, started = time.monotonic(), time.time()
        report = (lambda done, total, dataset=dataset: progress(dataset, done, total)) if progress else None
        try:
            evaluation = evaluate(loaded, load_dataset(dataset, split=split, samples=samples), attacks, threat, progress=report)
        except (UserError, RuntimeError) as error:  # RuntimeError: out of memory on one data set
            failures[dataset] = error
            continue
        rows += evaluation
        if output is not None:
            write_outcomes(evaluation.outcomes, Path(output) / "outcomes", cell.id)
            made = provenance(started, time.monotonic() - began, seed, str(loaded.device), torch.get_num_threads())
            write_record(output, cell, made, evaluation, evaluation.changes)
    if failures:
        dataset, error = next(iter(failures.items()))
        if len(datasets) == 1:
            raise error
        raise UserError(f"{len(failures)} of {len(datasets)} data sets failed; {dataset}: {error}") from error
    return rows


def write_outcomes(outcomes, folder, cell_id):
    """Per-sample outcomes as CELL.parquet; as CELL.npz on a machine without pyarrow."""
    if importlib.util.find_spec("pyarrow"):
        return write_atomic(folder / f"{cell_id}.parquet", lambda path: outcomes.to_parquet(path, index=False))
    import numpy as np

    def write(path):
        with path.open("wb") as file:
            np.savez_compressed(file, **{column: outcomes[column].to_numpy() for column in outcomes})

    return write_atomic(folder / f"{cell_id}.npz", write)


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
    names = inspect.signature(KINDS[kind]).parameters
    for parameter in parameters:
        if parameter not in names:
            raise UserError(f"{path}: {unknown('parameter', parameter, names)}")
    return KINDS[kind](**parameters)


KINDS = {"train": run_train_cell, "evaluate": run_evaluate_cells}


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m mmcoa.study.cell SPEC.json")
    try:
        run_spec(sys.argv[1])
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
