"""Reader of CIFAR-10's and CIFAR-100's binary archives: records of label bytes and 3 x 32 x 32 pixels, nothing to unpickle."""

import numpy as np
import torch

from mmcoa.datasets.source import Source
from mmcoa.errors import UserError

PIXELS = (3, 32, 32)
CLASS_FILES = ("batches.meta.txt", "fine_label_names.txt")


def read(record, split, folder):
    """One split: the files that `options[split]` names, in order; the last of `label_bytes` is the label (CIFAR-100: fine)."""
    folder, before = folder / record.options["folder"], record.options["label_bytes"]
    labels, pixels, keys = [], [], []
    for name in record.options[split]:
        rows = _rows(folder / name, before + int(np.prod(PIXELS)), record)
        labels.append(rows[:, before - 1].astype(np.int64))
        pixels.append(rows[:, before:].reshape(-1, *PIXELS))
        keys += [f"{name}/{i}" for i in range(len(rows))]
    labels, pixels = (torch.from_numpy(np.concatenate(parts)) for parts in (labels, pixels))
    return Source(labels, keys, folder, _classes(folder), pixels=pixels)


def _rows(path, length, record):
    """uint8 [N, length], the records of a file."""
    again = f"fetch it again: mmcoa data get {record.name}"
    try:
        content = np.fromfile(path, np.uint8)
    except OSError as error:
        raise UserError(f"{record.name}: cannot read {path} ({error.strerror or error}); {again}") from error
    if not len(content) or len(content) % length:
        raise UserError(
            f"{record.name}: {path} has {len(content):,} bytes, not whole records of {length:,}: half a download; {again}"
        )
    return content.reshape(-1, length)


def _classes(folder):
    """Class names of the archive's own list; None where it was not unpacked."""
    path = next((folder / name for name in CLASS_FILES if (folder / name).is_file()), None)
    if path is None:
        return None
    return [line.strip() for line in path.read_text(encoding="utf8", errors="replace").splitlines() if line.strip()]
