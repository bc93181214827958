"""Fine-tune a named model on a named data set: what `mmcoa train`, the notebook and the study all call."""

import copy
import os
from dataclasses import replace

from mmcoa import defenses
from mmcoa.datasets import load_dataset
from mmcoa.datasets.batches import ShuffledDataset
from mmcoa.model.clip import check_prompts
from mmcoa.model.loading import load_model
from mmcoa.training import heldout
from mmcoa.training.config import TrainConfig
from mmcoa.training.loop import train


def fine_tune(
    defense,
    model,
    dataset,
    output,
    config=None,
    *,
    device="auto",
    name=None,
    progress=None,
    change=None,
    **reading,
):
    """Train a defence from model `model` on data set `dataset`; write the checkpoint folder `output`.

    Arguments:
        defense: its name, or `mmcoa.defenses.choose(name, settings)` with settings of its own.
        config: `TrainConfig`, or None: all defaults. None in it stands for the model's own default (its mmcoa.json; for
            others the paper's public ones). Results are judged on another candidate table than its `candidate_source`.
        name: what results call the new model (default: the folder's name).
        progress: called with (step, steps, logs) at each logged step.
        reading: of `load_dataset`: template, templates, classnames, prompts, transform, skip_unreadable. Of several templates
            each step trains with the next, as each counts in an evaluation; the held-out slice is measured with the first.
        change: function from the keyword arguments of `train` to other ones: a fault of the released code (faults.py).

    Returns the folder; raises `UserError` for what the caller got wrong. Killed runs go on where they were.
    """
    defense = defenses.choose(defense) if isinstance(defense, str) else defense
    base = load_model(model, device)
    config = (config or TrainConfig()).for_model(base.metadata)
    whole = load_dataset(dataset, config.split, seed=config.seed, **base.picture_input, **reading)
    for prompts in whole.prompt_sets():
        check_prompts(base, prompts)
    data, slice_ = heldout.split(whole, config.held_out, config.shots, config.samples, config.seed)
    source = ShuffledDataset(data, config.batch_size, config.seed, base.device)
    if config.epochs is not None:
        config = replace(config, steps=-(-config.epochs * len(data) // source.batch_size), epochs=None)
    metadata = {
        "name": name or str(output).rstrip("/").rsplit("/", 1)[-1],
        **_origin(base, output),
        "trained_on": data.name,
        "train_samples": len(data),
        "train_seed": config.seed,
        "shots": config.shots,
        "prompts": whole.prompt_preset,
        "transform": whole.transform,
    }
    if whole.skipped:
        metadata["skipped"] = whole.skipped
    if "trained_on" in base.metadata:  # one training goes on from another one's model: what that one was
        metadata["started_from"] = {key: base.metadata.get(key) for key in ("name", "defense", "trained_on")}
    arguments = dict(source=source, defense=defense, config=config, threat=config.threat(), metadata=metadata)
    arguments |= {"held_out": slice_ if len(slice_) else None}
    if change is not None:
        arguments = change(arguments)
    frozen = copy.deepcopy(base).requires_grad_(False)
    return train(base, output=output, frozen=frozen, progress=progress, **arguments)


def _origin(base, output):
    """What a checkpoint says of the model before any fine-tuning, so that it is found again (`frozen_model`) or missed."""
    if "base_model" in base.metadata:
        told = {key: base.metadata[key] for key in ("base_model", "base_folder", "base_weights") if key in base.metadata}
        home = told.get("base_folder")
    else:
        home = base.folder and str(base.folder)
        told = {"base_model": base.source or base.name, "base_weights": base.fingerprint()}
        told |= {"base_folder": home} if home else {}
    return told | ({"base_beside": os.path.relpath(home, output)} if home else {})
