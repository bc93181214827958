"""Adversarial fine-tuning (and pre-training): one readable loop, on one process or many.

    model = mmcoa.load_model("openmoji-clip")
    source = ShuffledDataset(mmcoa.load_dataset("openmoji/birds", "train"), batch_size=64, seed=0)
    train(model, source, TrainConfig(defense="mmcoa", steps=100), "runs/mmcoa-birds", threat=ThreatModel(steps=3))

Everything random is a function of (seed, step): batches, random starts of the inner attack. So a run continues from a
checkpoint of weights and optimiser, and on one machine with one thread count ends in the same bits.
"""

import json
import math
import shutil
import time
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import torch
from safetensors.torch import save_file

from mmcoa import defenses
from mmcoa.distributed import average_gradients, join, mean_over_processes
from mmcoa.errors import UserError, unknown
from mmcoa.model.clip import PRECISIONS
from mmcoa.model.loading import save_checkpoint
from mmcoa.training import heldout
from mmcoa.training.checkpoint import TrainingState
from mmcoa.training.log import Log, LossWatch
from mmcoa.training.model_card import write_card
from mmcoa.training.trainable import make_trainable, merge, towers

INHERITED = ("epsilon", "inner_steps", "train_defaults")  # a model's defaults, which its fine-tuned versions keep


@dataclass(frozen=True)
class TrainConfig:
    """How to train. Defaults are the embedded model's; see `defaults_for` for others. Raises `UserError` for impossible values."""

    defense: str
    steps: int = 100
    batch_size: int = 64  # of all processes together
    lr: float = 3e-4  # peak, after `warmup` steps; then a cosine to zero
    warmup: int = 10
    weight_decay: float = 0.2  # decoupled (AdamW), on matrices only: no biases, norms or logit scale (trap T3)
    betas: tuple = (0.9, 0.98)
    clip_norm: float = 1.0  # of the whole gradient
    lambda_image: float = 0.5  # weight of the adversarial-image term
    lambda_text: float = 0.5  # weight of the adversarial-text term
    positives: str = "class"  # `class` or `index`: see defenses/losses.py
    trains: str | None = None  # `image`, `text` or `both` towers; None: the defence's own
    last_blocks: int | None = None  # of each trained tower; None: all of it
    lora_rank: int | None = None  # low-rank changes instead of whole matrices; see trainable.py
    precision: str = "fp32"  # or `bf16`: both towers under autocast, weights and losses in fp32
    accumulate: int = 1  # parts of a batch that go through the model one after another, each contrasted within itself
    gradient_checkpointing: bool = False  # computes activations again instead of keeping them
    seed: int = 0
    checkpoint_every: int = 50  # steps
    evaluate_every: int = 50  # steps; on the held-out slice
    log_every: int = 10  # steps

    def __post_init__(self):
        for name in ("steps", "batch_size", "accumulate", "checkpoint_every", "evaluate_every", "log_every"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.precision not in PRECISIONS:
            raise unknown("precision", self.precision, PRECISIONS)
        towers(self.trains, ())


def learning_rate(step, config):
    """Linear warm-up, then a cosine to zero."""
    if step < config.warmup:
        return config.lr * (step + 1) / config.warmup
    progress = (step - config.warmup) / max(1, config.steps - config.warmup)
    return config.lr * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def make_optimizer(parameters, config):
    """AdamW; weight decay on matrices only."""
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.lr, betas=config.betas)


def train(
    model, source, config, output, frozen=None, threat=None, metadata=None, progress=None, held_out=None, objective=None,
    optimizer=make_optimizer, variant="",
):  # fmt: skip
    """Train `model` in place and write a checkpoint folder.

    Arguments:
        model: `ImageTextModel`.
        source: step -> `Batch`, the same in every process.
        config: `TrainConfig`; its `defense` names a module of `mmcoa.defenses`.
        output: folder; holds the checkpoint, `log.csv`, a model card, `best/` where an earlier state did better on the held-out
            slice, and, until the run is done, `state/`. If it holds an unfinished run of the same configuration, that run
            goes on; a finished one is returned as it is.
        frozen: the model before training, for objectives that need it.
        threat: `ThreatModel` of the inner attack.
        metadata: further entries of mmcoa.json.
        progress: called with (step, steps, logs) at each logged step.
        held_out: `Dataset`, a slice of the training set, measured every `evaluate_every` steps (heldout.py).
        objective, optimizer, variant: in place of the defence's own and of `make_optimizer`, under a name that says so.

    Returns the folder. Raises `UserError` where `output` holds another run, `FloatingPointError` at a loss that is not
    finite or grows out of bounds (batch and step are saved beside the log).
    """
    output = Path(output)
    module = defenses.load(config.defense)
    objective = objective or module.objective
    identity = {"config": asdict(config), "threat": asdict(threat) if threat else None, "base": model.fingerprint()}
    identity |= {"variant": variant} if variant else {}
    identity = json.loads(json.dumps(identity, default=str))
    state = TrainingState(output, identity)
    if state.finished():
        if not (Path(output) / "README.md").is_file():  # killed just before the card
            write_card(output)
        return output
    team = join(model.device)
    model.eval()  # CLIP has neither dropout nor batch norm in its ViT; a ResNet tower keeps its running statistics
    model.precision = model.text_precision = config.precision
    model.clip.set_grad_checkpointing(config.gradient_checkpointing)
    model.class_features = None
    parameters = make_trainable(model, towers(config.trains, module.TRAINS), config.last_blocks, config.lora_rank, config.seed)
    stepper = optimizer(parameters, config)
    torch.manual_seed(config.seed)
    done = state.restore(model, stepper)
    best, watch = done.get("best"), LossWatch(done.get("losses"))
    log = Log(output / "log.csv", done["step"]) if team.is_main_process else None
    began = time.monotonic() - done.get("seconds", 0.0)
    for step in range(done["step"], config.steps):
        batch = source(step).to(model.device)
        for group in stepper.param_groups:
            group["lr"] = learning_rate(step, config)
        stepper.zero_grad(set_to_none=True)
        loss, logs = forward_backward(objective, model, frozen, batch, threat, config, team)
        if reason := watch.add(loss):
            path = output / f"diverged-step-{step}.safetensors"
            if team.is_main_process:
                output.mkdir(parents=True, exist_ok=True)
                save_file({"images": batch.images.cpu().contiguous(), "labels": batch.labels.cpu()}, path)
            raise FloatingPointError(f"loss is {loss:.4g} at step {step}: {reason}; the batch is in {path}; try a smaller lr")
        average_gradients(parameters)
        norm = torch.nn.utils.clip_grad_norm_(parameters, config.clip_norm)
        stepper.step()
        if model.clip.logit_scale.requires_grad:
            with torch.no_grad():
                model.clip.logit_scale.clamp_(0, math.log(100))  # as CLIP was trained
        at_end = step == config.steps - 1
        measured = {}
        if (
            held_out is not None
            and len(held_out)
            and team.is_main_process
            and (at_end or (step + 1) % config.evaluate_every == 0)
        ):
            measured = heldout.measure(model, held_out, threat, frozen)
            if best is None or (measured["robust"], measured["clean"]) > (best["robust"], best["clean"]):
                best = {"step": step + 1, **measured}
                if not at_end:
                    save_checkpoint(
                        model, output / "best", {**inherited(model, metadata), "step": step + 1, "held_out": measured}
                    )
        if team.is_main_process and (step % config.log_every == 0 or at_end or measured):
            elapsed = time.monotonic() - began
            row = {"step": step, "loss": loss, **logs, "lr": learning_rate(step, config), "gradient_norm": norm.item()}
            row |= {"seconds": round(elapsed, 2), "images_per_second": round((step + 1) * len(batch) / elapsed, 1)}
            row |= {f"held_out_{name}": measured.get(name, "") for name in heldout.MEASURED} if held_out is not None else {}
            log.write(row)
            if progress:
                progress(step, config.steps, row)
        if team.is_main_process and (step + 1) % config.checkpoint_every == 0 and not at_end:
            state.save(model, stepper, step + 1, seconds=time.monotonic() - began, best=best, losses=watch.losses)
    model.requires_grad_(False)
    model.precision = model.text_precision = "fp32"
    model.clip.set_grad_checkpointing(False)
    merge(model)
    if team.is_main_process:
        seconds = round(time.monotonic() - began, 1)
        info = {"defense": config.defense, "training": identity, "seconds": seconds, "images": config.steps * len(batch)}
        if best is not None:
            info["held_out"] = {"samples": len(held_out), "final": measured, "best": best}
            if best["step"] == config.steps:
                shutil.rmtree(output / "best", ignore_errors=True)  # of an earlier state that was the best for a while
        save_checkpoint(model, output, {**inherited(model, metadata), **info})
        write_card(output)
        state.discard()
    team.wait_for_everyone()
    return output


def forward_backward(objective, model, frozen, batch, threat, config, team):
    """Gradients of one batch, in parts one after another; (loss, terms), means over parts and processes, as numbers."""
    parts, losses, terms = batch.parts(config.accumulate) if config.accumulate > 1 else [batch], [], []
    for part in parts:
        share = part.share(team.process_index, team.num_processes) if team.num_processes > 1 else part
        loss, logs = objective(model, frozen, share, threat, config)
        if torch.isfinite(loss):
            (loss / len(parts)).backward()
        losses.append(loss.detach())
        terms.append(torch.tensor([*logs.values()], device=loss.device))
    means = mean_over_processes(torch.cat([torch.stack(losses).mean()[None].float(), torch.stack(terms).mean(dim=0)]))
    loss, *values = means.tolist()
    return loss, dict(zip(logs, values, strict=True))


def inherited(model, metadata):
    """Entries of mmcoa.json that a fine-tuned model has from its base, and those of the run."""
    return {**{key: model.metadata[key] for key in INHERITED if key in model.metadata}, **(metadata or {})}


def defaults_for(model, **changes):
    """`TrainConfig` with the defaults that the model's checkpoint states (mmcoa.json, `train_defaults`), then `changes`."""
    config = TrainConfig(**{"defense": "mmcoa", **model.metadata.get("train_defaults", PUBLIC_DEFAULTS)})
    names = [field.name for field in fields(TrainConfig)]
    for key in changes:
        if key not in names:
            raise unknown("training setting", key, names)
    return replace(config, **{key: value for key, value in changes.items() if value is not None})


# The paper's public settings for ViT-B/32 (arXiv 2404.19287): lr 1e-6, batch 256; steps depend on the data set.
PUBLIC_DEFAULTS = {"lr": 1e-6, "batch_size": 256, "steps": 1000, "warmup": 100}
