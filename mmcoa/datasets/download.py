"""Fetching data sets into the data root. Imports no torch.

    get(find_record("cifar10"))                        # under --root or $MMCOA_DATA; a second call finds a marker and returns
    fetch_webdataset("https://huggingface.co/datasets/clip-benchmark/wds_vtab-dtd")

$MMCOA_HUB stands for https://huggingface.co: a mirror, or a server of the tests.
"""

import contextlib
import json
import os
import re
from functools import partial
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from filelock import FileLock

from mmcoa.datasets.archives import unpack
from mmcoa.datasets.place import data_root
from mmcoa.datasets.records import find_record
from mmcoa.datasets.transfer import NotThere, fetch
from mmcoa.errors import UserError
from mmcoa.store.files import write_json

HUB = "https://huggingface.co"
LAYOUT = (
    "classnames.txt",
    "zeroshot_classification_templates.txt",
)  # of the clip-benchmark WebDataset layout, beside its splits
ORIGIN = ".mmcoa.json"  # in a fetched WebDataset folder: where it is from


def get(record, root=None, progress=None, copy=False, again=False):
    """Fetch a data set into `root` (default: see `data_root`); returns the folder, None where its pictures are embedded.

    copy: its WebDataset copy on the hub, even where there is a download. again: also what was fetched before.
    progress: called with (file name, bytes so far, bytes in all or None).
    Raises `UserError` of `fetch` and `unpack`, and where nobody may download it, with the way by hand.
    """
    if record.reader == "openmoji":
        return None
    if record.reader == "merged" and not record.download:
        return get(find_record(record.options["of"]), root, progress, copy, again)
    root = data_root(root)
    if copy and not record.hub:
        raise UserError(f"'{record.name}' has no copy on the hub")
    if record.hub and (copy or not record.download):
        address = f"{_hub()}/datasets/{record.hub}/resolve/main"
        try:
            return _fetch_folder(address, root / Path(record.hub).name, f"hub:{record.hub}", progress, again)
        except UserError as error:
            raise UserError(f"{error}; by hand: {record.manual}" if record.manual else str(error)) from error
    if not record.download:
        raise UserError(f"'{record.name}' cannot be fetched by a command. {record.manual or f'See {record.source}'}")
    notes = _notes(record, root)
    if again or not is_fetched(record, root):
        with _disk(root), _lock(notes):
            for archive in record.download.files:
                try:
                    _bring(archive, notes, root, progress, again)
                except UserError as error:
                    other = f"; its copy on the hub: mmcoa data get {record.name} --copy" if record.hub else ""
                    raise UserError(f"{error}{other}") from error
    return root


def is_fetched(record, root):
    """Whether `get` has brought all files of a record, and they are still there."""
    root = Path(root)
    if not record.download:
        return bool(record.hub) and _is_complete(root / Path(record.hub).name)
    notes = _notes(record, root)
    return all(_is_settled(archive, notes, root) for archive in record.download.files)


def _notes(record, root):
    """Folder of a record's archives until they are unpacked, and of the markers that they were."""
    return root / "downloads" / record.name.replace("/", "-")


def _file_name(url):
    return unquote(PurePosixPath(urlsplit(url).path).name) or "file"


def _marker(archive, notes):
    return notes / f"{_file_name(archive.url)}.json"


def _is_settled(archive, notes, root):
    try:
        marker = json.loads(_marker(archive, notes).read_text(encoding="utf8"))
        made = [root / archive.into / name for name in marker["made"]]
        return marker["archive"] == archive.model_dump() and all(path.exists() for path in made)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _bring(archive, notes, root, progress, again):
    """Fetch and unpack one file, unless its marker says that this was done."""
    if not again and _is_settled(archive, notes, root):
        return
    name, target = _file_name(archive.url), root / archive.into
    path = (notes if archive.unpack else target) / name
    if again and not archive.unpack:
        path.unlink(missing_ok=True)
    found = path.exists()  # put there by the user, who may want to keep it
    fetch(archive.url, path, archive.sha256, archive.md5, archive.bytes, partial(progress, name) if progress else None)
    made = [name]
    if archive.unpack:
        try:
            made = unpack(path, target, os.path.relpath(archive.inner, archive.into or ".") if archive.inner else None)
        finally:
            if not found:
                path.unlink()
    write_json(_marker(archive, notes), {"archive": archive.model_dump(), "made": made}, indent=1)


def fetch_webdataset(url, root=None, progress=None, again=False):
    """Fetch a folder in the clip-benchmark WebDataset layout, of the hub or of any server, into the data root.

    url: https://huggingface.co/datasets/OWNER/NAME, also with /tree/main, or the address under which classnames.txt lies.
    Returns the folder, named like the last part of the address; where it is complete, without network.
    """
    base, _, origin = _address(url)
    return _fetch_folder(base, webdataset_folder(url, root), origin, progress, again)


def webdataset_folder(url, root=None):
    """Where `fetch_webdataset` puts what is behind an address."""
    return data_root(root) / _address(url)[1]


def _hub():
    return (os.environ.get("MMCOA_HUB") or HUB).rstrip("/")


def _address(url):
    """(address of the files, folder name, origin) of a WebDataset address; the origin does not change with the mirror."""
    for hub in (HUB, _hub()):
        pattern = re.escape(hub) + r"/datasets/([\w.-]+/([\w.-]+))(?:/(?:tree|resolve|blob)/([^/?#]+))?/?"
        if match := re.fullmatch(pattern, url):
            name, version = match[1], match[3] or "main"
            origin = f"hub:{name}" if version == "main" else f"hub:{name}@{version}"
            return f"{_hub()}/datasets/{name}/resolve/{version}", match[2], origin
    base = url.partition("#")[0].rstrip("/")
    name = unquote(PurePosixPath(urlsplit(base).path).name)
    if not re.fullmatch(r"\w[\w.-]*", name) or "?" in base:
        raise UserError(f"{url} does not end in the name of a folder; wds:URL names one in the clip-benchmark layout")
    return base, name, base


def _fetch_folder(base, folder, origin, progress, again=False):
    """Fetch the WebDataset folder at `base`: all of it is at `folder`, or none."""
    known = _origin(folder)
    if known is None and folder.is_dir() and any(folder.iterdir()) and not any(folder.glob("*/nshards.txt")):
        known = "elsewhere"
    if known not in (None, origin):
        raise UserError(f"{folder} holds something else, from {known}; move it away, or give another --root")
    if not again and _is_complete(folder):
        return folder
    with _disk(folder.parent), _lock(folder.parent / "downloads" / folder.name):
        # An unfinished folder must not be mistaken for data: it has its name only in the end.
        work = folder if folder.exists() else folder.with_name(f".{folder.name}.part")
        _fill(base, work, folder.name, progress, again)
        write_json(work / ORIGIN, {"from": origin}, indent=1)
        if work != folder:
            os.replace(work, folder)
    return folder


def _fill(base, work, name, progress, again):
    """Fetch the files of the layout that are not in the folder `work` yet."""

    def bring(file):
        if again:
            (work / file).unlink(missing_ok=True)
        fetch(f"{base}/{file}", work / file, progress=partial(progress, f"{name}/{file}") if progress else None)

    for file in LAYOUT:
        bring(file)
    splits = []
    for split in ("test", "train"):
        with contextlib.suppress(NotThere):
            bring(f"{split}/nshards.txt")
            splits.append(split)
    if not splits:
        raise UserError(f"{base} has neither test/nshards.txt nor train/nshards.txt: no folder in the clip-benchmark layout")
    for split in splits:
        for shard in range(_shards(work / split / "nshards.txt")):
            bring(f"{split}/{shard}.tar")


def _origin(folder):
    try:
        return json.loads((folder / ORIGIN).read_text(encoding="utf8"))["from"]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _shards(path):
    text = path.read_text(encoding="utf8", errors="replace").strip()
    if not re.fullmatch(r"\d{1,5}", text):
        raise UserError(f"{path} says '{text[:40]}' where a number of shards is expected; delete it and fetch it again")
    return int(text)


def _is_complete(folder):
    """Whether the layout's files are all there: names alone, contents are verified by reading."""
    counts = list(folder.glob("*/nshards.txt"))
    shards = [path.with_name(f"{shard}.tar") for path in counts for shard in range(_shards(path))]
    return bool(counts) and all(path.is_file() for path in (*(folder / name for name in LAYOUT), *shards))


@contextlib.contextmanager
def _lock(place):
    """Two processes that fetch the same data set come one after the other."""
    place.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(place.with_name(f".{place.name}.lock")):
        yield


@contextlib.contextmanager
def _disk(root):
    """The disk's errors as `UserError`."""
    try:
        yield
    except OSError as error:
        raise UserError(f"cannot write to {root}: {error.strerror or error}; give another --root or set MMCOA_DATA") from error
