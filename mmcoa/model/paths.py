"""Where a model's name is a path, and which of a folder's files are its weights. Imports no torch."""

import json
from pathlib import Path

from mmcoa.errors import UserError

SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".tar", ".ckpt")
FIRST = (  # of several files in a folder, as open_clip and transformers choose
    *("open_clip_model.safetensors", "open_clip_pytorch_model.safetensors", "open_clip_pytorch_model.bin"),
    *("model.safetensors", "pytorch_model.bin"),
)
PLAIN = {"model", "checkpoint", "pytorch_model", "model_best", "best", "last", "final", "open_clip_model"}  # many have such
INDICES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")


def parted(name):
    """(path, architecture or None) of `PATH`, `PATH@ARCH` or `ARCH/PATH`; None where the name is no path that exists."""
    name = str(name)
    if Path(name).exists():
        return Path(name), None
    path, at, arch = name.rpartition("@")
    if at and Path(path).exists():
        return Path(path), arch
    arch, slash, path = name.partition("/")
    if slash and Path(path).is_file() and path.endswith(SUFFIXES):
        return Path(path), arch
    return None


def is_path(name):
    """Whether a name can only be meant as a path: it ends as a file of weights does."""
    return str(name).partition("@")[0].endswith(SUFFIXES)


def joined(name, arch):
    """`NAME@ARCH`; `UserError` where `name` is no path, so that it has an architecture already."""
    if arch is None:
        return name
    if parted(name) is None:
        if is_path(name):
            raise UserError(f"no file or folder '{name}'")
        raise UserError(f"--arch {arch} goes with a model by path; '{name}' is none")
    return f"{name}@{arch}"


def folder_files(folder):
    """Files of a folder's weights: one, or several parts; none where it has no weights."""
    folder = Path(folder)
    for name in FIRST:
        if (folder / name).is_file():
            return [folder / name]
    for name in INDICES:
        if (folder / name).is_file():
            parts = set(json.loads((folder / name).read_text(encoding="utf8"))["weight_map"].values())
            return [folder / part for part in sorted(parts)]
    found = sorted(path for path in folder.iterdir() if path.name.endswith(SUFFIXES) and path.is_file())
    if len(found) > 1:
        raise UserError(f"{folder} holds {len(found)} files of weights; name one: {', '.join(path.name for path in found[:4])}")
    return found


def base_places(metadata, folder=None):
    """Names under which the model that a checkpoint was fine-tuned from may load, the likeliest first; none: there was none.

    metadata: of its mmcoa.json: `base_model`, a name, and `base_folder` where it was a folder. That may have been moved
    together with the checkpoint's own `folder`: then both lie side by side, or as they lay to each other.
    """
    name, home, beside = (metadata.get(key) for key in ("base_model", "base_folder", "base_beside"))
    if not name:
        return []
    if home is None:
        return [name, *([str(Path(folder).parent / name)] if folder and "/" not in name else [])]
    moved = [Path(folder) / beside, Path(folder).parent / Path(home).name] if folder and beside else []
    return [home, *(str(place) for place in moved)]


def stem(path):
    """Name of a file without its endings: `model_best.pth.tar` -> `model_best`."""
    name = Path(path).name
    while (end := Path(name).suffix) in SUFFIXES:
        name = name.removesuffix(end)
    return name


def called(path):
    """What results call a model by path: its file's or folder's name; with the folder's where many files have that name."""
    path = Path(path).resolve()
    if path.is_dir():
        return path.name
    return f"{path.parent.name}-{stem(path)}" if stem(path) in PLAIN else stem(path)
