"""Lines of speed.py on a convolutional tower: `lite-clip` where its extra is installed, else its architecture, random weights.

The baseline of the PGD line is open_clip's tower as it is loaded: fp32, NCHW, batch norms as layers. The other lines are of
another kind: batches read from shards beside the attack that a training makes of them, so that reading never is what a training
waits for; and an MMCoA step beside a TeCoA step of the same batch, which says what the text search costs.
"""

import copy
import itertools
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import timm
import torch
import torch.nn.functional as F
from common import line, race, require
from reading import empty_cache, write_folder

import mmcoa
from mmcoa.attacks.pgd import pgd
from mmcoa.datasets.batches import ShuffledDataset
from mmcoa.errors import UserError
from mmcoa.model.folded import FoldedTower
from mmcoa.threat import ThreatModel
from mmcoa.training.config import TrainConfig
from mmcoa.training.loop import train


def tower_and_name(device):
    """(model or None, image tower, its name); the model where `lite-clip` can be loaded."""
    try:
        model = mmcoa.load_model("lite-clip", device)
        return model, model.clip.visual, "lite-clip"
    except UserError:
        torch.manual_seed(0)
        return None, timm.create_model("tf_efficientnet_lite0", num_classes=512).to(device).eval(), "EfficientNet-Lite0, random"


class Images:
    """An image tower as an attack sees a model."""

    def __init__(self, encode):
        self.encode = encode

    def logits(self, pixels, text_features):
        return 20 * F.normalize(self.encode(2 * pixels - 1), dim=-1) @ text_features.T


def lines(settings, device):
    """PGD, batches from shards against PGD, and MMCoA against TeCoA."""
    model, visual, name = tower_and_name(device)
    visual.requires_grad_(False)
    plain = copy.deepcopy(visual).to(memory_format=torch.contiguous_format)
    folded = FoldedTower(visual)
    generator = torch.Generator().manual_seed(0)
    side = 32 if settings.architecture == "tiny" else 128
    batch, width = settings.step_batch, visual(torch.zeros(1, 3, side, side, device=device)).shape[1]
    images = torch.rand(batch, 3, side, side, generator=generator).to(device)
    text = F.normalize(torch.randn(settings.classes, width, generator=generator), dim=1).to(device)
    with torch.no_grad():
        labels = Images(plain).logits(images, text).argmax(dim=1)
    threat = ThreatModel(epsilon="1/255", steps=settings.inner_steps)
    seconds, baseline, ours, theirs = race(
        lambda: pgd(Images(folded), images, labels, text, threat),
        lambda: pgd(Images(plain), images, labels, text, threat),
        *(settings.repeats, settings.baseline_repeats, device),
    )
    with torch.no_grad():
        losses = [F.cross_entropy(Images(plain).logits(x, text), labels).item() for x in (ours, theirs)]
    require(abs(losses[0] - losses[1]) <= 0.01 * abs(losses[1]) + 1e-3, f"PGD on {name}: losses {losses}")
    setting = (
        f"{name}, {side} px, {settings.classes} classes, batch {batch}, PGD-{threat.steps}; baseline NCHW, norms as layers"
    )
    rows = [line("PGD, convolutional tower", setting, seconds / threat.steps, baseline / threat.steps, "s a step", "1.6x")]
    rows.append(shards_line(folded, name, side, text, settings, device))
    return rows + [step_line(model, name, batch, settings, device) for batch in settings.lite_batches if model is not None]


def shards_line(folded, name, side, text, settings, device):
    """Seconds to read and decode a training batch from shards, nothing cached, and to attack it as a training does (PGD-2)."""
    batch, threat = settings.step_batch, ThreatModel(epsilon="1/255", steps=2)
    count = 8 * batch  # pictures; each batch is read once, as what is read is cached
    images = torch.rand(batch, 3, side, side, generator=torch.Generator().manual_seed(0)).to(device)
    labels = torch.zeros(batch, dtype=torch.int64, device=device)
    with tempfile.TemporaryDirectory() as folder, empty_cache():
        write_folder(Path(folder) / "wds_drawn", count, side)
        dataset = mmcoa.load_dataset(f"wds:{folder}/wds_drawn", "train", stream=True)
        batches = iter(torch.arange(count).split(batch))
        seconds, attack, read, _ = race(  # without reading ahead, which would hide the reading behind the attack
            lambda: dataset.images[next(batches)].to(device).float() / 255,
            lambda: pgd(Images(folded), images, labels, text, threat),
            *(settings.repeats, settings.baseline_repeats, device),
        )
    require(read.shape == images.shape, f"batches from shards {tuple(read.shape)}")
    setting = f"{name}, JPEGs of {side} px in shards, batch {batch}; baseline: the attack of that batch, PGD-{threat.steps}"
    return line("reading a training batch", setting, seconds, attack, "s", "1x")


def step_line(model, name, batch, settings, device):
    """Seconds of an MMCoA step and of a TeCoA step of `batch` pictures; `ratio` is the first over the second.

    A step encodes the prompts of all classes, as both towers move: with few pictures that is most of it.
    """
    # As many classes as Tiny-ImageNet, the usual base set.
    dataset = mmcoa.load_dataset("openmoji/others", "train", samples=batch * 4)
    names = dataset.prompts[: settings.step_classes]
    dataset = replace(dataset, prompts=names, class_names=dataset.class_names[: len(names)], labels=dataset.labels % len(names))
    found = {}
    for defense in ("mmcoa", "tecoa"):
        tuned, times = copy.deepcopy(model), []
        config = TrainConfig(steps=4, batch_size=batch, warmup=0, log_every=1, held_out=0).for_model(model.metadata)
        source = ShuffledDataset(dataset, config.batch_size, 0, torch.device(device))
        with tempfile.TemporaryDirectory() as folder:
            train(
                tuned,
                source,
                defense,
                config,
                Path(folder) / "model",
                progress=lambda *_, t=times: t.append(time.perf_counter()),
            )
        found[defense] = min(after - before for before, after in itertools.pairwise(times))
    sizes = f"{name}, {len(names)} classes, batch {batch}, PGD-{config.inner_steps} inside"
    setting = f"{sizes}; baseline: a TeCoA step; ratio: MMCoA over TeCoA"
    return line(
        "MMCoA step against TeCoA's",
        setting,
        found["mmcoa"],
        found["tecoa"],
        "s",
        "at most 2.5x",
        found["mmcoa"] / found["tecoa"],
    )
