"""Data sets by name: one record each (records.yaml) and few readers.

    dataset = mmcoa.load_dataset("openmoji/birds", split="test", samples=120)
    dataset = mmcoa.load_dataset("wds:FOLDER")        # any folder in the clip-benchmark WebDataset layout
"""

import functools
import hashlib
import warnings
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from mmcoa.errors import UserError, unknown
from mmcoa.prompts import class_prompts, duplicate_prompts

if TYPE_CHECKING:
    import torch


@functools.cache
def records():
    """{name: record} of all named data sets."""
    data = yaml.safe_load((files("mmcoa.datasets") / "records.yaml").read_text(encoding="utf8"))
    return {name: record for name, record in data.items() if not name.startswith("_")}


def openmoji_names():
    """The fifteen data sets of the embedded study: without its base set and the group held out of pre-training."""
    return [name for name, record in records().items() if record["reader"] == "openmoji" and "note" not in record]


@dataclass(frozen=True)
class Dataset:
    """One split in memory.

    images: uint8 [N, 3, H, W], a tensor or `Streamed`; labels: int64 [N]; class_names, prompts: lists of C strings; ids: int64
    [N], a sample's number in the whole split, whatever part of it was loaded. The order is seeded and balanced over classes,
    so that every prefix is a fair sample.
    """

    name: str
    split: str
    images: "torch.Tensor"
    labels: "torch.Tensor"
    class_names: list
    prompts: list
    ids: "torch.Tensor"

    def __len__(self):
        return len(self.labels)

    def prefix(self, samples):
        """The first `samples` samples (all, where there are fewer)."""
        images = self.images.prefix(samples) if isinstance(self.images, Streamed) else self.images[:samples]
        return replace(self, images=images, labels=self.labels[:samples], ids=self.ids[:samples])

    def fingerprint(self):
        """First 16 hex digits of a hash over pixels, labels and prompts."""
        digest = hashlib.sha256("\n".join(self.prompts).encode())
        for start in range(0, len(self), 256):  # pictures that are streamed pass in pieces
            digest.update(self.images[start : start + 256].numpy().tobytes())
        digest.update(self.labels.numpy().tobytes())
        return digest.hexdigest()[:16]


class Streamed:
    """Pictures that are read and decoded each time they are asked for: a slice or int64 indices -> uint8 [n, 3, H, W].

    `read(order)` gives the pictures of the split's samples `order`. Memory does not grow with the number of samples.
    """

    def __init__(self, read, order):
        self.read, self.order = read, order

    def __len__(self):
        return len(self.order)

    def __getitem__(self, index):
        return self.read(self.order[index])

    def prefix(self, samples):
        return Streamed(self.read, self.order[:samples])


def balanced_order(labels, seed=0):
    """A seeded order of the samples, int64 [N]: round r holds one sample of each class that still has one, classes shuffled."""
    import numpy as np
    import torch

    rng = np.random.default_rng(seed)
    labels = labels.numpy()
    shuffled = rng.permutation(len(labels))
    rounds = np.empty(len(labels), np.int64)
    seen = {}
    for place in shuffled:
        rounds[place] = seen[labels[place]] = seen.get(labels[place], -1) + 1
    return torch.from_numpy(shuffled[np.argsort(rounds[shuffled], kind="stable")])


def few_shot(labels, order, shots):
    """The first `shots` samples of each class in `order`."""
    taken, chosen = {}, []
    for place in order.tolist():
        label = int(labels[place])
        if taken.get(label, 0) < shots:
            taken[label] = taken.get(label, 0) + 1
            chosen.append(place)
    return order.new_tensor(chosen)


def load_dataset(name, split="test", samples=None, shots=None, seed=0, template=None, stream=False):
    """Load one split of a data set.

    Arguments
        name: a record's name, or `wds:FOLDER`.
        samples: at most so many; default all.
        shots: at most so many of each class (few-shot training).
        seed: of the order, and so of what `samples` and `shots` choose.
        template: prompt template with `{}`; default the record's, or the folder's first.
        stream: keep pictures on disk until they are asked for, where the reader can (flat memory, whatever the size).

    Returns a `Dataset`. Raises `UserError` for an unknown name or split and for missing or damaged files.
    """
    for value, what in ((samples, "samples"), (shots, "shots")):
        if value is not None and value < 1:
            raise UserError(f"{what} must be at least 1, got {value}")
    if name.startswith("wds:"):
        from mmcoa.datasets.webdataset import WebDatasetFolder

        folder = WebDatasetFolder(name.removeprefix("wds:"), split)
        labels, class_names, template = folder.labels, folder.class_names, template or folder.template
        name = f"wds:{Path(name.removeprefix('wds:')).name}"
        images = folder.stream if stream else folder.images
    else:
        from mmcoa.datasets import openmoji

        if name not in records():
            raise unknown("data set", name, [*records(), "wds:FOLDER"])
        record = records()[name]
        if split not in record["splits"]:
            raise unknown("split", split, record["splits"])
        pixels, labels, class_names = openmoji.group_views(name.removeprefix("openmoji/"), split, views=record.get("views"))
        template = template or record["template"]
        images = pixels.__getitem__
    order = balanced_order(labels, seed)
    if shots is not None:
        order = few_shot(labels, order, shots)
    order = order[:samples]
    prompts = class_prompts(class_names, template)
    if duplicates := duplicate_prompts(prompts):
        warnings.warn(f"{name}: {len(duplicates)} prompts name more than one class: {'; '.join(duplicates[:5])}", stacklevel=2)
    return Dataset(name, split, images(order), labels[order], list(class_names), prompts, order)


def attacker_dataset(name, threat, template=None):
    """Labelled pictures that an attacker may learn from: `threat.attacker_images` of the train split; None where there is none.

    Disjoint from what is evaluated, balanced over classes, the same for every model (seed 0).
    """
    if name.startswith("wds:"):
        from mmcoa.datasets.webdataset import available_splits

        splits = available_splits(name.removeprefix("wds:"))
    else:
        splits = records().get(name, {}).get("splits", [])
    if "train" not in splits:
        return None
    return load_dataset(name, "train", samples=threat.attacker_images, template=template)
