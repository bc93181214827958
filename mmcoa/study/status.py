"""Where a study stands: done, running, failed, to do, hours spent, time left. Reads files only, so that it answers at once.

show("quick")                          # what `mmcoa status quick` prints
show_progress(plan, child, jobs)       # what `mmcoa run quick` prints meanwhile
state(plan)                            # what both say, as a dict
"""

import contextlib
import json
import socket
import sys
import time
from datetime import timedelta
from pathlib import Path

from rich.console import Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from mmcoa.console import ago, console, duration, shortened
from mmcoa.study.machine import alive, claimed
from mmcoa.study.plan import KINDS, make_plan

REFRESH = 2.0  # seconds between two views of a state
POLL = 0.5  # seconds between two looks at a run
ROWS = 20  # running processes that are listed
COUNTS = {"done": ("done", "green"), "running": ("running", "cyan"), "failed": ("failed", "red"), "todo": ("to do", "")}
LOUD = ("last error", "runner", "killed", "damaged")


def state(plan):
    """Where a plan stands now; what has not changed since the last call is not read again. A dict:

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
    now, plan, runner = time.time(), plan.again(), _runner(plan.runs)
    processes, todo = {process.name: process for process in plan.processes}, {cell.id for cell in plan.todo}
    failed = failures(plan.runs, processes)
    begun = {process.name: claim for process in plan.processes if (claim := claimed(plan.claim(process)))}
    active = {name: claim for name, claim in begun.items() if alive(claim)}
    counts, at_work = dict.fromkeys(("running", "failed", "todo"), 0), []
    for name, process in processes.items():
        left = sum(cell.id in todo for cell in process.cells)
        counts["running" if name in active else "failed" if name in failed else "todo"] += left
        if claim := active.get(name):
            cells = len(process.cells)
            about = {"name": name, "host": claim["host"], "seconds": max(0.0, now - claim["started"])}
            at_work.append(about | {"done": cells - left, "cells": cells})
    seen = {cell.id: found for cell in plan.cells if (found := plan.look(cell))}
    current = {cell.id: seen[cell.id] for cell in plan.cells if plan.is_done(cell)}
    last = max(current, key=lambda name: current[name].finished, default=None)
    since = runner["started"] if runner and runner["alive"] else float("inf")
    fresh = sum(one.finished >= since for one in current.values())
    kinds = _kinds(plan, current, todo)
    return {
        "profile": plan.profile.name,
        "command": plan.command,
        "cells": len(plan.cells),
        "done": len(plan.cells) - len(todo),
        **counts,
        "kinds": kinds,
        **{key: sum(kind[key] for kind in kinds.values()) for key in ("gpu_hours", "cpu_hours")},
        "last_record": {"cell": last, "when": current[last].finished} if last else None,
        "processes": at_work,
        "runner": runner,
        "killed": [name for name in begun if name not in active],
        "rate": fresh / max(now - since, 1) * 3600 if fresh else None,
        "seconds_left": plan.seconds_left(plan.todo, max(1, len(active)), since),
        "at_once": max(1, len(active)),
        "failures": failed,
        "last_error": max(({"name": name, **one} for name, one in failed.items()), key=lambda one: one["when"], default=None),
        "stale": sum(not one.damage for one in seen.values()) - len(current),
        "damaged": [one.damage for one in seen.values() if one.damage],
        "logs": str(plan.runs / "logs"),
    }


def failures(runs, names):
    """{process name: {"reason", "notebook", "when"}} of those that failed when they last ran. `runs` is runs/PROFILE."""
    found = {}
    for name in names:
        path = Path(runs) / "failed" / f"{name}.json"
        with contextlib.suppress(FileNotFoundError):
            when, failure = path.stat().st_mtime, {"notebook": f"{Path(runs) / 'logs' / name}.log"}
            try:
                failure = failure | json.loads(path.read_text(encoding="utf8"))
            except (ValueError, TypeError):
                failure |= {"reason": f"unknown: damaged {path}"}
            found[name] = failure | {"when": when}
    return found


def _runner(runs):
    found = claimed(runs / "runner.json")
    if not found or not (alive(found) or "workflow" in found):  # without: its run was refused before it began
        return None
    return {key: found[key] for key in ("host", "pid", "started")} | {"alive": alive(found)}


def _kinds(plan, current, todo):
    kinds = {}
    for cell in sorted(plan.cells, key=lambda cell: list(KINDS).index(cell.kind)):
        kind = kinds.setdefault(cell.kind, {"cells": 0, "done": 0, "gpu_hours": 0.0, "cpu_hours": 0.0})
        kind["cells"] += 1
        kind["done"] += cell.id not in todo
        if record := current.get(cell.id):
            kind["gpu_hours" if record.gpus else "cpu_hours"] += record.seconds * (record.gpus or 1) / 3600
    return kinds


def show(profile, results=Path("results"), runs=Path("runs"), echo=print, once=False):
    """Say where a study stands: on a terminal a live view, elsewhere and with `once` one look at it.

    Planned once: an edit of the profile while a live view is open shows in the next one.
    """
    plan = make_plan(profile, results, runs)
    if not is_terminal():
        for line in lines(state(plan)):
            echo(line)
    elif once:
        console.print(view(state(plan)))
    else:
        with contextlib.suppress(KeyboardInterrupt):  # it ends the view, and no run
            follow(plan, lambda now: now["done"] < now["cells"] or at_work(now))


def show_progress(plan, child, jobs, echo=print):
    """Say how a run gets on until its process `child` has ended: the live view on a terminal, elsewhere a line a cell."""
    if is_terminal():
        return follow(plan, lambda now: child.poll() is None)
    watch, ended = Watch(plan, jobs), False
    echo(f"{plan.profile.name}: {len(plan.todo)} cells to do in {len(plan.pending)} processes")
    while not ended:
        time.sleep(POLL)
        ended = child.poll() is not None
        for line in watch.finished(last=ended):
            echo(line)


def is_terminal():
    """Whether what is printed can be drawn anew."""
    return sys.stdout.isatty() and not console.is_dumb_terminal


def follow(plan, goes_on):
    """Show the view of a plan's state anew every two seconds as long as `goes_on(state)`."""
    now = state(plan)
    with Live(view(now), console=console, auto_refresh=False) as live:
        while goes_on(now):
            time.sleep(REFRESH)
            now = state(plan)
            live.update(view(now), refresh=True)


class Watch:
    """Which of the cells to do have got a result since the last look, and how long the others take."""

    def __init__(self, plan, jobs):
        self.plan, self.jobs, self.since, self.seen = plan, jobs, time.time(), None
        self.waiting, self.total = list(plan.todo), len(plan.todo)

    def finished(self, last=False):
        """A line for each cell that has finished since the last call.

        `last`: look again even where no record has been renamed into its folder since: hundreds of records, twice a second,
        would take a sixth of a core from the study.
        """
        folder, lines = self.plan.runs / "cells", []
        seen = folder.stat().st_mtime_ns if folder.is_dir() else None
        if seen == self.seen and not last:
            return lines
        self.seen, plan = seen, self.plan.again()
        left = {cell.id for cell in plan.todo}
        for cell in [cell for cell in self.waiting if cell.id not in left]:
            self.waiting.remove(cell)
            done, took = self.total - len(self.waiting), plan.look(cell).seconds
            time_left = duration(plan.seconds_left(self.waiting, self.jobs, self.since))
            lines.append(f"[{done}/{self.total}] {cell.id}: {took:.1f} s; time left: {time_left}")
        return lines


def lines(state):
    """The state as lines of plain text."""
    yield f"{state['profile']}: {state['cells']} cells"
    for key, (text, _) in COUNTS.items():
        yield f"  {text:8}{state[key]:5}"
    for process in state["processes"]:
        cells = f"{process['done']} of {process['cells']} cells done"
        yield f"  running: {process['name']}: {elapsed(process['seconds'])} on {process['host']}, {cells}"
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
    counts = [Text(f"{text} {state[key]}", style=style if state[key] else "dim") for key, (text, style) in COUNTS.items()]
    told = Table.grid(padding=(0, 2))
    told.add_column(no_wrap=True)
    told.add_column(overflow="fold")
    for label, text in facts(state):
        told.add_row(Text(label, style="red" if label in LOUD else "dim"), Text(text))
    return Group(bar, Text("   ").join(counts), *([running(state)] if state["processes"] else []), told)


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


def facts(state):
    """(label, text) of all that is neither a count nor a process at work."""
    runner, open_cells = state["runner"], state["cells"] - state["done"]
    yield "spent", spent(state)
    if last := state["last_record"]:
        yield "last record", f"{last['cell']}, {ago(last['when'])}"
    if runner:
        who, began = f"process {runner['pid']} on {runner['host']}", f"started {ago(runner['started'])}"
        here = "" if runner["host"] == socket.gethostname() else ", which cannot be looked at from here"
        rate = f"; {state['rate']:.3g} cells an hour" if state["rate"] else ""
        killed = f"was killed: {who}, {began}; what is finished is kept"
        yield "runner", f"{who}{here}, {began}{rate}" if runner["alive"] else killed
    if state["killed"]:
        yield "killed", f"{shortened(state['killed'])}: ended without a result; see {state['logs']}"
    if error := state["last_error"]:
        yield "last error", f"{error['reason']}, in {error['name']}, {ago(error['when'])}; see {error['notebook']}"
    if stale := state["stale"]:
        yield "outdated", f"{stale} results are of other settings, inputs or versions than today's; their cells count as to do"
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
    """`0 GPU hours, 6.4 CPU hours (train 1.1, evaluate 5.3)`, with as many digits as they deserve."""

    def hours(value):
        return f"{value:,.0f}" if value >= 100 or not value else f"{value:.1f}" if value >= 1 else f"{value:.2g}"

    parts = []
    for key, name in (("gpu_hours", "GPU"), ("cpu_hours", "CPU")):
        detail = ", ".join(f"{kind} {hours(values[key])}" for kind, values in state["kinds"].items() if values[key])
        parts.append(f"{hours(state[key])} {name} hours" + (f" ({detail})" if detail else ""))
    return ", ".join(parts)


def elapsed(seconds):
    """`h:mm:ss`."""
    return str(timedelta(seconds=int(seconds)))
