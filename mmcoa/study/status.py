"""Where a study stands: done, running, failed, to do, hours spent, time left. Reads files only, so that it answers at once.

show("quick")                  # what `mmcoa status quick` prints
study = Study("quick")         # plans once; each study.state() then reads only what has changed since the last
"""

import contextlib
import json
import sys
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from mmcoa.console import console
from mmcoa.errors import UserError
from mmcoa.study import statusview
from mmcoa.study.cells import base_of, study_models
from mmcoa.study.plan import Plan, kind_of
from mmcoa.study.processes import alive
from mmcoa.study.profiles import load_profile
from mmcoa.study.records import read_record, record_path, seconds_of
from mmcoa.study.sources import checkpoint_cell


def claims(runs):
    """{process name: what it left when it started}, of those that run and those that were killed. `runs` is runs/PROFILE."""
    found = {path.stem: _read(path) for path in sorted((Path(runs) / "running").glob("[!.]*.json"))}
    return {name: claimed for name, claimed in found.items() if _is_claim(claimed)}  # None: it has just ended


def running_processes(runs):
    """Names of the processes that run now; a claim left by a killed one does not count. `runs` is runs/PROFILE."""
    return [name for name, claimed in claims(runs).items() if alive(claimed)]


def failures(plan):
    """{process name: {"reason", "notebook", "when"}} of the pending processes that failed when they last ran."""
    return _failures(plan.runs, [process.name for process in plan.pending])


def summary(profile, results=Path("results"), runs=Path("runs")):
    """`Study.state` of a profile, once."""
    return Study(profile, results, runs).state()


def show(profile, results=Path("results"), runs=Path("runs"), echo=print, once=False):
    """Say where a study stands: on a terminal a live view, elsewhere and with `once` one look at it. Returns the last state."""
    study = Study(profile, results, runs)
    live = sys.stdout.isatty() and not console.is_dumb_terminal
    if live and not once:
        return statusview.follow(study, console)
    state = study.state()
    if live:
        console.print(statusview.view(state))
    else:
        for line in statusview.lines(state):
            echo(line)
    return state


class Study:
    """A profile's cells, and the processes that compute them.

    Cells are hashed once: an edit of the code or the profile while a live view is open shows in the next one.
    """

    def __init__(self, profile, results=Path("results"), runs=Path("runs")):
        self.profile = load_profile(profile)
        self.results, self.runs = Path(results) / self.profile.name, Path(runs) / self.profile.name
        self.command = f"mmcoa run {profile if isinstance(profile, str | Path) else self.profile.name}"
        base, pretrain, _ = base_of(self.profile, runs, results)
        models = study_models(self.profile, runs, results)
        self.processes = {f"pretrain__{self.profile.base_model}": [pretrain]} if pretrain else {}
        self.makers = []  # (train or pretrain cell, its checkpoint, processes that need that)
        for model in models:
            if model.train:
                self.processes[f"train__{model.name}"] = [model.train]
                self.makers.append((model.train, model.path, [f"evaluate__{model.name}"]))
            self.processes[f"evaluate__{model.name}"] = model.evaluate
        if pretrain:
            users = [
                f"train__{model.name}" if model.train else f"evaluate__{model.name}"
                for model in models
                if model.train or model.path == base
            ]
            self.makers.append((pretrain, base, users))
        self.cells = [cell for cells in self.processes.values() for cell in cells]
        self.hashes = {cell.id: cell.hash for cell in self.cells}
        self.seen = {}

    def state(self):
        """A dict:

        profile, command    name of the study; what starts or continues it
        cells, done, running, failed, todo    numbers of cells; the last three: without a current record, by the state of their process
        kinds               {pretrain, train or evaluate: {"cells", "done", "gpu_hours", "cpu_hours"}}
        gpu_hours, cpu_hours    of the current records, as long as the cells took: hours times GPUs; hours, however many cores
        last_record         {"cell", "when"} or None; times are POSIX seconds
        processes           those that run: [{"name", "host", "seconds", "done", "cells"}], the latter two their cells
        runner              {"host", "pid", "started", "alive"} or None; not alive: it was killed
        killed              names of processes that were killed and have not run since
        rate                cells an hour since the runner started; None without a runner, or before the first cell
        seconds_left, at_once   estimate for the cells that are to do, so many processes at once; None: not known yet
        failures, last_error    as `failures`; the latest of them with its "name", or None
        stale, damaged      number of records of other code, settings or inputs; lines about those that cannot be read
        logs                folder of what the processes printed
        """
        now, runner = time.time(), self._runner()
        records = {cell.id: look(self.results, cell.id, self.seen.get(cell.id)) for cell in self.cells}
        self.seen = records = {name: record for name, record in records.items() if record}
        claimed, failed = claims(self.runs), _failures(self.runs, self.processes)
        todo = self._todo(records, {*claimed, *failed})
        active = {name: claim for name, claim in claimed.items() if name in self.processes and alive(claim)}
        open_cells = {name: sum(cell.id in todo for cell in cells) for name, cells in self.processes.items()}
        counts = dict.fromkeys(("running", "failed", "todo"), 0)
        for name, number in open_cells.items():
            counts["running" if name in active else "failed" if name in failed else "todo"] += number
        current = {
            cell.id: records[cell.id]
            for cell in self.cells
            if cell.id in records and records[cell.id].hash == self.hashes[cell.id]
        }
        last = max(current, key=lambda name: current[name].finished, default=None)
        since = runner["started"] if runner and runner["alive"] else float("inf")
        fresh = {name for name, record in current.items() if record.finished >= since}
        timed = self._mean(
            {name: records[name] for name in fresh}
        )  # the machine at work now goes before those of older records
        plan = Plan(self.profile, self.results, self.runs, self.cells, [], [], self._mean(records))
        at_once = max(1, len(active))
        errors = [{"name": name, **failure} for name, failure in failed.items()]
        return {
            "profile": self.profile.name,
            "command": self.command,
            "cells": len(self.cells),
            "done": len(self.cells) - len(todo),
            **counts,
            "kinds": (kinds := self._kinds(current, todo)),
            **{key: sum(kind[key] for kind in kinds.values()) for key in ("gpu_hours", "cpu_hours")},
            "last_record": {"cell": last, "when": current[last].finished} if last else None,
            "processes": [self._process(name, claim, open_cells[name], now) for name, claim in active.items()],
            "runner": runner,
            "killed": [name for name in claimed if name in self.processes and name not in active],
            "rate": len(fresh) / max(now - since, 1) * 3600 if fresh else None,
            "seconds_left": plan.seconds_left([cell for cell in self.cells if cell.id in todo], at_once, timed),
            "at_once": at_once,
            "failures": failed,
            "last_error": max(errors, key=lambda error: error["when"], default=None),
            "stale": sum(not record.damage for record in records.values()) - len(current),
            "damaged": [record.damage for record in records.values() if record.damage],
            "logs": str(self.runs / "logs"),
        }

    def _todo(self, records, touched):
        """Ids of the cells that `make_plan` would have computed. `touched`: processes that run or ended badly."""
        todo = {name for name, cell_hash in self.hashes.items() if name not in records or records[name].hash != cell_hash}
        pending = {name for name, cells in self.processes.items() if name in touched or any(cell.id in todo for cell in cells)}
        for cell, folder, users in self.makers:  # weights that git does not keep are made again where they are needed
            if pending.intersection(users) and checkpoint_cell(folder) != self.hashes[cell.id]:
                todo.add(cell.id)
                pending.add(cell.id)
        return todo

    def _runner(self):
        found = _read(self.runs / "runner.json")
        if not _is_claim(found) or not (alive(found) or "workflow" in found):  # without: its run was refused before it began
            return None
        return {key: found[key] for key in ("host", "pid", "started")} | {"alive": alive(found)}

    def _process(self, name, claim, left, now):
        cells = len(self.processes[name])
        return {
            "name": name,
            "host": claim["host"],
            "seconds": max(0.0, now - claim["started"]),
            "done": cells - left,
            "cells": cells,
        }

    def _kinds(self, current, todo):
        there = {cell.kind for cell in self.cells}
        kinds = {
            kind: {"cells": 0, "done": 0, "gpu_hours": 0.0, "cpu_hours": 0.0}
            for kind in ("pretrain", "train", "evaluate")
            if kind in there
        }
        for cell in self.cells:
            kind = kinds[cell.kind]
            kind["cells"] += 1
            kind["done"] += cell.id not in todo
            if record := current.get(cell.id):
                kind["gpu_hours" if record.gpus else "cpu_hours"] += record.seconds * (record.gpus or 1) / 3600
        return kinds

    def _mean(self, records):
        """{what kind_of says: mean seconds} of records that can be read."""
        timed = {}
        for cell in self.cells:
            if (record := records.get(cell.id)) and not record.damage:
                timed.setdefault(kind_of(cell), []).append(record.seconds)
        return {kind: sum(values) / len(values) for kind, values in timed.items()}


@dataclass(frozen=True)
class Seen:
    """What the status keeps of a record's file, as long as `stamp` stays: `gpus` is 0 for a CPU, `finished` POSIX seconds."""

    stamp: tuple
    hash: str | None = None
    seconds: float = 0.0
    gpus: int = 0
    finished: float = 0.0
    damage: str | None = None  # why it cannot be read


def look(folder, cell_id, before=None):
    """`Seen` of a cell's record, None where there is none; a file that is as `before` saw it is not read again."""
    path = record_path(folder, cell_id)
    try:
        info = path.stat()
        stamp = info.st_mtime_ns, info.st_size, info.st_ino
        if before and before.stamp == stamp:
            return before
        record = read_record(folder, cell_id)
        return (
            Seen(stamp, record["hash"], seconds_of(record), _gpus(record), _finished(record["provenance"], info.st_mtime))
            if record
            else None
        )
    except FileNotFoundError:
        return None
    except UserError as error:
        return Seen(stamp, damage=str(error))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        return Seen(
            stamp, damage=f"damaged record {path}: {type(error).__name__}: {error}; remove it and run the profile again"
        )


def _gpus(record):
    """How many GPUs computed a record; of a training in several processes each had one."""
    made = record["provenance"]
    if not str(made.get("device")).startswith("cuda"):
        return 0
    return int(made.get("gpus") or (record.get("training") or {}).get("processes") or 1)


def _finished(made, written):
    """When a record was made, in POSIX seconds, as it says itself: git gives its file another time. `written`: the file's."""
    try:
        said = datetime.fromisoformat(made["started"]).timestamp() + made["seconds"]
    except (KeyError, TypeError, ValueError):
        return written
    return written if abs(written - said) < 2 else said  # it says whole seconds


def _failures(runs, names):
    found = {}
    for name in names:
        path = Path(runs) / "failed" / f"{name}.json"
        with contextlib.suppress(FileNotFoundError):
            when = path.stat().st_mtime
            failure = _read(path) or {"reason": f"unknown: damaged {path}"}
            found[name] = {"notebook": f"{Path(runs) / 'logs' / name}.log", **failure, "when": when}
    return found


def _is_claim(value):
    return value is not None and {"host", "pid", "started"} <= value.keys()


def _read(path):
    """JSON object of a file; None where it is gone, or not one: what a process leaves may vanish at any moment."""
    try:
        value = json.loads(Path(path).read_text(encoding="utf8"))
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None
