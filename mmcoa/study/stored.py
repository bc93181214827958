"""What is stored of a study's cells: the records of its runs, and the packed results that came with the repository.

    stored = Stored("runs/quick", "results/quick")
    stored.look(cell)      # `Seen`, None where nothing is stored

Imports neither torch nor pandas: a status must answer at once. A file that has not changed is not read again.
"""

import csv
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from mmcoa.errors import UserError
from mmcoa.store.finished import read_record, record_path, seconds_of


@dataclass(frozen=True)
class Seen:
    """One stored cell. `packed`: in results/STUDY, not in a record; `gpus`: 0 for a CPU; `finished`: POSIX seconds."""

    identity: str | None = None
    seconds: float = 0.0
    gpus: int = 0
    finished: float = 0.0
    packed: bool = False
    damage: str | None = None  # why it cannot be read


class Stored:
    """Records under `runs` (runs/STUDY) and lines of cells.csv under `results` (results/STUDY); current ones go first."""

    def __init__(self, runs, results):
        self.runs, self.results = Path(runs), Path(results)
        self._records, self._lines, self._stamp = {}, {}, None

    def look(self, cell):
        """What is stored of a cell: current where there is something current, else what is outdated; None for nothing."""
        found = [seen for seen in (self._record(cell.id), self._packed().get(cell.id)) if seen]
        return next((seen for seen in found if seen.identity == cell.identity), found[0] if found else None)

    def is_current(self, cell):
        """Whether a result of exactly this cell is stored."""
        seen = self.look(cell)
        return seen is not None and seen.identity == cell.identity

    def _record(self, cell_id):
        path = record_path(self.runs, cell_id)
        try:
            info = path.stat()
        except FileNotFoundError:
            self._records.pop(cell_id, None)
            return None
        stamp = info.st_mtime_ns, info.st_size, info.st_ino
        if self._records.get(cell_id, (None,))[0] != stamp:
            self._records[cell_id] = stamp, _seen(self.runs, cell_id, path, info.st_mtime)
        return self._records[cell_id][1]

    def _packed(self):
        path = self.results / "cells.csv"
        try:
            info = path.stat()
        except FileNotFoundError:
            return {}
        if self._stamp != (info.st_mtime_ns, info.st_size):
            self._stamp = info.st_mtime_ns, info.st_size
            with path.open(newline="", encoding="utf8") as file:
                self._lines = {line["cell"]: _packed_line(line) for line in csv.DictReader(file)}
        return self._lines


def _seen(folder, cell_id, path, written):
    try:
        record = read_record(folder, cell_id)
        made = record["provenance"]
        return Seen(str(record["identity"]), float(seconds_of(record)), _gpus(record), _finished(made, written))
    except UserError as error:
        return Seen(damage=str(error))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        text = f"damaged record {path}: {type(error).__name__}: {error}; remove it and run the profile again"
        return Seen(damage=text)


def _packed_line(line):
    gpus = int(line.get("device", "").startswith("cuda"))
    seconds = float(line["seconds"] or 0)
    return Seen(line["identity"], seconds, gpus, _finished({"started": line["started"], "seconds": seconds}, 0.0), packed=True)


def _gpus(record):
    """How many GPUs computed a record; of a training in several processes each had one."""
    made = record["provenance"]
    if not str(made.get("device")).startswith("cuda"):
        return 0
    return int(made.get("gpus") or (record.get("training") or {}).get("processes") or 1)


def _finished(made, written):
    """When a result was made, in POSIX seconds, as it says itself; `written`: when its file was, as a stand-in."""
    try:
        said = datetime.fromisoformat(made["started"]).timestamp() + made["seconds"]
    except (KeyError, TypeError, ValueError):
        return written
    return written if abs(written - said) < 2 else said  # it says whole seconds
