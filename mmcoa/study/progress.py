"""Progress of a run: a bar with the time left on a terminal, a line per finished cell elsewhere."""

import time

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from mmcoa import identity
from mmcoa.study.plan import duration, kind_of
from mmcoa.study.status import running_processes

POLL = 0.5  # seconds


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
