"""Where a study stands: done, running, failed, to do, hours spent, time left. Reads files only, so that it answers at once.

study = Standing("quick")      # plans once; each study.state() then reads only what has changed since the last
"""

import contextlib
import json
import time
from pathlib import Path

from mmcoa.study.plan import make_plan
from mmcoa.study.processes import alive


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
    """`Standing.state` of a profile, once."""
    return Standing(profile, results, runs).state()


class Standing:
    """A profile's cells, and the processes that compute them.

    Planned once: an edit of the profile while a live view is open shows in the next one.
    """

    def __init__(self, profile, results=Path("results"), runs=Path("runs")):
        self.plan = make_plan(profile, results, runs)
        self.runs = self.plan.runs
        self.command = f"mmcoa run {profile if isinstance(profile, str | Path) else self.plan.profile.name}"
        self.names = {process.name: process for process in self.plan.processes}
        self.cells = self.plan.cells

    def state(self):
        """A dict:

        profile, command    name of the study; what starts or continues it
        cells, done, running, failed, todo    numbers of cells; the last three: without a current record, by the state of
        their process
        kinds               {pretrain, train or evaluate: {"cells", "done", "gpu_hours", "cpu_hours"}}
        gpu_hours, cpu_hours    of the current records, as long as the cells took: hours times GPUs; hours, however many cores
        last_record         {"cell", "when"} or None; times are POSIX seconds
        processes           those that run: [{"name", "host", "seconds", "done", "cells"}], the latter two their cells
        runner              {"host", "pid", "started", "alive"} or None; not alive: it was killed
        killed              names of processes that were killed and have not run since
        rate                cells an hour since the runner started; None without a runner, or before the first cell
        seconds_left, at_once   estimate for the cells that are to do, so many processes at once; None: not known yet
        failures, last_error    as `failures`; the latest of them with its "name", or None
        stale, damaged      number of results of other settings, inputs or versions; lines about those that cannot be read
        logs                folder of what the processes printed
        """
        now, runner = time.time(), self._runner()
        self.plan = plan = self.plan.again()
        claimed, failed = claims(self.runs), _failures(self.runs, self.names)
        todo = {cell.id for cell in plan.todo}
        active = {name: claim for name, claim in claimed.items() if name in self.names and alive(claim)}
        open_cells = {name: sum(cell.id in todo for cell in process.cells) for name, process in self.names.items()}
        counts = dict.fromkeys(("running", "failed", "todo"), 0)
        for name, number in open_cells.items():
            counts["running" if name in active else "failed" if name in failed else "todo"] += number
        seen = {cell.id: found for cell in self.cells if (found := plan.stored.look(cell))}
        current = {cell.id: seen[cell.id] for cell in self.cells if plan.is_done(cell)}
        last = max(current, key=lambda name: current[name].finished, default=None)
        since = runner["started"] if runner and runner["alive"] else float("inf")
        fresh = [record for record in current.values() if record.finished >= since]
        # The machine at work now goes before those of older records.
        timed = plan.mean_seconds(lambda record: record.finished >= since)
        at_once = max(1, len(active))
        errors = [{"name": name, **failure} for name, failure in failed.items()]
        return {
            "profile": plan.profile.name,
            "command": self.command,
            "cells": len(self.cells),
            "done": len(self.cells) - len(todo),
            **counts,
            "kinds": (kinds := self._kinds(current, todo)),
            **{key: sum(kind[key] for kind in kinds.values()) for key in ("gpu_hours", "cpu_hours")},
            "last_record": {"cell": last, "when": current[last].finished} if last else None,
            "processes": [self._process(name, claim, open_cells[name], now) for name, claim in active.items()],
            "runner": runner,
            "killed": [name for name in claimed if name in self.names and name not in active],
            "rate": len(fresh) / max(now - since, 1) * 3600 if fresh else None,
            "seconds_left": plan.seconds_left(plan.todo, at_once, timed),
            "at_once": at_once,
            "failures": failed,
            "last_error": max(errors, key=lambda error: error["when"], default=None),
            "stale": sum(not record.damage for record in seen.values()) - len(current),
            "damaged": [record.damage for record in seen.values() if record.damage],
            "logs": str(self.runs / "logs"),
        }

    def _runner(self):
        found = _read(self.runs / "runner.json")
        if not _is_claim(found) or not (alive(found) or "workflow" in found):  # without: its run was refused before it began
            return None
        return {key: found[key] for key in ("host", "pid", "started")} | {"alive": alive(found)}

    def _process(self, name, claim, left, now):
        cells, seconds = len(self.names[name].cells), max(0.0, now - claim["started"])
        return {"name": name, "host": claim["host"], "seconds": seconds, "done": cells - left, "cells": cells}

    def _kinds(self, current, todo):
        there = {cell.kind for cell in self.cells}
        nothing = {"cells": 0, "done": 0, "gpu_hours": 0.0, "cpu_hours": 0.0}
        kinds = {kind: dict(nothing) for kind in ("pretrain", "train", "evaluate") if kind in there}
        for cell in self.cells:
            kind = kinds[cell.kind]
            kind["cells"] += 1
            kind["done"] += cell.id not in todo
            if record := current.get(cell.id):
                kind["gpu_hours" if record.gpus else "cpu_hours"] += record.seconds * (record.gpus or 1) / 3600
        return kinds


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
