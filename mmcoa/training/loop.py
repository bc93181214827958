"""Adversarial fine-tuning (and pre-training): one readable loop, on one process or many.

    model = mmcoa.load_model("openmoji-clip")
    source = ShuffledDataset(mmcoa.load_dataset("openmoji/birds", "train"), batch_size=64, seed=0)
    train(model, source, "mmcoa", TrainConfig(steps=100, epsilon=2 / 255, inner_steps=3), "runs/mmcoa-birds")

Everything random is a function of (seed, step): batches, random starts of the inner attack. So a run continues from a
checkpoint of weights and optimiser, and on one machine with one thread count ends in the same bits.
"""

# pyright: reportMissingParameterType=false, reportIndexIssue=false, reportOptionalMemberAccess=false
# pyright: reportPossiblyUnboundVariable=false, reportArgumentType=false, reportAttributeAccessIssue=false

import json
import logging
import math
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from mmcoa import defenses, identity
from mmcoa.datasets.batches import Batch
from mmcoa.datasets.dataset import Dataset
from mmcoa.distributed import average_gradients, join, mean_over_processes
from mmcoa.errors import UserError
from mmcoa.model.clip import ImageTextModel
from mmcoa.model.saving import save_checkpoint
from mmcoa.store.files import digest
from mmcoa.threat import ThreatModel, hint
from mmcoa.training import heldout
from mmcoa.training.checkpoint import TrainingState
from mmcoa.training.config import TrainConfig
from mmcoa.training.log import Log, LossWatch
from mmcoa.training.model_card import write_card
from mmcoa.training.schedule import learning_rate, make_optimizer
from mmcoa.training.trainable import make_trainable, merge, towers
from mmcoa.versions import TRAINING

ADDED = ("base_read_as", "frozen_read_as", "words")  # to the identity of a run: unknown of older ones, which go on
INHERITED = ("epsilon", "inner_steps", "train_defaults")  # a model's defaults, which its fine-tuned versions keep
messages = logging.getLogger(__name__)


def train(
    model: ImageTextModel,
    source: Callable[[int], Batch],
    defense: str | defenses.Defence,
    config: TrainConfig,
    output: str | Path,
    *,
    threat: ThreatModel | None = None,
    frozen: ImageTextModel | None = None,
    held_out: Dataset | None = None,
    metadata: dict[str, Any] | None = None,
    progress: Callable[[int, int, dict], object] | None = None,
    optimizer: Callable[..., torch.optim.Optimizer] = make_optimizer,
) -> Path:
    """Train `model` in place and write a checkpoint folder.

    Arguments:
        model: `ImageTextModel`.
        source: step -> `Batch`, the same in every process.
        defense: name of a module of `mmcoa.defenses`, or a `Defence` with settings of its own (`mmcoa.defenses.choose`).
        config: `TrainConfig`. The choice of data, epochs included, is `fine_tune`'s business.
        output: folder; holds the checkpoint, `log.csv`, a model card, `best/` where an earlier state did better on the held-out
            slice, and, until the run is done, `state/`. If it holds an unfinished run of the same identity, that run goes on; a
            finished one is returned as it is, and a warning of this module's logger says so.
        threat: `ThreatModel` of the inner attack; None: what `config` says.
        frozen: the model before training, for objectives that need it.
        held_out: `Dataset`, a slice of the training set, measured every `evaluate_every` steps (heldout.py).
        metadata: further entries of mmcoa.json.
        progress: called with (step, steps, logs) at each logged step.
        optimizer: function (parameters, config) -> optimiser; of a `Defence` whose `variant` says what it is.

    Returns the folder. Raises `UserError` where `output` holds another run, `FloatingPointError` at a loss that is not
    finite or grows out of bounds (batch and step are saved beside the log).
    """
    output, config = Path(output), config.for_model(model.metadata)
    if config.steps is None:
        raise UserError("epochs are for fine_tune, which knows the samples; give steps")
    defense = defenses.choose(defense) if isinstance(defense, str) else defense
    if threat is None and (defense.inner or held_out is not None):
        threat = config.threat()
    made_of = identify(model, source, defense, config, threat, frozen, held_out)
    came_later = {"config": as_json(asdict(TrainConfig())), "defense": {"with": defense.defaults}}
    came_later |= {key: made_of[key] for key in ADDED} | {"data": {key: made_of["data"].get(key) for key in ("files",)}}
    state = TrainingState(output, made_of, came_later)
    team = join(model.device)
    if state.finished():
        if team.is_main_process:
            messages.warning("note: %s holds this very run, finished before: nothing was trained", output)
            if not (output / "README.md").is_file():  # killed just before the card
                write_card(output)
        return output
    parameters = prepare(model, defense, config)
    stepper = optimizer(parameters, config)
    torch.manual_seed(config.seed)
    done = state.restore(model, stepper)
    if team.is_main_process:
        say_what_is_odd(config, threat, done["step"])
    best, watch = done.get("best"), LossWatch(done.get("losses"))
    log = Log(output / "log.csv", done["step"]) if team.is_main_process else None
    began = time.monotonic() - done.get("seconds", 0.0)
    for step in range(done["step"], config.steps):
        batch, at_end = source(step).to(model.device), step == config.steps - 1
        for group in stepper.param_groups:
            group["lr"] = learning_rate(step, config)
        stepper.zero_grad(set_to_none=True)
        loss, logs = forward_backward(defense, model, frozen, batch, threat, config.accumulate, team)
        if reason := watch.add(loss):
            path = output / f"diverged-step-{step}.safetensors"
            if team.is_main_process:
                save_file({"images": batch.images.cpu().contiguous(), "labels": batch.labels.cpu()}, path)
            raise FloatingPointError(f"loss is {loss:.4g} at step {step}: {reason}; the batch is in {path}; try a smaller lr")
        average_gradients(parameters)
        norm = torch.nn.utils.clip_grad_norm_(parameters, config.clip_norm)
        stepper.step()
        if model.clip.logit_scale.requires_grad:
            with torch.no_grad():
                # As CLIP was trained; SigLIP, which has a bias, was not, and its scale lies above.
                model.clip.logit_scale.clamp_(0, math.log(100) if model.bias is None else None)
        if not team.is_main_process:
            continue
        measured = {}
        if held_out is not None and len(held_out) and (at_end or (step + 1) % config.evaluate_every == 0):
            measured = heldout.measure(model, held_out, threat, frozen)
            if best is None or (measured["robust"], measured["clean"]) > (best["robust"], best["clean"]):
                best = {"step": step + 1, **measured}
                if not at_end:
                    about = {**inherited(model, metadata), "step": step + 1, "held_out": measured}
                    save_checkpoint(model, output / "best", about)
        if step % config.log_every == 0 or at_end or measured:
            elapsed = time.monotonic() - began
            row = {"step": step, "loss": loss, **logs, "lr": learning_rate(step, config), "gradient_norm": norm.item()}
            row |= {"seconds": round(elapsed, 2), "images_per_second": round((step + 1) * len(batch) / elapsed, 1)}
            row |= {f"held_out_{name}": measured.get(name, "") for name in heldout.MEASURED} if held_out is not None else {}
            log.write(row)
            if progress:
                progress(step, config.steps, row)
        if (step + 1) % config.checkpoint_every == 0 and not at_end:
            state.save(model, stepper, step + 1, seconds=time.monotonic() - began, best=best, losses=watch.losses)
    conclude(model)
    if team.is_main_process:
        info = {"defense": defense.name, "inner": defense.inner, "training": made_of}
        info |= {"seconds": round(time.monotonic() - began, 1), "images": config.steps * len(batch)}
        if best is not None:
            info["held_out"] = {"samples": len(held_out), "final": measured, "best": best}
            if best["step"] == config.steps:
                shutil.rmtree(output / "best", ignore_errors=True)  # of an earlier state that was the best for a while
        save_checkpoint(model, output, {**inherited(model, metadata), **info})
        write_card(output)
        state.discard()
    team.wait_for_everyone()
    return output


def say_what_is_odd(config, threat, step):
    """Notes before the first step: where a run goes on, and settings that nobody means."""
    if step:
        messages.warning("note: going on after step %d of %d", step, config.steps)
    if config.warmup > config.steps:
        text = "note: the warm-up (%d steps) is longer than the training (%d): lr ends at %.3g, not %.3g; --set warmup=%d"
        reached = learning_rate(config.steps - 1, config)
        messages.warning(text, config.warmup, config.steps, reached, config.lr, max(0, config.steps // 10))
    if threat is not None and (said := hint(threat.epsilon, threat.norm)):
        messages.warning("note: %s", said)


def identify(model, source, defense, config, threat, frozen, held_out):
    """All that goes into a run, as JSON: what has to be the same for an unfinished one to go on. Devices are not in it."""
    return as_json(
        {
            "config": asdict(config),
            "defense": {"name": defense.name, "version": defense.version, "with": defense.own},
            **({"variant": defense.variant} if defense.variant else {}),
            "training": TRAINING,
            "threat": asdict(threat) if threat else None,
            "base": model.fingerprint(),
            "base_read_as": identity.reading(model),
            "frozen": frozen.fingerprint() if frozen is not None else None,
            "frozen_read_as": identity.reading(frozen) if frozen is not None else None,
            "words": identity.words(threat) if threat else None,
            "data": data_identity(source),
            "held_out": held_out.fingerprint() if held_out is not None and len(held_out) else None,
        }
    )


def data_identity(source):
    """What a source of batches says of itself (`identity()`); of a plain function the labels and prompts of its first batch."""
    if hasattr(source, "identity"):
        return source.identity()
    batch = source(0)
    return {"first_batch": digest([batch.labels.tolist(), list(batch.prompts), batch.seed])[:16]}


def as_json(value):
    """As it comes back from a file: tuples are lists there."""
    return json.loads(json.dumps(value, default=str))


def prepare(model, defense, config):
    """Set the model up for training; returns the parameters that are trained."""
    model.eval()  # CLIP has neither dropout nor batch norm in its ViT; a ResNet tower keeps its running statistics
    model.precision = model.text_precision = config.precision
    model.clip.set_grad_checkpointing(config.gradient_checkpointing)
    model.class_features = None
    chosen, part = towers(config.trains, defense.trains), (config.last_blocks, config.lora_rank, config.seed)
    bias = getattr(defense.settings, "loss", None) == "sigmoid"
    return make_trainable(model, chosen, *part, first_blocks=config.first_blocks, bias=bias)


def conclude(model):
    """A plain model again."""
    model.requires_grad_(False)
    model.precision = model.text_precision = "fp32"
    model.clip.set_grad_checkpointing(False)
    merge(model)


def forward_backward(defense, model, frozen, batch, threat, accumulate, team):
    """Gradients of one batch, in parts one after another; (loss, terms), means over parts and processes, as numbers."""
    parts, losses, terms = batch.parts(accumulate) if accumulate > 1 else [batch], [], []
    for part in parts:
        share = part.share(team.process_index, team.num_processes) if team.num_processes > 1 else part
        loss, logs = defense.objective(model, frozen, share, threat, defense.settings)
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
