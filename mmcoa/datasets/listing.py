"""What lies at a user's path: samples of each split with their class, as far as folders and lists say. Imports no torch.

    PATH/CLASS/PICTURE             a folder with one sub-folder a class; below that at any depth, as torchvision's ImageFolder
    PATH/train/CLASS/PICTURE       the same with a level for the split (train, val, test)
    PATH.csv                       columns path and label, perhaps split; paths relative to the list

Without splits a picture's path decides, as in the records: `test` is a fifth; `all` is everything.
"""

import csv
import os
from dataclasses import dataclass
from pathlib import Path

from mmcoa.errors import UserError

PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".pgm", ".tif", ".tiff", ".gif")
SPLITS = ("train", "training", "val", "valid", "validation", "dev", "test", "testing")
TABLES = (".csv", ".tsv")
COLUMNS = {
    "path": ("path", "image", "image_path", "file", "filename", "file_name", "filepath", "picture"),
    "label": ("label", "class", "class_name", "classname", "target", "category"),
    "split": ("split", "set", "subset"),
}


@dataclass(frozen=True)
class Listing:
    """Samples by split: {split: [(key, class)]}; keys are paths relative to `base`; split None: there are none.

    classes: names or ids in label order; numbered: whether they are mere numbers, which name nothing.
    """

    base: Path
    samples: dict
    classes: list
    numbered: bool = False

    @property
    def splits(self):
        """Names of the splits that can be asked for."""
        return ["train", "test", "all"] if None in self.samples else list(self.samples)


def list_folder(path):
    """`Listing` of a folder; `UserError` where it has no class folder with pictures."""
    path = Path(path)
    splits = [name for name in _folders(path) if name.lower() in SPLITS and _folders(path / name)]
    if splits:
        found = {name.lower(): _classes(path, f"{name}/") for name in splits}
        found = {name: classes for name, classes in found.items() if classes}
    else:
        found = {None: _classes(path, "")}
    if not any(found.values()):
        flat = any(_is_picture(name) for name in os.listdir(path))
        what = "pictures lie there directly: move each into a folder of its class, or list them in a CSV of path,label"
        raise UserError(f"no sub-folder with pictures in {path}; {what if flat else 'one for each class is expected'}")
    first = found.get("train") or found.get("training")
    classes = sorted(first or {name for split in found.values() for name in split})
    for split, own in found.items():
        if foreign := sorted(set(own) - set(classes)):
            raise UserError(f"{path}: class folders of '{split}' that 'train' does not have: {', '.join(foreign[:4])}")
    samples = {split: [(key, name) for name in classes for key in own.get(name, ())] for split, own in found.items()}
    return Listing(path, samples, classes, all(name.isdigit() for name in classes))


def _folders(path):
    return sorted(entry.name for entry in os.scandir(path) if entry.is_dir() and not entry.name.startswith((".", "__")))


def _is_picture(name):
    return name.lower().endswith(PICTURES) and not name.startswith(".")  # `._name.jpg`: what macOS leaves in archives


def _classes(base, prefix):
    """{class folder: [key]} under `base`/`prefix`, those that hold pictures."""
    found = {name: _pictures(base, f"{prefix}{name}/") for name in _folders(base / prefix)}
    return {name: keys for name, keys in found.items() if keys}


def _pictures(base, prefix):
    own = [f"{prefix}{name}" for name in sorted(os.listdir(base / prefix)) if _is_picture(name)]
    return own + [key for name in _folders(base / prefix) for key in _pictures(base, f"{prefix}{name}/")]


def list_table(path):
    """`Listing` of a CSV or TSV; `UserError` where a column or a file is missing."""
    path = Path(path)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = [row for row in csv.reader(file, delimiter="\t" if path.suffix == ".tsv" else ",") if any(row)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"cannot read {path}: {error}") from error
    if not rows:
        raise UserError(f"{path} is empty; a list of path and label is expected")
    header = [field.strip().lower() for field in rows[0]]
    places = {what: next((header.index(name) for name in names if name in header), None) for what, names in COLUMNS.items()}
    if places["path"] is None or places["label"] is None:
        if len(header) != 2 or not (path.parent / rows[0][0]).is_file():
            raise UserError(f"{path} has the columns {', '.join(rows[0][:8])}; path and label are expected, perhaps split")
        places = {"path": 0, "label": 1, "split": None}  # no header
    else:
        rows = rows[1:]
    samples = {}
    for number, row in enumerate(rows, 1):
        try:
            key, label = row[places["path"]].strip(), row[places["label"]].strip()
            split = None if places["split"] is None else row[places["split"]].strip().lower()
        except IndexError as error:
            raise UserError(f"{path}: entry {number} has {len(row)} fields, too few") from error
        if not key or not label or split == "":
            raise UserError(f"{path}: entry {number} has an empty field")
        samples.setdefault(split, []).append((key, label))
    everything = [sample for split in samples.values() for sample in split]
    missing = [key for key, _ in everything if not (path.parent / key).is_file()]
    if missing:
        raise UserError(
            f"{path}: {len(missing):,} of {len(everything):,} files are missing in {path.parent}, first {missing[0]}"
        )
    labels = {label for _, label in everything}
    numbered = all(label.isdigit() for label in labels)
    classes = [str(label) for label in range(max(map(int, labels)) + 1)] if numbered else sorted(labels)
    if numbered:  # `007` is 7
        samples = {split: [(key, str(int(label))) for key, label in own] for split, own in samples.items()}
    return Listing(path.parent, samples, classes, numbered)
