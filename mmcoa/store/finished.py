"""Records: one JSON file a finished cell, whole or not there, with its per-sample outcomes beside it. They stay outside git.

runs/STUDY/cells/CELL.json      {kind, cell, entry, identity, versions, parameters, inputs, provenance, rows, changes, ...}
runs/STUDY/cells/CELL.parquet   per-sample outcomes of an evaluation (columns: evaluation/outcomes.py)
runs/STUDY/cells/CELL.csv       the log of a training
"""

import importlib.metadata
import importlib.util
import json
import os
import platform
import shutil
import subprocess
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mmcoa.errors import UserError
from mmcoa.store.files import write_atomic, write_text

SCHEMA_VERSION = 3
VERSIONS = {"torch": "torch", "open_clip": "open_clip_torch", "mmcoa": "mmcoa"}
NEEDED = {"identity", "kind", "rows", "provenance"}  # keys that every record has


def record_path(folder: str | Path, cell_id: str):
    """Where the record of a cell lies; `folder` is runs/STUDY."""
    return Path(folder) / "cells" / f"{cell_id}.json"


def write_record(
    folder: str | Path,
    cell: Any,
    provenance: dict[str, Any],
    rows: Iterable[dict] = (),
    changes: Iterable[dict] = (),
    **more: Any,
) -> Path:
    """Write the record of a finished cell."""
    record = {"schema_version": SCHEMA_VERSION, "kind": cell.kind, "cell": cell.id, "entry": cell.entry}
    record |= {"identity": cell.identity, "versions": cell.versions, "parameters": cell.parameters, "inputs": cell.inputs}
    record |= {"provenance": provenance, **more, "rows": list(rows), "changes": list(changes)}
    return write_text(record_path(folder, cell.id), lined(record))


def lined(record: dict[str, Any]):
    """JSON of a record, one line a key and one line an item of a list: a person can read it, and compare two."""

    def value(item: Any):
        if not isinstance(item, list) or not item:
            return json.dumps(item)
        return "[\n  " + ",\n  ".join(json.dumps(each) for each in item) + "\n ]"

    return "{\n " + ",\n ".join(f"{json.dumps(key)}: {value(item)}" for key, item in record.items()) + "\n}\n"


def read_record(folder: str | Path, cell_id: str):
    """The record of a cell, None where there is none. Raises `UserError` where the file is damaged."""
    path = record_path(folder, cell_id)
    try:
        record = json.loads(path.read_text(encoding="utf8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise UserError(f"damaged record {path} ({error}); remove it and run the profile again") from error
    if not isinstance(record, dict) or not record.keys() >= NEEDED:
        raise UserError(f"damaged record {path}: no {', '.join(sorted(NEEDED))}; remove it and run the profile again")
    return record


def write_outcomes(outcomes: Any, folder: str | Path, cell_id: str):
    """Per-sample outcomes beside the record: CELL.parquet, or CELL.npz on a machine without pyarrow."""
    path = record_path(folder, cell_id)
    if importlib.util.find_spec("pyarrow"):
        return write_atomic(path.with_suffix(".parquet"), lambda temporary: outcomes.to_parquet(temporary, index=False))
    import numpy as np

    def write(temporary: Path):
        with temporary.open("wb") as file:
            # Names of attacks as plain text: numpy would pickle objects.
            columns = {name: column.to_numpy() for name, column in outcomes.items()}
            plain = {name: each if each.dtype.kind != "O" else each.astype(str) for name, each in columns.items()}
            np.savez_compressed(file, **plain)

    return write_atomic(path.with_suffix(".npz"), write)


def read_outcomes(folder: str | Path, cell_id: str):
    """Stored per-sample outcomes of a cell, a DataFrame. Raises `UserError` where they are missing or damaged."""
    import numpy as np
    import pandas as pd

    path = record_path(folder, cell_id)
    try:
        if (packed := path.with_suffix(".npz")).is_file():
            with np.load(packed, allow_pickle=False) as arrays:
                return pd.DataFrame({name: arrays[name] for name in arrays.files})
        return pd.read_parquet(path.with_suffix(".parquet"))
    except (OSError, ValueError) as error:  # pyarrow's own errors are these
        raise UserError(
            f"no readable outcomes {path.with_suffix('.parquet')}; remove {path} and run the profile again"
        ) from error


def write_log(log: str | Path, folder: str | Path, cell_id: str):
    """The log of a training beside its record."""
    return write_atomic(record_path(folder, cell_id).with_suffix(".csv"), lambda path: shutil.copyfile(log, path))


def provenance(started: float, seconds: float, seed: int | None, device: str, threads: int, hardware: str | None = None):
    """Where and from what a result was computed. `started`: POSIX seconds; `seconds`: duration; `hardware`: name of the GPU."""
    commit, dirty = git_state()
    return ({"hardware": hardware} if hardware else {}) | {
        "git_commit": commit,
        "git_dirty": dirty,
        "versions": {"python": platform.python_version(), **{key: _version(name) for key, name in VERSIONS.items()}},
        "device": device,
        "threads": threads,
        "started": datetime.fromtimestamp(started, UTC).isoformat(timespec="seconds"),
        "seconds": round(seconds, 2),
        "seed": seed,
    }


def _version(distribution: str):
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        if distribution == "mmcoa":  # run from a checkout that is not installed
            from mmcoa import __version__

            return __version__
        return None


def git_state():
    """(commit, True where library or notebooks differ from it); (None, None) without git or outside a checkout.

    MMCOA_COMMIT names the commit where the code was copied to without its repository, as to a machine that is lent.
    """
    if os.environ.get("MMCOA_COMMIT"):
        return os.environ["MMCOA_COMMIT"], None
    package = Path(__file__).parents[1]

    def git(*arguments: str):
        command = ["git", "-C", str(package), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout.strip()

    try:
        if not git("ls-files", "__init__.py"):  # an installed copy that happens to lie in somebody's repository
            return None, None
        changed = git("status", "--porcelain", "--untracked-files=no", "--", ".", ":(top)notebooks")
        return git("rev-parse", "HEAD"), bool(changed)
    except (OSError, subprocess.SubprocessError):
        return None, None


def seconds_of(record: dict[str, Any]):
    """Seconds that a cell took, with those of sittings before the one that finished it where a training says so."""
    return max(record["provenance"]["seconds"], (record.get("training") or {}).get("seconds") or 0)
