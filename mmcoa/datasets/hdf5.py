"""Reader of PatchCamelyon's HDF5 files: `x` uint8 [N, 96, 96, 3] and `y` [N, 1, 1, 1] in two files."""

import threading

import numpy as np
import torch
from PIL import Image

from mmcoa.datasets.source import Source
from mmcoa.errors import UserError


def read(record, split, folder):
    """One split: the two files of `options.files`. Pictures are read when asked for, one at a time: HDF5 has one lock."""
    paths = [folder / name for name in record.options["files"][split]]
    pixels, labels = (_open(record, path, name) for path, name in zip(paths, "xy", strict=True))
    if pixels.ndim != 4 or pixels.shape[-1] != 3 or pixels.dtype != np.uint8 or labels.size != len(pixels):
        found = f"x {pixels.dtype} {pixels.shape}, y {labels.shape}"
        raise UserError(f"{record.name}: {paths[0].name} and {paths[1].name} do not belong together: {found}; {_mend(record)}")
    lock = threading.Lock()

    def decode(i):
        with lock:
            return Image.fromarray(pixels[i])

    keys = [f"{split}/{i}" for i in range(len(pixels))]
    return Source(torch.from_numpy(labels[()].reshape(-1).astype(np.int64)), keys, paths[0].parent, None, decode, files=paths)


def _open(record, path, name):
    """The data set `name` of a file, which stays open with it."""
    try:
        import h5py
    except ImportError as error:
        raise UserError(f"{record.name} is read with h5py: pip install 'mmcoa[data]'") from error
    if not path.is_file():
        packed = path.with_name(f"{path.name}.gz")
        what = f"unpack {packed.name}: gunzip {packed}" if packed.is_file() else _mend(record)
        raise UserError(f"{record.name}: no file {path}; {what}")
    try:
        return h5py.File(path, "r")[name]
    except (OSError, KeyError) as error:
        raise UserError(f"{record.name}: {path} is damaged or half a download ({error}); {_mend(record)}") from error


def _mend(record):
    return f"fetch it again: mmcoa data get {record.name}"
