"""Where data sets lie on this machine. Imports no torch."""

import os
from pathlib import Path

from mmcoa.cache import cache_folder
from mmcoa.errors import UserError

NO_ROOT = " (give --root or set MMCOA_DATA)"


def use_root(root):
    """Make `root` the folder of the data sets for this process and those that it starts; None: as it was."""
    if root is not None:
        os.environ["MMCOA_DATA"] = str(root)


def data_root(root=None):
    """Folder of the data sets: `root`, else $MMCOA_DATA, else `data` in the user's cache folder."""
    return Path(root or os.environ.get("MMCOA_DATA") or cache_folder() / "data").expanduser()


def locate(record, root=None):
    """(reader, folder) of a data set: its own layout under the root, or its WebDataset copy there, whichever is found.

    Raises `UserError` where there is neither, with the command that fetches it.
    """
    if record.reader == "openmoji":
        return record.reader, None
    if record.reader == "by_path":
        return record.reader, Path(record.options["path"])
    root, mend = data_root(root), record.manual or f"say: mmcoa data get {record.name}"
    if record.reader == "webdataset":
        folder = Path(record.options["folder"]).expanduser()
        folder = folder if folder.is_absolute() or record.name.startswith("wds:") else root / folder
        if folder.is_dir() or record.name.startswith("wds:"):
            return record.reader, folder
        raise UserError(f"'{record.name}' is not in {root}: no folder {folder.name}; {mend}")
    if not root.is_dir():
        raise UserError(f"'{record.name}': no data folder {root}{NO_ROOT}; {mend}")
    if record.reader == "merged":  # made from other data sets, which are looked for when they are read
        return record.reader, root
    own = record.options.get("folder", record.name)
    if (root / own).exists():
        return record.reader, root
    copy = root / Path(record.hub).name if record.hub else None
    if copy is not None and copy.is_dir():
        return "webdataset", copy
    places = f"no folder {own}" + (f", nor {copy.name}" if copy is not None else "")
    raise UserError(f"'{record.name}' is not in {root}: {places}; {mend}")
