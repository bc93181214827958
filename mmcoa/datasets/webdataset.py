"""Reader of folders in the clip-benchmark WebDataset layout.

    <folder>/classnames.txt, zeroshot_classification_templates.txt, <split>/nshards.txt, <split>/<n>.tar
    with members <key>.cls (the label as text) and <key>.jpg, .png or another picture's format

All templates count, as an ensemble, and class names as they stand. Members are read in place, nothing is unpacked to disk and
nothing unpickled. Where each member lies is found once and cached, keyed by the shard's name, size and time of change.
"""

import contextlib
import io
import tarfile
import threading
import warnings
from pathlib import Path, PurePosixPath

import torch
from PIL import Image

from mmcoa.cache import cached
from mmcoa.datasets.listing import PICTURES
from mmcoa.datasets.own_words import lines_of
from mmcoa.datasets.records import PromptRule, Record
from mmcoa.datasets.sizes import one_side
from mmcoa.datasets.source import Source
from mmcoa.errors import UserError

COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd"}  # first bytes: program


NAMES, TEMPLATES = "classnames.txt", "zeroshot_classification_templates.txt"


def read_lines(path):
    """Lines of a text file of the layout; `UserError` where it is missing or empty, or a blank line would shift the others."""
    if not path.is_file():
        raise UserError(f"{path} is missing; a WebDataset folder in the clip-benchmark layout has it")
    return lines_of(path)


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
    names, templates = read_lines(folder / NAMES), read_lines(folder / TEMPLATES)
    splits = available_splits(folder)
    words = {"classnames": str(folder / NAMES), "templates": str(folder / TEMPLATES)}
    return Record(
        name=f"wds:{folder.name}",
        title=folder.name,
        reader="webdataset",
        options={"folder": str(folder), **words},
        splits=dict.fromkeys(splits),
        classes=len(names),
        size=one_side(_probes(folder, splits)),
        prompt=PromptRule(template=templates[0]),
        licence="its own",
        source=str(place),
    )


def _probes(folder, splits):
    """Sources of some shards of every split; one that cannot be read is told where its split is asked for."""
    for split in splits:
        with contextlib.suppress(UserError):
            shards = _shards(folder, split)
            for shard in dict.fromkeys((*shards[:1], *shards[len(shards) // 2 :][:1], *shards[-1:])):
                with contextlib.suppress(UserError):
                    yield _source(folder, split, [shard])


def read(record, split, folder):
    """One split of a folder; see `Source`."""
    folder = Path(folder)
    classes = read_lines(folder / NAMES)
    splits = available_splits(folder)
    if split not in splits:
        raise UserError(f"{folder} has no split '{split}'; it has: {', '.join(splits) or 'none'}")
    return _source(folder, split, _shards(folder, split), classes, record.reader != "webdataset")


def _shards(folder, split):
    """Paths of a split's shards."""
    text = read_lines(folder / split / "nshards.txt")[0]
    if not text.strip().isdigit():
        raise UserError(f"{folder / split / 'nshards.txt'} says '{text[:40]}' where a number of shards is expected")
    return [folder / split / f"{i}.tar" for i in range(int(text))]


def _source(folder, split, shards, classes=None, copy=False):
    """`Source` of some shards; without `classes` labels are not judged, and what is left out is not told."""
    labels, keys, places, left_out = [], [], [], []
    for shard in shards:
        found = index(shard)
        left_out += [f"{shard.name}: {name}" for name in found["left_out"]]
        for key, label, offset, size in found["samples"]:
            labels.append(label)
            keys.append(f"{split}/{shard.name}/{key}")
            places.append((shard, offset, size))
    if classes is not None and left_out:
        text = f"{folder}/{split}: {len(left_out)} members that are no sample's picture or label left out, first {left_out[0]}"
        warnings.warn(text, stacklevel=2)
    labels = torch.tensor(labels, dtype=torch.int64)
    if classes is not None and len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < len(classes):
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

    return Source(labels, keys, folder, classes, decode, encoded=encoded, copy=copy, files=shards)


def index(shard):
    """{"samples": [[key, label, offset, size], ...] in file order, "left_out": [member, ...]} of one shard.

    A sample is KEY.cls and KEY.jpg (or .png, ...), wherever in the archive; links count as what they point to. Folders and
    hidden files are passed over; other members are left out, and told.
    """
    try:
        stat = shard.stat()
    except OSError as error:
        raise UserError(f"missing or damaged shard {shard} ({error}); fetch the file again") from error
    key = {"shard": str(shard.resolve()), "size": stat.st_size, "changed": stat.st_mtime_ns, "version": 2}
    return cached("shards", key, lambda: _scan(shard))


def _scan(shard):
    _refuse_compressed(shard)
    files, links, contents = {}, {}, {}
    try:
        with tarfile.open(shard, "r:") as archive:
            for member in archive:
                name = _normal(member.name)
                if member.isdir() or not name or PurePosixPath(name).name.startswith("."):
                    continue
                if member.islnk() or member.issym():
                    home = "" if member.islnk() else str(PurePosixPath(name).parent)
                    links[name] = _normal(f"{home}/{member.linkname}")
                elif member.isfile():
                    files[name] = (member.offset_data, member.size)
                    if name.endswith(".cls"):
                        contents[name] = archive.extractfile(member).read()
    except (OSError, tarfile.TarError) as error:
        raise UserError(f"missing or damaged shard {shard} ({error}); fetch the file again") from error
    reached = set()
    for name, target in links.items():
        seen = {name}
        while target in links and target not in seen:
            seen.add(target)
            target = links[target]
        reached |= {target, *seen} - {name}
        if target not in files:
            raise UserError(f"{shard}: member '{name}' is a link to '{target}', which is not in the shard")
        files[name], contents[name] = files[target], contents.get(target, b"")
    return _samples(shard, files, contents, reached)


def _samples(shard, files, contents, reached):
    """What `index` gives, of {member: (offset, size)}, {label's member: content} and the members that links reach."""
    labels, pictures, left_out = {}, {}, []
    for name in files:
        stem, kind = name.rpartition(".")[::2]
        if kind == "cls":
            labels[stem] = name
        elif stem and f".{kind.lower()}" in PICTURES:
            pictures.setdefault(stem, name)  # of a picture in two formats the first
        elif name not in reached:
            left_out.append(name)
    found = []
    for key, name in pictures.items():
        if key not in labels:
            if name in reached:
                continue
            if _whose(key) in labels:  # `0001.seg.png` beside `0001.png` and `0001.cls`
                left_out.append(name)
                continue
            raise UserError(f"{shard}: picture '{name}' has no label; '{key}.cls' is expected beside it")
        try:
            found.append([key, int(contents[labels[key]]), *files[name]])
        except ValueError as error:
            text = contents[labels[key]][:20].decode(errors="replace")
            raise UserError(f"{shard}: label '{labels[key]}' says '{text}' where the number of a class is expected") from error
    for key, name in labels.items():
        if key not in pictures:
            raise UserError(f"{shard}: label '{name}' has no picture beside it; {', '.join(PICTURES)} are looked for")
    return {"samples": found, "left_out": left_out}


def _whose(key):
    """The key that the WebDataset convention gives to `folder/0001.seg`: all before the first point of the file's name."""
    folder, slash, name = key.rpartition("/")
    return f"{folder}{slash}{name.partition('.')[0]}"


def _normal(name):
    """A member's name without `./` and `..`, as plain parts."""
    parts = []
    for part in PurePosixPath(name).parts:
        if part == ".." and parts:
            parts.pop()
        elif part not in ("/", ".", ".."):
            parts.append(part)
    return "/".join(parts)


def _refuse_compressed(shard):
    """`UserError` for a shard that is packed as a whole: it is read in place."""
    with shard.open("rb") as file:
        head = file.read(6)
    for magic, tool in COMPRESSED.items():
        if head.startswith(magic):
            raise UserError(
                f"{shard} is compressed ({tool}), and shards are read in place; unpack it: "
                f"{tool} -dc {shard} > {shard}.plain && mv {shard}.plain {shard}"
            )
