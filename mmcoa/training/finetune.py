"""Fine-tune a named model on a named data set: what `mmcoa train`, the notebook and the study all call."""

import copy

from mmcoa.datasets import load_dataset
from mmcoa.datasets.batches import ShuffledDataset
from mmcoa.errors import UserError
from mmcoa.model.loading import load_model
from mmcoa.threat import default_threat
from mmcoa.training import heldout
from mmcoa.training.loop import defaults_for, train

PUBLIC_INNER_STEPS = 10  # PGD-10 inside the training of ViT-B/32 (arXiv 2404.19287)
HELD_OUT = 64  # pictures of the training set that choose the best state


def fine_tune(
    defense,
    model,
    dataset,
    output,
    *,
    split="train",
    samples=None,
    shots=None,
    epochs=None,
    epsilon=None,
    inner_steps=None,
    candidate_source="table:train",
    held_out=HELD_OUT,
    seed=0,
    device="auto",
    name=None,
    progress=None,
    change=None,
    **config,
):
    """Train defence `defense` from model `model` on data set `dataset`; write the checkpoint folder `output`.

    Arguments:
        samples, shots: train on so many pictures, or on so many of each class; a class with fewer is an error.
        epochs: passes over the chosen samples; excludes `steps`.
        epsilon, inner_steps, candidate_source: of the inner attacks; results are judged on another candidate table.
        held_out: pictures of the split that are not trained on but measured now and then (heldout.py); 0: none.
        name: what results call the new model (default: the folder's name).
        change: function from the keyword arguments of `train` to other ones, for ablations.
        config: fields of `TrainConfig`.

    None stands for the model's own default (its mmcoa.json; for others the paper's public settings). Returns the folder;
    raises `UserError` for what the caller got wrong. Killed runs go on where they were.
    """
    if config.get("steps") is not None and epochs is not None:
        raise UserError("give steps or epochs, not both")
    base = load_model(model, device)
    config = defaults_for(base, defense=defense, seed=seed, **config)
    whole = load_dataset(dataset, split, seed=seed)
    data, slice_ = heldout.split(whole, held_out, shots, samples, seed)
    source = ShuffledDataset(data, config.batch_size, seed, base.device)
    if epochs is not None:
        config = defaults_for(base, **{**config.__dict__, "steps": -(-epochs * len(data) // source.batch_size)})
    steps_inside = inner_steps or base.metadata.get("inner_steps", PUBLIC_INNER_STEPS)
    threat = default_threat(base, epsilon=epsilon, steps=steps_inside, candidate_source=candidate_source, seed=seed)
    metadata = {
        "name": name or str(output).rstrip("/").rsplit("/", 1)[-1],
        "base_model": base.metadata.get("base_model", base.name),
        "trained_on": data.name,
        "train_samples": len(data),
        "train_seed": seed,
        "shots": shots,
    }
    arguments = dict(source=source, config=config, threat=threat, metadata=metadata, held_out=slice_ if len(slice_) else None)
    if change is not None:
        arguments = change(arguments)
    frozen = copy.deepcopy(base).requires_grad_(False)
    return train(base, output=output, frozen=frozen, progress=progress, **arguments)
