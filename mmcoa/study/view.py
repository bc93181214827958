"""What a terminal shows of a study: where it stands, and the progress of a run.

    show("quick")                          # what `mmcoa status quick` prints
    show_progress(plan, child, jobs)       # what `mmcoa run quick` prints meanwhile

`state` is what `mmcoa.study.status.Standing.state` returns; as lines of text and as a live view it says the same.
"""

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
from mmcoa.study.plan import duration, kind_of
from mmcoa.study.status import Standing, running_processes

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
