"""Fine-tune a named model on a named data set: what `mmcoa train`, the notebook and the study all call."""

import copy

from mmcoa.clip import load_model
from mmcoa.datasets import load_dataset
from mmcoa.datasets.batches import ShuffledDataset
from mmcoa.threat import default_threat
from mmcoa.training import defaults_for, train

PUBLIC_INNER_STEPS = 10  # PGD-10 inside the training of ViT-B/32 (arXiv 2404.19287)


def fine_tune(
    defense,
    model,
    dataset,
    output,
    *,
    split="train",
    samples=None,
    shots=None,
    steps=None,
    epochs=None,
    batch_size=None,
    lr=None,
    epsilon=None,
    inner_steps=None,
    candidate_source="table:train",
    positives=None,
    lambda_image=None,
    lambda_text=None,
    seed=0,
    device="auto",
    name=None,
    progress=None,
):
    """Train defence `defense` from model `model` on data set `dataset`; write the checkpoint folder `output`.

    None stands for the model's own default (its mmcoa.json; for others the paper's public settings). `epochs` counts
    passes over the chosen samples and excludes `steps`. Inner attacks use `epsilon`, `inner_steps` and `candidate_source`;
    results are judged on another candidate table. `name` is what results call the new model (default: the folder's name).
    Returns the folder; raises `UserError` for what the caller got wrong. Killed runs go on where they were.
    """
    data = load_dataset(dataset, split, samples=samples, shots=shots, seed=seed)
    base = load_model(model, device)
    config = defaults_for(
        base, defense=defense, batch_size=batch_size, lr=lr, steps=steps, positives=positives,
        lambda_image=lambda_image, lambda_text=lambda_text, seed=seed,
    )  # fmt: skip
    source = ShuffledDataset(data, config.batch_size, seed)
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
    }
    frozen = copy.deepcopy(base).requires_grad_(False)
    return train(base, source, config, output, frozen=frozen, threat=threat, metadata=metadata, progress=progress)
