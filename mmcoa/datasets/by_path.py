"""Anyone's pictures: a record and a source made from a path.

    record = record_of("pictures/")          # folders of classes, a CSV of path,label, or Hugging Face's `save_to_disk`

`classnames.txt` and `templates.txt` (or .json) in a folder count as if they were given (own_words.py).
"""

from pathlib import Path

import torch
from PIL import Image

from mmcoa.datasets import arrow
from mmcoa.datasets.listing import TABLES, list_folder, list_table
from mmcoa.datasets.order import split_by_path
from mmcoa.datasets.records import PromptRule, Record
from mmcoa.datasets.sizes import one_side
from mmcoa.datasets.source import Source
from mmcoa.errors import UserError

TEMPLATE = "This is a photo of a {}"


def listing_of(path):
    """The `Listing` of a path; `UserError` where it is nothing that can be read as a data set."""
    path = Path(path)
    if path.is_dir():
        return arrow.list_arrow(path) if arrow.is_arrow(path) else list_folder(path)
    if path.suffix in TABLES:
        return list_table(path)
    raise UserError(f"{path} is no data set: a folder with one sub-folder a class is expected, or a .csv of path,label")


def record_of(path):
    """A `Record` of a path. `size`: the shorter side that all pictures have, by some of the whole; None where it varies."""
    path = Path(path)
    listing = listing_of(path)
    home = path if path.is_dir() else path.parent
    words = {what: str(home / name) for name, what in WORDS.items() if path.is_dir() and (home / name).is_file()}
    return Record(
        name=path.resolve().stem if path.is_file() else path.resolve().name,
        title=path.name,
        reader="by_path",
        options={"path": str(path), "numbered": listing.numbered, **words},
        splits=dict.fromkeys(listing.splits),
        classes=len(listing.classes),
        size=one_side(_source(path, listing, split) for split in listing.samples),
        prompt=PromptRule(template=TEMPLATE),
        licence="its own",
        source=str(path),
    )


WORDS = {"classnames.txt": "classnames", "templates.txt": "templates", "templates.json": "templates"}


def read(record, split, folder):
    """One split; see `Source`."""
    path = Path(record.options["path"])
    listing = listing_of(path)
    source = _source(path, listing, split if split in listing.samples else None)
    if None in listing.samples and split != "all":
        source = source.part(split_by_path(source.keys, split))
    return source


def _source(path, listing, split):
    numbers = {name: label for label, name in enumerate(listing.classes)}
    samples = listing.samples[split]
    labels = torch.tensor([numbers[name] for _, name in samples], dtype=torch.int64)
    keys = [key for key, _ in samples]
    if path.is_dir() and arrow.is_arrow(path):
        decode, files = arrow.opener(path, split), arrow.files(path, split)
    else:
        files = [listing.base / key for key in keys]
        decode = lambda i: Image.open(files[i])  # noqa: E731
    return Source(labels, keys, path, listing.classes, decode, files=files)
