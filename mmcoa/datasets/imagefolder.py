"""Reader of pictures in one folder per class, and of a flat folder with a list of annotations (Tiny-ImageNet's validation set).

Class folders are named by the record's ids, which may be nested (`apartment_building/outdoor`). What lies deeper than that, and
files that are no pictures, count for nothing.
"""

import os

import torch
from PIL import Image

from mmcoa.datasets.records import class_list
from mmcoa.datasets.source import Source
from mmcoa.errors import UserError

PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".tif", ".tiff")


def read(record, split, folder):
    """One split, sorted by class and name; options, all relative to the data root:

    folders: {split: folder of class folders}; inner: where pictures lie within a class folder; exclude: folders of no class.
    annotations, pictures: {split: list with lines `file<TAB>class...`} and {split: the folder of those files}.
    """
    options = record.options
    ids = [code for code, _ in class_list(record.names)] if record.names else []
    listed = split in options.get("annotations", {})
    base = folder / options["pictures" if listed else "folders"][split]
    if not base.is_dir():
        raise UserError(f"{record.name}: no folder {base}; {_mend(record)}")
    if listed:
        found = _annotated(record, folder / options["annotations"][split])
    else:
        depth = 1 + max((code.count("/") for code in ids), default=0)
        found = _class_folders(base, "", depth, options.get("inner", "."), options.get("exclude", ()))
    if not found:
        flat = any(_is_picture(name) for name in os.listdir(base))
        what = "pictures lie there directly: move each into the folder of its class" if flat else _mend(record)
        raise UserError(f"{record.name}: no class folder with pictures in {base}; {what}")
    classes = ids if set(ids) == set(found) else sorted(found)
    keys = [key for code in classes for key in found[code]]
    labels = [label for label, code in enumerate(classes) for _ in found[code]]
    if listed:
        check_files(record, base, keys)
    return file_source(base, keys, labels, classes)


def file_source(base, keys, labels, classes):
    """`Source` of picture files; keys: their paths relative to `base`."""
    files = [base / key for key in keys]
    return Source(torch.tensor(labels, dtype=torch.int64), keys, base, classes, lambda i: Image.open(files[i]), files=files)


def check_files(record, base, keys):
    """`UserError` where files of a list are not there: half an archive. Lists each folder once: a look at each file is slow."""
    there, missing = {}, []
    for key in keys:
        parent, _, name = key.rpartition("/")
        if parent not in there:
            there[parent] = set(os.listdir(base / parent)) if (base / parent).is_dir() else set()
        if name not in there[parent]:
            missing.append(key)
    if missing:
        raise UserError(
            f"{record.name}: {len(missing):,} of {len(keys):,} pictures are missing in {base}, first {missing[0]}; "
            f"{_mend(record)}"
        )


def _is_picture(name):
    return name.lower().endswith(PICTURES) and not name.startswith(".")  # `._name.jpg`: what macOS leaves in archives


def _class_folders(base, prefix, depth, inner, exclude):
    """{class: [path under base]} of the class folders that hold pictures, to `depth` levels."""
    found = {}
    for name in sorted(entry.name for entry in os.scandir(base / prefix) if entry.is_dir()):
        code = f"{prefix}{name}"
        if code in exclude or name.startswith("."):
            continue
        home = (base / code / inner).relative_to(base)
        if (base / home).is_dir():
            pictures = sorted(filter(_is_picture, os.listdir(base / home)))
            if pictures:
                found[code] = [f"{home.as_posix()}/{picture}" for picture in pictures]
        if depth > 1:
            found |= _class_folders(base, f"{code}/", depth - 1, inner, exclude)
    return found


def _annotated(record, path):
    """{class: [file]} of a list of annotations, files sorted."""
    found = {}
    try:
        for line in path.read_text(encoding="utf8").splitlines():
            if line.strip():
                name, code = line.split("\t")[:2]
                found.setdefault(code.strip(), []).append(name)
    except (OSError, ValueError) as error:  # ValueError: no text, or a line of one field
        raise UserError(f"{record.name}: {path} is missing or no list of `file<TAB>class`; {_mend(record)}") from error
    return {code: sorted(names) for code, names in found.items()}


def _mend(record):
    return "unpack the whole archive again" if record.manual else f"fetch it again: mmcoa data get {record.name}"
