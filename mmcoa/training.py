"""Adversarial fine-tuning (and pre-training): one readable loop.

    model = mmcoa.load_model("openmoji-clip")
    source = ShuffledDataset(mmcoa.load_dataset("openmoji/birds", "train"), batch_size=64, seed=0)
    train(model, source, TrainConfig(defense="mmcoa", steps=100), "runs/mmcoa-birds", threat=ThreatModel(steps=3))

Everything random is a function of (seed, step): batches, random starts of the inner attack. So a run continues from a
checkpoint of weights and optimiser alone, and on one machine with one thread count ends in the same bits.
"""

import csv
import json
import math
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from safetensors.torch import save_file

from mmcoa import defenses
from mmcoa.clip import image_parameters, save_checkpoint, text_parameters
from mmcoa.errors import UserError
from mmcoa.state import TrainingState

INHERITED = ("epsilon", "inner_steps", "train_defaults")  # a model's defaults, which its fine-tuned versions keep


@dataclass(frozen=True)
class TrainConfig:
    """How to train. Defaults are the embedded model's; see `defaults_for` for others."""

    defense: str
    steps: int = 100
    batch_size: int = 64
    lr: float = 3e-4  # peak, after `warmup` steps; then a cosine to zero
    warmup: int = 10
    weight_decay: float = 0.2  # decoupled (AdamW), on matrices only: no biases, norms or logit scale (trap T3)
    betas: tuple = (0.9, 0.98)
    clip_norm: float = 1.0  # of the whole gradient
    lambda_image: float = 0.5  # weight of the adversarial-image term
    lambda_text: float = 0.5  # weight of the adversarial-text term
    positives: str = "class"  # `class` or `index`: see defenses/losses.py
    seed: int = 0
    checkpoint_every: int = 200  # steps
    log_every: int = 10  # steps


def learning_rate(step, config):
    """Linear warm-up, then a cosine to zero."""
    if step < config.warmup:
        return config.lr * (step + 1) / config.warmup
    progress = (step - config.warmup) / max(1, config.steps - config.warmup)
    return config.lr * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def trainable_parameters(model, trains):
    """Parameters of the towers named in `trains`; the others, and nothing else, are frozen. Logit scale goes with text."""
    model.requires_grad_(False)
    parameters = (image_parameters(model) if "image" in trains else []) + (text_parameters(model) if "text" in trains else [])
    parameters += [model.clip.logit_scale] if "text" in trains else []
    return [p.requires_grad_(True) for p in parameters]


def make_optimizer(parameters, config):
    """AdamW; weight decay on matrices only."""
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.lr, betas=config.betas)


def train(model, source, config, output, frozen=None, threat=None, metadata=None, progress=None):
    """Train `model` in place and write a checkpoint folder.

    Arguments
        model: `ImageTextModel`.
        source: step -> `Batch`.
        config: `TrainConfig`; its `defense` names a module of `mmcoa.defenses`.
        output: folder; holds the checkpoint, `log.csv` and, until the run is done, `state/`. If it holds an unfinished
            run of the same configuration, that run goes on; a finished one is returned as it is.
        frozen: the model before training, for objectives that need it.
        threat: `ThreatModel` of the inner attack.
        metadata: further entries of mmcoa.json.
        progress: called with (step, steps, logs) at each logged step.

    Returns the folder. Raises `UserError` where `output` holds another run, `FloatingPointError` at a loss that is not
    finite (the batch is saved beside the log).
    """
    output = Path(output)
    module = defenses.load(config.defense)
    identity = {"config": asdict(config), "threat": asdict(threat) if threat else None, "base": model.fingerprint()}
    identity = json.loads(json.dumps(identity, default=str))
    state = TrainingState(output, identity)
    if state.finished():
        return output
    model.eval()  # CLIP has neither dropout nor batch norm in its ViT; a ResNet tower keeps its running statistics
    parameters = trainable_parameters(model, module.TRAINS)
    optimizer = make_optimizer(parameters, config)
    start, seconds = state.restore(model, optimizer)
    log = Log(output / "log.csv", start)
    began = time.monotonic() - seconds
    for step in range(start, config.steps):
        batch = source(step).to(model.device)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, config)
        loss, logs = module.objective(model, frozen, batch, threat, config)
        if not torch.isfinite(loss):
            path = output / f"diverged-step-{step}.safetensors"
            save_file({"images": batch.images.cpu(), "labels": batch.labels.cpu()}, path)
            raise FloatingPointError(f"loss is {loss.item()} at step {step}; the batch is in {path}; try a smaller lr")
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(parameters, config.clip_norm)
        optimizer.step()
        if model.clip.logit_scale.requires_grad:
            with torch.no_grad():
                model.clip.logit_scale.clamp_(0, math.log(100))  # as CLIP was trained
        if step % config.log_every == 0 or step == config.steps - 1:
            elapsed = time.monotonic() - began
            rate = (step + 1) * len(batch.images) / elapsed
            row = {"step": step, "loss": loss.item(), **logs, "lr": learning_rate(step, config), "gradient_norm": norm.item()}
            row |= {"seconds": round(elapsed, 2), "images_per_second": round(rate, 1)}
            log.write(row)
            if progress:
                progress(step, config.steps, row)
        if (step + 1) % config.checkpoint_every == 0 and step + 1 < config.steps:
            state.save(model, optimizer, step + 1, time.monotonic() - began)
    model.requires_grad_(False)
    seconds = round(time.monotonic() - began, 1)
    info = {"defense": config.defense, "training": identity, "seconds": seconds, "images": config.steps * len(batch.images)}
    inherited = {key: model.metadata[key] for key in INHERITED if key in model.metadata}
    save_checkpoint(model, output, {**inherited, **(metadata or {}), **info})
    state.discard()
    return output


class Log:
    """Tidy CSV, a row each logged step; rows at or after `start` (of a run that was killed) are dropped."""

    def __init__(self, path, start):
        path.parent.mkdir(parents=True, exist_ok=True)
        kept = []
        if start and path.is_file():
            with path.open(newline="") as file:
                kept = [row for row in csv.DictReader(file) if int(row["step"]) < start]
        self.path, self.fields = path, list(kept[0]) if kept else None
        with path.open("w", newline="") as file:
            if kept:
                writer = csv.DictWriter(file, self.fields)
                writer.writeheader()
                writer.writerows(kept)

    def write(self, row):
        with self.path.open("a", newline="") as file:
            writer = csv.DictWriter(file, list(row))
            if self.fields is None:
                self.fields = list(row)
                writer.writeheader()
            writer.writerow(row)


def defaults_for(model, **changes):
    """`TrainConfig` with the defaults that the model's checkpoint states (mmcoa.json, `train_defaults`), then `changes`."""
    config = TrainConfig(**{"defense": "mmcoa", **model.metadata.get("train_defaults", PUBLIC_DEFAULTS)})
    try:
        return replace(config, **{key: value for key, value in changes.items() if value is not None})
    except TypeError as error:
        raise UserError(f"unknown training setting: {error}") from error


# The paper's public settings for ViT-B/32 (arXiv 2404.19287): lr 1e-6, batch 256; steps depend on the data set.
PUBLIC_DEFAULTS = {"lr": 1e-6, "batch_size": 256, "steps": 1000, "warmup": 100}
