"""Records: one JSON file a finished cell, whole or not there; outcomes beside it; and rows.csv, compiled by one writer.

results/PROFILE/records/CELL.json   {schema_version, kind, cell, hash, parameters, inputs, provenance, rows, changes, ...}
"""

import csv
import importlib.metadata
import importlib.util
import json
import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path

from mmcoa.errors import UserError
from mmcoa.study.cells import SCHEMA_VERSION, study_models
from mmcoa.study.profiles import load_profile

MADE_COLUMNS = (
    "git_commit",
    "git_dirty",
    "python",
    "torch",
    "open_clip",
    "mmcoa",
    "threads",
    "started",
)  # from a record's provenance
ROW_COLUMNS = (
    *(
        "model",
        "defense",
        "base_model",
        "trained_on",
        "task",
        "dataset",
        "split",
        "classes",
        "attack",
        "accuracy",
        "correct",
        "n",
    ),
    *(
        "ci_low",
        "ci_high",
        "sweep",
        "sweep_value",
        "epsilon",
        "norm",
        "step_size",
        "steps",
        "restarts",
        "keep",
        "targets",
        "queries",
    ),
    *(
        "attacked_space",
        "candidate_source",
        "text_budget",
        "beam",
        "text_score",
        "attackable",
        "min_similarity",
        "share_changed",
    ),
    *(
        "precision",
        "check",
        "check_n",
        "prompts",
        "transform",
        "skipped",
        "resize",
        "train_seed",
        "attack_seed",
        "seed",
        "config_hash",
        "device",
        "seconds",
    ),
    *("schema_version", "cell"),
    *MADE_COLUMNS,
)
VERSIONS = {"torch": "torch", "open_clip": "open_clip_torch", "mmcoa": "mmcoa"}


def record_path(folder, cell_id):
    """Where the record of a cell lies; `folder` is results/PROFILE."""
    return Path(folder) / "records" / f"{cell_id}.json"


def write_atomic(path, write):
    """Call `write(temporary path)`, then rename to `path`: a reader sees the whole file or none."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        write(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def write_record(folder, cell, provenance, rows=(), changes=(), **more):
    """Write the record of a finished cell."""
    record = {
        "schema_version": SCHEMA_VERSION,
        "kind": cell.kind,
        "cell": cell.id,
        "hash": cell.hash,
        "parameters": cell.parameters,
    }
    record |= {"inputs": cell.inputs, "provenance": provenance, **more, "rows": list(rows), "changes": list(changes)}
    return write_atomic(record_path(folder, cell.id), lambda path: path.write_text(lined(record), encoding="utf8"))


def write_outcomes(outcomes, folder, cell_id):
    """Per-sample outcomes as CELL.parquet; as CELL.npz on a machine without pyarrow."""
    if importlib.util.find_spec("pyarrow"):
        import pyarrow
        from pyarrow import parquet

        # A few dozen rows: what pandas, Arrow and Parquet say about the columns would be three quarters of the file.
        table = pyarrow.Table.from_pandas(outcomes, preserve_index=False).replace_schema_metadata(None)
        lean = dict(compression="zstd", write_statistics=False, store_schema=False, use_dictionary=False)
        return write_atomic(folder / f"{cell_id}.parquet", lambda path: parquet.write_table(table, path, **lean))
    import numpy as np

    def write(path):
        with path.open("wb") as file:
            # Names of attacks as plain text: numpy would pickle objects.
            columns = {name: column.to_numpy() for name, column in outcomes.items()}
            np.savez_compressed(
                file, **{name: values if values.dtype.kind != "O" else values.astype(str) for name, values in columns.items()}
            )

    return write_atomic(folder / f"{cell_id}.npz", write)


def lined(record):
    """JSON of a record, one line a key and one line an item of a list: small, and a change of one item is one line of a diff."""

    def value(item):
        if not isinstance(item, list) or not item:
            return json.dumps(item)
        return "[\n  " + ",\n  ".join(json.dumps(each) for each in item) + "\n ]"

    return "{\n " + ",\n ".join(f"{json.dumps(key)}: {value(item)}" for key, item in record.items()) + "\n}\n"


def read_record(folder, cell_id):
    """The record of a cell, None where there is none. Raises `UserError` where the file is damaged."""
    path = record_path(folder, cell_id)
    try:
        record = json.loads(path.read_text(encoding="utf8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise UserError(f"damaged record {path} ({error}); remove it and run the profile again") from error
    if not isinstance(record, dict) or not {"hash", "kind", "rows", "provenance"} <= record.keys():
        raise UserError(f"damaged record {path}: no hash, kind, rows or provenance; remove it and run the profile again")
    return record


def is_current(record, cell_hash):
    """True where a record exists and was made by exactly this cell."""
    return record is not None and record["hash"] == cell_hash


def provenance(started, seconds, seed, device, threads, hardware=None):
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


def _version(distribution):
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
    package = Path(__file__).parent.parent

    def git(*arguments):
        command = ["git", "-C", str(package), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout.strip()

    try:
        if not git("ls-files", "__init__.py"):  # an installed copy that happens to lie in somebody's repository
            return None, None
        changed = git("status", "--porcelain", "--untracked-files=no", "--", ".", ":(top)notebooks")
        return git("rev-parse", "HEAD"), bool(changed)
    except (OSError, subprocess.SubprocessError):
        return None, None


def made_by(record):
    """Provenance as columns of a row: what `--where git_dirty=True` or a table by version asks for."""
    made = record["provenance"]
    return {name: made.get(name, "") for name in ("git_commit", "git_dirty", "threads", "started")} | made.get("versions", {})


def seconds_of(record):
    """Seconds that a cell took, with those of sittings before the one that finished it where a training says so."""
    return max(record["provenance"]["seconds"], (record.get("training") or {}).get("seconds") or 0)


def compile_rows(profile, results=Path("results"), runs=Path("runs")):
    """Write results/PROFILE/rows.csv from the current records of the profile's evaluate cells, in the profile's order.

    Returns (path, number of evaluate cells without a current record): those are not in the file.
    """
    profile = load_profile(profile)
    folder = Path(results) / profile.name
    rows, missing = [], 0
    for model in study_models(profile, runs, results):
        for cell in model.evaluate:
            record = read_record(folder, cell.id)
            if is_current(record, cell.hash):
                rows += [{**row, "cell": cell.id, **made_by(record)} for row in record["rows"]]
            else:
                missing += 1
    columns = [*ROW_COLUMNS, *sorted({key for row in rows for key in row} - set(ROW_COLUMNS))]

    def write(path):
        with path.open("w", newline="", encoding="utf8") as file:
            writer = csv.DictWriter(file, columns, restval="", lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)

    return write_atomic(folder / "rows.csv", write), missing
