"""Data sets by name: one record each (records/*.yaml) and few readers.

dataset = mmcoa.load_dataset("openmoji/birds", split="test", samples=120)
dataset = mmcoa.load_dataset("cifar10")           # under --root or MMCOA_DATA; `mmcoa data get cifar10`
dataset = mmcoa.load_dataset("wds:FOLDER")        # any folder in the clip-benchmark WebDataset layout, or wds:URL
dataset = mmcoa.load_dataset("pictures/")         # one sub-folder a class, a CSV, or Hugging Face's save_to_disk: by_path.py
"""

import importlib
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmcoa.datasets.own_words import chosen_prompts
from mmcoa.datasets.reading import check_split, find, load_source
from mmcoa.datasets.records import openmoji_names, paper_names, records
from mmcoa.errors import UserError
from mmcoa.prompts import duplicate_prompts
from mmcoa.threat import ThreatModel

if TYPE_CHECKING:
    from mmcoa.datasets.dataset import Dataset

__all__ = [
    "attacker_dataset",
    "check_split",
    "find",
    "load_dataset",
    "load_source",
    "openmoji_names",
    "paper_names",
    "records",
]


def __getattr__(name: str) -> Any:
    if name not in ("Dataset", "Streamed"):  # they need torch, which lists of data sets do not
        raise AttributeError(f"module 'mmcoa.datasets' has no attribute '{name}'")
    return getattr(importlib.import_module("mmcoa.datasets.dataset"), name)


def load_dataset(
    name: str,
    split: str = "test",
    samples: int | None = None,
    shots: int | None = None,
    seed: int = 0,
    template: str | None = None,
    stream: bool | None = None,
    *,
    prompts: str = "reference",
    transform: str = "reference",
    image_size: int | None = None,
    interpolation: str = "bicubic",
    resize_mode: str = "shortest",
    root: str | Path | None = None,
    skip_unreadable: bool = False,
    strict: bool = False,
    classnames: str | Path | None = None,
    templates: str | Path | None = None,
) -> "Dataset":
    """Load one split of a data set.

    Arguments:
        name: a record's name, `wds:FOLDER`, `wds:URL`, or a path (by_path.py).
        samples: at most so many; default all.
        shots: at most so many of each class (few-shot training).
        seed: of the order, and so of what `samples` and `shots` choose.
        template: prompt template with `{}`; default by `prompts`, or the folder's first.
        stream: keep pictures on disk until they are asked for (flat memory, whatever the size); None: where they would fill
            more than 2 GB.
        prompts: `reference` (the record's rule) or `openclip` (the ensemble that CLIP was published with).
        transform: of pictures whose size varies: `reference` (Resize 256, CenterCrop 224) or `openclip` (the model's own, to
            `image_size`, the side of its input, by its `interpolation` and `resize_mode`: `model.picture_input` is all three).
        root: folder of the data sets; default $MMCOA_DATA.
        skip_unreadable: leave out pictures that cannot be decoded, and count them; otherwise they are an error.
        strict: classes that share a prompt are an error, not a warning.
        classnames: file of class names, which count as they stand; templates: file of templates, an ensemble, or JSON
            {class: [prompt, ...]}: own_words.py. Default: the data folder's own classnames.txt, templates.txt or .json.

    Returns a `Dataset`. Raises `UserError` for an unknown name or split and for missing, damaged or other files than the record
    states: never fewer or other samples in silence.
    """
    from mmcoa.datasets.dataset import Dataset, Streamed
    from mmcoa.datasets.order import balanced_order, few_shot
    from mmcoa.datasets.pictures import IN_MEMORY, Pictures
    from mmcoa.datasets.transforms import choose

    for value, what in ((samples, "samples"), (shots, "shots")):
        if value is not None and value < 1:
            raise UserError(f"{what} must be at least 1, got {value}")
    record = find(name)
    source, class_names = load_source(record, split, root, skip_unreadable)
    order = balanced_order(source.labels, seed)
    if shots is not None:
        order = few_shot(source.labels, order, shots)
    pictures = Pictures(source, choose(transform, record.size, image_size, interpolation, resize_mode))
    order, lost = pictures.readable(order, samples) if skip_unreadable else (order, [])
    order = order[:samples]
    if not len(order):
        raise UserError(f"{record.name}: none of {len(lost)} pictures of split '{split}' can be read, first {lost[0]}")
    if lost:
        warnings.warn(f"{record.name}: {len(lost)} unreadable pictures left out: {', '.join(lost[:5])}", stacklevel=2)
    sets, told = chosen_prompts(record, source.classes or class_names, class_names, prompts, template, classnames, templates)
    if duplicates := duplicate_prompts(sets[0]):
        text = f"{record.name}: {len(duplicates)} prompts name more than one class: {'; '.join(duplicates[:5])}"
        if strict:
            raise UserError(f"{text}; no classifier can tell those classes apart")
        warnings.warn(text, stacklevel=2)
    if stream is None:
        stream = pictures.bytes > IN_MEMORY
    return Dataset(
        record.name,
        split,
        Streamed(pictures, order, pictures.key) if stream else pictures(order),
        source.labels[order],
        told.names,
        sets[0],
        order,
        tuple(tuple(one) for one in sets) if len(sets) > 1 else (),
        told.preset,
        str(pictures.transform),
        len(lost),
    )


def attacker_dataset(name: str, threat: ThreatModel, **options: Any) -> "Dataset | None":
    """Labelled pictures that an attacker may learn from: `threat.attacker_images` of the train split; None where there is none.

    Disjoint from what is evaluated, balanced over classes, the same for every model (seed 0). options: of `load_dataset`.
    """
    if "train" not in find(name).splits:
        return None
    return load_dataset(name, "train", samples=threat.attacker_images, **options)
