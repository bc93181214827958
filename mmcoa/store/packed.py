"""The packed results of a study: a few tidy tables that git keeps and every page reads. `mmcoa pack` is their only writer.

    results/STUDY/cells.csv                one line a cell: what it is, its identity, with what it was computed
    results/STUDY/rows.csv                 one line a model, data set, attack, point of a sweep: accuracy, interval, threat
    results/STUDY/trainings.csv            one line a trained model: settings, cost, accuracy on its held-out slice
    results/STUDY/logs.parquet             one line a logged step of a training
    results/STUDY/checks.csv               one line a self-check of an attack
    results/STUDY/outcomes/ENTRY.parquet   one line a sample and attack: right or wrong
    results/STUDY/changes/ENTRY.parquet    one line a class prompt: what the text attack made of it

Numbers are numbers, a missing one is empty, and lines stand in the order of the study's plan, so that a defence that is run
again changes its own lines and files alone. ENTRY: a line of `models` in the profile. Columns: results/README.md.
"""

import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow
from pyarrow import parquet

from mmcoa.errors import UserError
from mmcoa.store.files import write_atomic

POINT = ("model", "entry", "dataset", "sweep", "sweep_value")  # what names an evaluation, in every table below
OUTCOMES = (*POINT, "attack", "sample_id", "label", "correct", "broken_by")
CHANGES = (
    *(*POINT, "attack", "class_name", "prompt", "adversarial_prompt", "changed", "edits"),
    *("relation", "score", "similarity", "variants", "collisions_avoided", "rounds", "converged"),
)
EDIT_WORDS = ("old_word", "new_word", "source", "relation")
EDITS = pyarrow.list_(pyarrow.struct([("position", pyarrow.int16()), *((name, "string") for name in EDIT_WORDS)]))
TYPES = {
    **dict.fromkeys((*POINT, "attack", "broken_by", "class_name"), pyarrow.string()),
    **dict.fromkeys(("prompt", "adversarial_prompt", "relation"), pyarrow.string()),
    **{"sample_id": pyarrow.int32(), "label": pyarrow.int16(), "correct": pyarrow.bool_(), "changed": pyarrow.bool_()},
    **{"edits": EDITS, "score": pyarrow.float32(), "similarity": pyarrow.float32(), "converged": pyarrow.bool_()},
    **{"variants": pyarrow.int32(), "collisions_avoided": pyarrow.int32(), "rounds": pyarrow.int16()},
}
AT_TEST = ("defense_at_test", "with_at_test", "adversary")
# Of the CSVs: text even where it looks like a number, and empty rather than missing.
TEXT = (
    *POINT,
    "cell",
    "threat_text",
    "check",
    "commit",
    "hardware",
    "trained_on",
    "with",
    "notes",
    "parts",
    "torch",
    "python",
    *AT_TEST,
)


@dataclass(frozen=True)
class Packed:
    """The tables of a study, as DataFrames; see the head of this file. `outcomes` and `changes` are those of all entries."""

    cells: pd.DataFrame
    rows: pd.DataFrame
    trainings: pd.DataFrame
    checks: pd.DataFrame
    logs: pd.DataFrame
    outcomes: pd.DataFrame
    changes: pd.DataFrame


def read_cells(folder: str | Path) -> pd.DataFrame | None:
    """cells.csv of results/STUDY as a DataFrame, None where there is none. Raises `UserError` for a damaged file."""
    path = Path(folder) / "cells.csv"
    return _read_csv(path) if path.is_file() else None


def read(folder: str | Path) -> Packed:
    """All tables of results/STUDY as `Packed`. Raises `UserError` where one is missing or damaged."""
    folder = Path(folder)
    tables = {name: _read_csv(folder / f"{name}.csv") for name in ("cells", "rows", "trainings", "checks")}
    logs = _read_parquet(folder / "logs.parquet").to_pandas() if (folder / "logs.parquet").is_file() else pd.DataFrame()
    entries = [entry for entry in dict.fromkeys(tables["cells"].entry) if isinstance(entry, str)]
    long = {kind: _of_entries(folder / kind, entries) for kind in ("outcomes", "changes")}
    return Packed(**tables, logs=logs, **long)


def _of_entries(folder: Path, entries: list[str]) -> pd.DataFrame:
    """The files of one kind, one after another in the order of the entries; text that repeats comes as categories."""
    columns = OUTCOMES if folder.name == "outcomes" else CHANGES
    repeated = [name for name in (*POINT, "attack", "broken_by") if name in columns]
    found = [_read_parquet(path, repeated) for entry in entries if (path := folder / f"{entry}.parquet").is_file()]
    if not found:
        return pd.DataFrame(columns=list(columns))
    together = pyarrow.concat_tables(found, promote_options="default")  # a column that came later is empty in older files
    return together.unify_dictionaries().to_pandas()


def _read_csv(path: Path) -> pd.DataFrame:
    try:
        frame = pd.read_csv(
            path,
            keep_default_na=False,
            na_values=[""],
            low_memory=False,
            dtype=dict.fromkeys(TEXT, str),
            float_precision="round_trip",
        )
    except FileNotFoundError as error:
        raise UserError(f"no results: {path} is missing; compute them with: mmcoa run {path.parent.name}") from error
    except (OSError, ValueError, pd.errors.ParserError) as error:
        raise UserError(f"damaged results {path} ({error}); write them again with: mmcoa pack {path.parent.name}") from error
    return frame.assign(**{name: frame[name].fillna("") for name in TEXT if name in frame.columns})


def _read_parquet(path: Path, categories: Sequence[str] = ()) -> pyarrow.Table:
    try:
        return parquet.read_table(path, use_threads=False, read_dictionary=list(categories))
    except (OSError, ValueError) as error:  # pyarrow's own errors are these
        study = path.parent.name if path.name == "logs.parquet" else path.parent.parent.name
        raise UserError(f"damaged results {path} ({error}); write them again with: mmcoa pack {study}") from error


def write(folder: str | Path, packed: Packed) -> list[Path]:
    """Write the tables into results/STUDY; a file whose content stays is left alone. Returns the paths that changed."""
    folder, changed = Path(folder), []
    for field in fields(Packed):
        frame = getattr(packed, field.name)
        if field.name in ("outcomes", "changes"):
            changed += _write_entries(folder / field.name, frame, OUTCOMES if field.name == "outcomes" else CHANGES)
        elif field.name == "logs":
            changed += _write(folder / "logs.parquet", _parquet(pyarrow.Table.from_pandas(frame, preserve_index=False)))
        else:
            frame = frame if len(frame.columns) else frame.reindex(columns=list(POINT))  # a table without lines has a head
            changed += _write(
                folder / f"{field.name}.csv", frame.convert_dtypes().to_csv(index=False, lineterminator="\n").encode()
            )
    return changed


def _write_entries(folder: Path, frame: pd.DataFrame, columns: Iterable[str]) -> list[Path]:
    """One file an entry; files of entries that are no more are removed."""
    changed, wanted = [], set()
    for entry, part in frame.groupby("entry", sort=False, observed=True):
        schema = pyarrow.schema([(name, TYPES[name]) for name in columns])
        table = pyarrow.Table.from_pandas(part.reindex(columns=list(columns)), schema=schema, preserve_index=False)
        wanted.add(f"{entry}.parquet")
        changed += _write(folder / f"{entry}.parquet", _parquet(table))
    for path in sorted(folder.glob("*.parquet")):
        if path.name not in wanted:
            path.unlink()
            changed.append(path)
    return changed


def _parquet(table: pyarrow.Table) -> bytes:
    """Bytes of a table without what pandas and Arrow say about it: the same table gives the same bytes."""
    buffer = io.BytesIO()
    parquet.write_table(
        table.replace_schema_metadata(None),
        buffer,
        compression="zstd",
        compression_level=9,
        write_statistics=False,
        store_schema=False,
    )
    return buffer.getvalue()


def _write(path: Path, content: bytes) -> list[Path]:
    if path.is_file() and path.read_bytes() == content:
        return []
    return [write_atomic(path, lambda temporary: temporary.write_bytes(content))]


def as_json(value: dict[str, Any]) -> str:
    """A dict as one field of a CSV: its JSON with sorted keys; empty where there is nothing in it."""
    return json.dumps(value, sort_keys=True) if value else ""
