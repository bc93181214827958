"""Pre-train a small CLIP from scratch: what the notebook and a study's `pretrain` call.

pretrain("photos-clip", ["photos/cifar10", "photos/caltech101"], "runs/photos-clip", epochs=40)
pretrain("openmoji-clip", "openmoji", "runs/openmoji-clip", steps=3200)
"""

import json
import tempfile
from dataclasses import replace
from pathlib import Path

import torch

from mmcoa import defenses
from mmcoa.attacks.candidates import caption_table
from mmcoa.datasets.batches import Ahead, OpenMojiCaptions
from mmcoa.datasets.captions import CaptionedPictures
from mmcoa.errors import UserError, unknown
from mmcoa.model.loading import create_model, embedded_folder, resolve_device
from mmcoa.store.files import write_json
from mmcoa.training.config import TrainConfig
from mmcoa.training.loop import train
from mmcoa.versions import PRETRAINING

# Image towers at 64 pixels; the text tower and the tokenizer are those of the embedded model.
ARCHITECTURES = {
    "vit": {"image_size": 64, "layers": 4, "width": 128, "head_width": 32, "patch_size": 8},
    "resnet": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 24, "head_width": 64},
}
# What studies fine-tune and attack a small model with, where they say nothing: see the embedded model's mmcoa.json.
DEFAULTS = {"epsilon": "2/255", "inner_steps": 3, "train_defaults": {"lr": 3e-4, "batch_size": 128, "steps": 100, "warmup": 10}}


def pretrain(
    name, data, output, *, architecture="vit", epochs=None, steps=None, batch_size=128, lr=1.5e-3, warmup=200, weight_decay=0.1,
    seed=0, device="auto", progress=None,
):  # fmt: skip
    """Train a CLIP with the contrastive loss on captioned pictures; write the checkpoint folder `output` and return it.

    Arguments:
        name: what results call the model.
        data: names of data sets, whose train splits are joined, or `openmoji`: views of all glyphs but the held-out group.
        architecture: `vit` or `resnet`, the image tower.
        epochs, steps: passes over the pictures, or optimiser steps; views of glyphs have no end and take steps.
        lr: peak learning rate, after `warmup` steps; then a cosine to zero.
        weight_decay: decoupled, on matrices only.
        seed: of the initial weights, the pictures and the captions.

    A run that was killed goes on when it is started again. Raises `UserError` for what the caller got wrong.
    """
    if architecture not in ARCHITECTURES:
        raise unknown("architecture", architecture, ARCHITECTURES)
    if (steps is None) == (epochs is None):
        raise UserError("give steps or epochs, one of the two")
    if data == "openmoji" and steps is None:
        raise UserError("views of OpenMoji glyphs are drawn anew at each step: give steps, not epochs")
    if data == "openmoji":  # a view is its own class: distinct glyphs, captions that vary
        source, positives = OpenMojiCaptions(batch_size, seed, caption_table()), "index"
    else:
        source, positives = CaptionedPictures(data, batch_size, seed, caption_table()), "class"
    steps = steps or -(-epochs * len(source) // batch_size)
    config = TrainConfig(
        steps=steps, batch_size=batch_size, lr=lr, warmup=warmup, weight_decay=weight_decay, seed=seed, checkpoint_every=250,
        log_every=50,
    )  # fmt: skip
    clean = defenses.choose("clean", {"positives": positives})
    method = replace(clean, objective=unfrozen(clean.objective), version=PRETRAINING, variant="pretraining")
    model = untrained(architecture, seed, name).to(resolve_device(device))
    trained_on = "openmoji" if data == "openmoji" else " ".join(data)
    about = {
        "name": name,
        "pretrained_on": trained_on,
        "pictures": len(source.glyphs if data == "openmoji" else source),
        "architecture": architecture,
    }
    folder = train(
        model,
        Ahead(source),
        method,
        config,
        output,
        metadata={**DEFAULTS, **about},
        progress=progress,
    )
    return undefended(folder)


def undefended(folder):
    """Say in mmcoa.json that a checkpoint is a base model: `clean` is its loss here, not its defence."""
    path = Path(folder) / "mmcoa.json"
    about = json.loads(path.read_text())
    if about.pop("defense", None):
        write_json(path, about, indent=2)
    return folder


def untrained(architecture, seed=0, name=None):
    """A model with random weights drawn with `seed`."""
    config = json.loads((embedded_folder("openmoji-clip") / "open_clip_config.json").read_text())
    config["model_cfg"]["vision_cfg"] = ARCHITECTURES[architecture]
    with tempfile.TemporaryDirectory() as folder:
        for path in embedded_folder("openmoji-clip").glob("tokenizer*.json"):
            (Path(folder) / path.name).write_bytes(path.read_bytes())
        (Path(folder) / "open_clip_config.json").write_text(json.dumps(config))
        return create_model(folder, seed, name)


def unfrozen(objective):
    """An objective before which batch norms take the batch's statistics and keep a mean of them; fine-tuning freezes both."""

    def changed(model, frozen, batch, threat, settings):
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.train()
        return objective(model, frozen, batch, threat, settings)

    return changed
