"""Reader of folders in the clip-benchmark WebDataset layout.

    <folder>/classnames.txt, zeroshot_classification_templates.txt, <split>/nshards.txt, <split>/<n>.tar
    with members <key>.cls (the label as text) and <key>.jpg, .jpeg, .png or .webp

Members are read in place, nothing is unpacked to disk and nothing unpickled. Where each member lies is found once and cached,
keyed by the shard's name, size and time of change.
"""

import io
import tarfile
import threading
from pathlib import Path, PurePosixPath

import torch
from PIL import Image

from mmcoa.cache import cached
from mmcoa.datasets.records import PromptRule, Record
from mmcoa.datasets.source import Source
from mmcoa.errors import UserError

PICTURES = (".jpg", ".jpeg", ".png", ".webp")


def read_lines(path):
    """Lines of a text file of the layout; `UserError` where it is missing or empty."""
    try:
        lines = [line for line in path.read_text(encoding="utf8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is missing or no text; a WebDataset folder in the clip-benchmark layout has it") from error
    if not lines:
        raise UserError(f"{path} is empty")
    return lines


def available_splits(folder):
    """Names of the split folders."""
    return sorted(path.parent.name for path in Path(folder).glob("*/nshards.txt"))


def folder_record(place):
    """A record of `wds:FOLDER` or `wds:URL`; files behind an address are fetched first."""
    if place.startswith(("http://", "https://")):
        from mmcoa.datasets.download import fetch_webdataset

        folder = fetch_webdataset(place)
    else:
        folder = Path(place)
    if not folder.is_dir():
        raise UserError(f"no folder {folder}; --dataset wds:FOLDER names one in the clip-benchmark layout")
    names = read_lines(folder / "classnames.txt")
    template = read_lines(folder / "zeroshot_classification_templates.txt")[0]
    splits = available_splits(folder)
    return Record(
        name=f"wds:{folder.name}",
        title=folder.name,
        reader="webdataset",
        options={"folder": str(folder)},
        splits=dict.fromkeys(splits),
        classes=len(names),
        prompt=PromptRule(template=template),
        licence="its own",
        source=str(place),
    )


def read(record, split, folder):
    """One split of a folder; see `Source`."""
    folder = Path(folder)
    classes = read_lines(folder / "classnames.txt")
    splits = available_splits(folder)
    if split not in splits:
        raise UserError(f"{folder} has no split '{split}'; it has: {', '.join(splits) or 'none'}")
    text = read_lines(folder / split / "nshards.txt")[0]
    if not text.strip().isdigit():
        raise UserError(
            f"{folder / split / 'nshards.txt'} says '{text[:40]}' where a number of shards is expected; fetch it again"
        )
    shards = [folder / split / f"{i}.tar" for i in range(int(text))]
    labels, keys, places = [], [], []
    for shard in shards:
        for key, label, offset, size in index(shard):
            labels.append(label)
            keys.append(f"{split}/{shard.name}/{key}")
            places.append((shard, offset, size))
    labels = torch.tensor(labels, dtype=torch.int64)
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < len(classes):
        raise UserError(f"{folder}/{split}: labels outside 0..{len(classes) - 1}, the range of classnames.txt")
    handles = threading.local()  # one open file a thread and shard

    def encoded(i):
        shard, offset, size = places[i]
        opened = handles.__dict__.setdefault("files", {})
        if shard not in opened:
            opened[shard] = shard.open("rb")
        opened[shard].seek(offset)
        return opened[shard].read(size)

    def decode(i):
        return Image.open(io.BytesIO(encoded(i)))

    return Source(labels, keys, folder, classes, decode, encoded=encoded, copy=record.reader != "webdataset", files=shards)


def index(shard):
    """[[key, label, offset, size], ...] of the pictures of one shard, in file order."""
    try:
        stat = shard.stat()
    except OSError as error:
        raise UserError(f"missing or damaged shard {shard} ({error}); fetch the file again") from error
    key = {"shard": str(shard.resolve()), "size": stat.st_size, "changed": stat.st_mtime_ns, "version": 1}
    return cached("shards", key, lambda: _scan(shard))


def _scan(shard):
    samples = {}
    try:
        with tarfile.open(shard) as archive:
            for member in archive:
                path = PurePosixPath(member.name)
                entry = samples.setdefault(str(path.with_suffix("")), {})
                if path.suffix == ".cls":
                    entry["cls"] = archive.extractfile(member).read()
                elif path.suffix.lower() in PICTURES:
                    entry["picture"] = (member.offset_data, member.size)
    except (OSError, tarfile.TarError) as error:
        raise UserError(f"missing or damaged shard {shard} ({error}); fetch the file again") from error
    found = []
    for key, members in samples.items():
        try:
            found.append([key, int(members["cls"]), *members["picture"]])
        except (KeyError, ValueError) as error:
            raise UserError(
                f"damaged shard {shard}: sample '{key}' lacks a picture or a label; fetch the file again"
            ) from error
    return found
