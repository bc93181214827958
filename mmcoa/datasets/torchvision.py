"""Reader of the layouts that torchvision parses: splits and labels from its lists and MATLAB files, pictures are read here."""

from pathlib import Path

import torch

from mmcoa.datasets.imagefolder import check_files, file_source
from mmcoa.datasets.source import Source
from mmcoa.errors import UserError


def read(record, split, folder):
    """One split through the class `options.class`; options:

    arguments: {split: the class's arguments}; root_argument: its root, relative to the data root (default: that itself).
    files, labels: attributes with paths and labels, or samples: one with pairs of both, or pixels, labels: arrays.
    folder: what to name in messages; sort: by path, where torchvision lists files in the disk's order.
    """
    options = record.options
    arguments, home = options["arguments"][split], folder / options.get("folder", "")
    try:
        dataset = _construct(options["class"], folder / options.get("root_argument", ""), arguments)
        # Of the instance: a list that belongs to torchvision's class says nothing about the files.
        classes = vars(dataset).get("classes")
        if "pixels" in options:
            pixels, labels = getattr(dataset, options["pixels"]), getattr(dataset, options["labels"])
            if len(pixels) != len(labels):
                raise ValueError(f"{len(pixels):,} pictures, {len(labels):,} labels")
            keys = [f"{split}/{i}" for i in range(len(labels))]
            labels, pixels = torch.from_numpy(labels.astype("int64")), torch.from_numpy(pixels.copy())
            return Source(labels, keys, home, classes, pixels=pixels)
        pairs = _pairs(dataset, options)
        samples = [(Path(path).relative_to(folder).as_posix(), int(label)) for path, label in pairs]
    except Exception as error:  # the parsers of torchvision and scipy raise whatever a damaged file leads them to
        reason = f"{type(error).__name__}: {error}".partition(". You can use download")[0]
        raise UserError(
            f"{record.name}: {home} is incomplete or damaged ({reason[:200]}); see: mmcoa data check {record.name}"
        ) from error
    if options.get("sort"):
        samples.sort()
    keys = [key for key, _ in samples]
    check_files(record, folder, keys)
    return file_source(folder, keys, [label for _, label in samples], classes)


def _construct(name, root, arguments):
    """An instance of torchvision's class; nothing is downloaded."""
    import torchvision.datasets

    return getattr(torchvision.datasets, name)(root, download=False, **arguments)


def _pairs(dataset, options):
    """[(path, label), ...] of an instance."""
    if "samples" in options:
        return getattr(dataset, options["samples"])
    return list(zip(getattr(dataset, options["files"]), getattr(dataset, options["labels"]), strict=True))
