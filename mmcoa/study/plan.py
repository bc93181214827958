"""What is left to do: processes, each one papermill run, that hold at least one missing or stale cell."""

import json
import shlex
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path

from mmcoa.errors import UserError, unknown
from mmcoa.study.cells import base_of, study_models
from mmcoa.study.notebooks import notebook as shipped
from mmcoa.study.profiles import load_profile
from mmcoa.study.records import is_current, read_record, seconds_of, write_atomic
from mmcoa.study.sources import checkpoint_cell

NOTEBOOKS = None  # where they lie: notebooks.py


@dataclass(frozen=True)
class Process:
    """One papermill run: a pretrain or train cell, or one model's evaluate cells, sweeps and all (what is current is skipped inside)."""

    name: str
    kind: str
    cells: list
    notebook: Path
    output: Path
    parameters: dict
    needs: list = field(default_factory=list)  # names of processes that must be done before


@dataclass(frozen=True)
class Plan:
    """`pending`: processes to run, in order; `todo`: their cells without a current record; `cells`: all of the profile."""

    profile: object
    results: Path
    runs: Path
    cells: list
    todo: list
    pending: list
    seconds: dict  # what kind_of says -> mean seconds of the records that there are

    def is_done(self, cell):
        return is_current(read_record(self.results, cell.id), cell.hash)

    def seconds_left(self, cells, jobs=1, timed=None):
        """Estimate for the cells given, None where none of a kind has been timed yet. `timed`: means that go before the plan's."""
        mean = self.seconds | (timed or {})
        # A sweep of which no cell is done yet is taken for as fast as the main evaluation.
        each = [mean.get(kind_of(cell), mean.get(cell.kind)) for cell in cells]
        return None if None in each else sum(each) / jobs

    def spec(self, process):
        """Where the process's SPEC.json lies."""
        return self.runs / "specs" / f"{process.name}.json"

    def failure(self, process):
        """Where a failed run leaves its reason."""
        return self.runs / "failed" / f"{process.name}.json"

    def claim(self, process):
        """What a run leaves while it runs; one that was killed leaves it behind."""
        return self.runs / "running" / f"{process.name}.json"

    def ended_badly(self, process):
        """True where the last run failed or was killed: its notebook is missing, even if its records were written before."""
        return self.failure(process).is_file() or self.claim(process).is_file()


def make_plan(profile, results=Path("results"), runs=Path("runs"), notebooks=NOTEBOOKS):
    """Compare a profile's cells with the records on disk. A process that failed or was killed last time is pending too."""
    profile = load_profile(profile)
    folders = Path(results) / profile.name, Path(runs) / profile.name
    plan = Plan(profile, *folders, [], [], [], {})
    timed = {}
    base_path, pretrain, told = base_of(profile, runs, results)
    base = _process("pretrain", profile.base_model, [pretrain], "pretrain", plan, notebooks, told) if pretrain else None
    if base:
        record = read_record(plan.results, pretrain.id)
        base_stale = not is_current(record, pretrain.hash)
        timed.update({kind_of(pretrain): [seconds_of(record)]} if record else {})
        plan.cells.append(pretrain)
    for model in study_models(profile, runs, results):
        cells = ([model.train] if model.train else []) + model.evaluate
        records = {cell.id: read_record(plan.results, cell.id) for cell in cells}
        for cell in cells:
            if record := records[cell.id]:
                timed.setdefault(kind_of(cell), []).append(seconds_of(record))
        stale = [cell for cell in cells if not is_current(records[cell.id], cell.hash)]
        train = (
            _process("train", model.name, [model.train], "finetune", plan, notebooks, model.train_parameters)
            if model.train
            else None
        )
        evaluate = _process("evaluate", model.name, model.evaluate, "evaluate", plan, notebooks, model.evaluate_parameters)
        evaluate_pending = any(cell.kind == "evaluate" for cell in stale) or plan.ended_badly(evaluate)
        if train:
            lacks_weights = evaluate_pending and checkpoint_cell(model.train_parameters["output"]) != model.train.hash
            if model.train in stale or lacks_weights or plan.ended_badly(train):
                plan.pending.append(train)
                evaluate.needs.append(train.name)
                stale = [model.train, *stale] if lacks_weights and model.train not in stale else stale
        if evaluate_pending:
            plan.pending.append(evaluate)
        plan.cells.extend(cells)
        plan.todo.extend(stale)
    from_base = [process for process in plan.pending if process.kind == "train" or process.parameters["model"] == base_path]
    lacks_base = base and from_base and checkpoint_cell(base_path) != pretrain.hash
    if base and (base_stale or lacks_base or plan.ended_badly(base)):
        plan.pending.append(base)
        plan.todo[:0] = [pretrain] if base_stale or lacks_base else []
        for process in from_base:
            process.needs.append(base.name)
    plan.seconds.update({kind: sum(values) / len(values) for kind, values in timed.items()})
    plan.pending.sort(key=lambda process: ("pretrain", "train", "evaluate").index(process.kind))
    return plan


def narrowed(plan, only):
    """A plan of one process, by its name or that of one of its cells, and of those before it that are pending too.

    Raises `UserError` for a name that the profile does not have, and where nothing of it is to do.
    """
    known = {cell.id for cell in plan.cells} | {f"evaluate__{cell.model}" for cell in plan.cells if cell.kind == "evaluate"}
    if only not in known:
        raise unknown("cell", only, known)
    chosen = [process for process in plan.pending if only == process.name or only in (cell.id for cell in process.cells)]
    if not chosen:
        raise UserError(f"'{only}' is done; nothing of it is to do")
    names = {chosen[0].name}
    for process in reversed(plan.pending):  # sorted: what a process needs stands before it
        names |= set(process.needs) if process.name in names else set()
    pending = [process for process in plan.pending if process.name in names]
    cells = {cell.id for process in pending for cell in process.cells}
    return replace(plan, pending=pending, todo=[cell for cell in plan.todo if cell.id in cells])


def kind_of(cell):
    """Cells of one kind take about as long: pretrain, train, evaluate, or the evaluations of one sweep."""
    return f"{cell.kind} {cell.sweep}".strip()


def _process(kind, model, cells, notebook, plan, notebooks, parameters):
    name = f"{kind}__{model}"
    path = shipped(notebook) if notebooks is None else Path(notebooks) / f"{notebook}.ipynb"
    return Process(name, kind, cells, path, plan.results / "notebooks" / f"{name}.ipynb", parameters)


def write_specs(plan):
    """One SPEC.json a pending process: what papermill_run and cell.py read."""
    for process in plan.pending:
        spec = {"name": process.name, "kind": process.kind, "notebook": str(process.notebook), "output": str(process.output)}
        spec |= {"state": str(plan.runs), "results": str(plan.results), "parameters": process.parameters}
        write_atomic(plan.spec(process), lambda path, spec=spec: path.write_text(json.dumps(spec, indent=1)))


def papermill_command(process):
    """The process as a shell command: papermill by hand, with every parameter."""
    script = Path(sys.executable).parent / "papermill"
    script = script.relative_to(Path.cwd()) if script.is_relative_to(Path.cwd()) else script
    words = [str(script), str(process.notebook), str(process.output), "-k", "python3"]
    for key, value in process.parameters.items():
        if isinstance(value, list):
            words += ["-y", json.dumps({key: value})]
        else:  # -r keeps a string a string that papermill would read as a number
            words += ["-r" if isinstance(value, str) else "-p", key, str(value)]
    return f"mkdir -p {shlex.quote(str(process.output.parent))} && {shlex.join(words)}"


def duration(seconds):
    """Seconds as a reader says them; None: not known yet."""
    if seconds is None:
        return "unknown until a first cell of each kind is done"
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
