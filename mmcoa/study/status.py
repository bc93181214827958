"""Where a study stands: done, running, failed, to do, hours spent, time left. Reads files only, so that it answers at once.

study = Standing("quick")      # plans once; each study.state() then reads only what has changed since the last
"""

import contextlib
import json
import socket
import sys
import time
from datetime import datetime
from pathlib import Path

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from mmcoa import identity
from mmcoa.console import console, shortened
from mmcoa.study.machine import alive
from mmcoa.study.plan import duration, kind_of, make_plan


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


# What a terminal shows of a study: where it stands, and the progress of a run.
#
#     show("quick")                          # what `mmcoa status quick` prints
#     show_progress(plan, child, jobs)       # what `mmcoa run quick` prints meanwhile
#
# `state` is what `mmcoa.study.status.Standing.state` returns; as lines of text and as a live view it says the same.

REFRESH = 2.0  # seconds between two views of a state
POLL = 0.5  # seconds between two looks at a run
ROWS = 20  # running processes that are listed
COUNTS = {"done": "done", "running": "running", "failed": "failed", "todo": "to do"}
STYLES = {"done": "green", "running": "cyan", "failed": "red", "todo": ""}
LOUD = ("last error", "runner", "killed", "damaged")


def show(profile, results=Path("results"), runs=Path("runs"), echo=print, once=False):
    """Say where a study stands: on a terminal a live view, elsewhere and with `once` one look at it. Returns the last state."""
    study = Standing(profile, results, runs)
    live = sys.stdout.isatty() and not console.is_dumb_terminal
    if live and not once:
        return follow(study, console)
    state = study.state()
    if live:
        console.print(view(state))
    else:
        for line in lines(state):
            echo(line)
    return state


def lines(state):
    """The state as lines of plain text."""
    yield f"{state['profile']}: {state['cells']} cells"
    for key, text in COUNTS.items():
        yield f"  {text:8}{state[key]:5}"
    for process in state["processes"]:
        yield (
            f"  running: {process['name']}: {elapsed(process['seconds'])} on {process['host']}, {process['done']} of "
            f"{process['cells']} cells done"
        )
    for name, failure in state["failures"].items():
        if name != state["last_error"]["name"]:
            yield f"  failed: {failure['reason']}, in {name}; see {failure['notebook']}"
    for label, text in facts(state):
        yield f"  {label}: {text}"


def view(state):
    """The state as something that rich draws, at any width."""
    bar = Table.grid(padding=(0, 2), expand=True)
    for column in ({"no_wrap": True}, {"ratio": 1}, {"no_wrap": True, "justify": "right"}):
        bar.add_column(**column)
    share = f"{state['done']} of {state['cells']} cells"
    bar.add_row(Text(state["profile"], style="bold"), ProgressBar(total=max(state["cells"], 1), completed=state["done"]), share)
    counts = Text("   ").join(
        Text(f"{text} {state[key]}", style=STYLES[key] if state[key] else "dim") for key, text in COUNTS.items()
    )
    told = Table.grid(padding=(0, 2))
    told.add_column(no_wrap=True)
    told.add_column(overflow="fold")
    for label, text in facts(state):
        told.add_row(Text(label, style="red" if label in LOUD else "dim"), Text(text))
    return Group(bar, counts, *([running(state)] if state["processes"] else []), told)


def running(state):
    """Table of the processes that run now."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("running", overflow="fold")
    table.add_column("on", overflow="ellipsis", max_width=24)
    table.add_column("for", no_wrap=True, justify="right")
    table.add_column("cells done", no_wrap=True, justify="right")
    for process in state["processes"][:ROWS]:
        cells = f"{process['done']} of {process['cells']}"
        table.add_row(Text(process["name"], style="cyan"), Text(process["host"]), elapsed(process["seconds"]), cells)
    if (more := len(state["processes"]) - ROWS) > 0:
        table.add_row(f"and {more} more")
    return table


def follow(study, console):
    """Show the view of `study.state()` anew every two seconds, until all is done and nothing runs, or Ctrl-C.

    Returns the last state.
    """
    state = study.state()
    with Live(view(state), console=console, auto_refresh=False) as live:
        try:
            while state["done"] < state["cells"] or at_work(state):
                time.sleep(REFRESH)
                state = study.state()
                live.update(view(state), refresh=True)
        except KeyboardInterrupt:  # it ends the view, and no run
            pass
    return state


def facts(state):
    """(label, text) of all that is neither a count nor a process at work."""
    runner, open_cells = state["runner"], state["cells"] - state["done"]
    yield "spent", spent(state)
    if last := state["last_record"]:
        yield "last record", f"{last['cell']}, {ago(last['when'])}"
    if runner and runner["alive"]:
        rate = f"; {state['rate']:.3g} cells an hour" if state["rate"] else ""
        here = "" if runner["host"] == socket.gethostname() else ", which cannot be looked at from here"
        yield "runner", f"process {runner['pid']} on {runner['host']}{here}, started {ago(runner['started'])}{rate}"
    elif runner:
        yield (
            "runner",
            f"was killed: process {runner['pid']} on {runner['host']}, started {ago(runner['started'])}; what is "
            "finished is kept",
        )
    if state["killed"]:
        yield "killed", f"{shortened(state['killed'])}: ended without a result; see {state['logs']}"
    if error := state["last_error"]:
        yield "last error", f"{error['reason']}, in {error['name']}, {ago(error['when'])}; see {error['notebook']}"
    if state["stale"]:
        yield (
            "outdated",
            f"{state['stale']} results are of other settings, inputs or versions than today's; their cells count as to do",
        )
    for text in state["damaged"]:
        yield "damaged", text.removeprefix("damaged record ")
    if open_cells:
        side_by_side = "one after the other" if state["at_once"] == 1 else f"{state['at_once']} at once"
        yield "time left", duration(state["seconds_left"]) + (f", {side_by_side}" if state["seconds_left"] is not None else "")
    if open_cells or state["failures"] or state["killed"]:
        begun = state["done"] or state["failures"] or state["killed"] or runner
        yield ("if it stops, go on with" if at_work(state) else "continue with" if begun else "start with"), state["command"]
    elif not at_work(state):
        yield "report with", state["command"].replace("mmcoa run", "mmcoa book", 1)


def at_work(state):
    """Whether a runner or a process runs; the runner packs the results after the last of them."""
    return bool(state["processes"]) or bool(state["runner"] and state["runner"]["alive"])


def spent(state):
    """`0 GPU hours, 6.4 CPU hours (train 1.1, evaluate 5.3)`."""
    parts = []
    for key, name in (("gpu_hours", "GPU"), ("cpu_hours", "CPU")):
        kinds = {kind: values[key] for kind, values in state["kinds"].items() if values[key]}
        detail = ", ".join(f"{kind} {hours(value)}" for kind, value in kinds.items())
        parts.append(f"{hours(state[key])} {name} hours" + (f" ({detail})" if detail else ""))
    return ", ".join(parts)


def hours(value):
    """Hours with as many digits as they deserve."""
    return f"{value:,.0f}" if value >= 100 or not value else f"{value:.1f}" if value >= 1 else f"{value:.2g}"


def elapsed(seconds):
    """`h:mm:ss`."""
    minutes, seconds = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d}"


def ago(when):
    """POSIX seconds as `3 min ago`; as a date after two days."""
    seconds = max(0.0, time.time() - when)
    return f"{duration(seconds)} ago" if seconds < 2 * 86400 else f"on {datetime.fromtimestamp(when):%Y-%m-%d %H:%M}"


def show_progress(plan, child, jobs, echo=print):
    """Follow the records of the pending cells until the process `child` has ended."""
    console = Console()
    waiting = {cell.id: cell for process in plan.pending for cell in process.cells if cell in plan.todo}
    watch = Watch(plan, waiting, jobs)
    if not console.is_terminal:
        echo(f"{plan.profile.name}: {len(waiting)} cells to do in {len(plan.pending)} processes")
        while not _ended(child):
            for line in watch.finished():
                echo(line)
        for line in watch.finished(last=True):
            echo(line)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[left]}"),
    )
    with Progress(*columns, console=console) as bars:
        bar = bars.add_task(plan.profile.name, total=len(waiting), left="")
        while not _ended(child):
            watch.finished()
            names = ", ".join(running_processes(plan.runs)) or "starting"
            left = duration(watch.seconds_left())
            bars.update(bar, completed=watch.done, description=f"{plan.profile.name}: {names}", left=f"left: {left}")
        watch.finished(last=True)
        bars.update(bar, completed=watch.done, description=plan.profile.name, left="")


def _ended(child):
    if child.poll() is not None:
        return True
    time.sleep(POLL)
    return False


class Watch:
    """Counts the cells that get a current record, and estimates the time left from the seconds that cells took."""

    def __init__(self, plan, waiting, jobs):
        self.plan, self.waiting, self.jobs, self.total = plan, dict(waiting), jobs, len(waiting)
        self.timed = {}
        self.seen = None
        # A model that is trained again because its weights are gone keeps its record: it is done when the weights are back.
        trained = [process for process in plan.pending if process.kind != "evaluate"]
        self.again = {cell.id: process.output for process in trained for cell in process.cells if plan.is_done(cell)}

    @property
    def done(self):
        return self.total - len(self.waiting)

    def finished(self, last=False):
        """A line for each cell that has finished since the last call.

        `last`: look again even where nothing seems to have changed.
        """
        lines, seen = [], self.records_changed()
        if seen == self.seen and not last:  # hundreds of records, twice a second, would take a sixth of a core from the study
            return lines
        self.seen = seen
        for cell in list(self.waiting.values()):
            if self.is_done(cell):
                del self.waiting[cell.id]
                seconds = self.plan.stored.look(cell).seconds
                self.timed.setdefault(kind_of(cell), []).append(seconds)
                lines.append(
                    f"[{self.done}/{self.total}] {cell.id}: {seconds:.1f} s; time left: {duration(self.seconds_left())}"
                )
        return lines

    def is_done(self, cell):
        if cell.id in self.again and identity.checkpoint_cell(self.again[cell.id]) != cell.identity:
            return False
        return self.plan.is_done(cell)

    def records_changed(self):
        """When a record was last renamed into the folder of records; None where there is none yet."""
        folder = self.plan.runs / "cells"
        return folder.stat().st_mtime_ns if folder.is_dir() else None

    def seconds_left(self):
        """Seconds, None while a kind of cell has never been timed; this run's times before those of older records."""
        mean = {kind: sum(values) / len(values) for kind, values in self.timed.items()}
        return self.plan.seconds_left(self.waiting.values(), self.jobs, mean)
