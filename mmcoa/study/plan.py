"""The plan of a study: its processes, each one papermill run of one or more cells, and what of them is left to do.

A plan is made once. Whoever runs a process is handed its cells (write_specs), and `again` compares the same cells with what
is stored now.
"""

import csv
import functools
import json
import math
import shlex
import sys
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

from mmcoa import identity
from mmcoa.errors import UserError, unknown
from mmcoa.model import lite
from mmcoa.store import base_models
from mmcoa.store.files import write_json
from mmcoa.store.finished import read_record, record_path, seconds_of
from mmcoa.study.cells import Cell, evaluate_cells, pretrain_cell, train_cell
from mmcoa.study.profiles import entry_name, load_profile, runs_of, start_of, sweeps_of, train_settings
from mmcoa.study.sweeps import points

KINDS = {"align": "align", "pretrain": "pretrain", "train": "finetune", "evaluate": "evaluate"}  # kind of process -> notebook
PACKAGE = Path(__file__).parent.parent


@dataclass(frozen=True)
class Seen:
    """One stored cell. `packed`: in results/STUDY, not in a record; `gpus`: 0 for a CPU; `finished`: POSIX seconds."""

    identity: str | None = None
    seconds: float = 0.0
    gpus: int = 0
    finished: float = 0.0
    packed: bool = False
    damage: str | None = None  # why it cannot be read


def _stamp(path):
    """Differs where a file may have changed; None where there is none."""
    try:
        info = path.stat()
    except FileNotFoundError:
        return None
    return info.st_mtime_ns, info.st_size, info.st_ino


@functools.cache
def _record(path, stamp):
    if stamp is None:
        return None
    try:
        record = read_record(path.parent.parent, path.stem)
        made, gpus = record["provenance"], 0
        if str(made.get("device")).startswith("cuda"):  # of a training in several processes each had one
            gpus = int(made.get("gpus") or (record.get("training") or {}).get("processes") or 1)
        return Seen(str(record["identity"]), float(seconds_of(record)), gpus, _finished(made, stamp[0] / 1e9))
    except UserError as error:
        return Seen(damage=str(error))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        text = f"damaged record {path}: {type(error).__name__}: {error}; remove it and run the profile again"
        return Seen(damage=text)


@functools.cache
def _lines(path, stamp):
    found = {}
    if stamp is not None:
        with path.open(newline="", encoding="utf8") as file:
            for line in csv.DictReader(file):
                made = {"started": line["started"], "seconds": float(line["seconds"] or 0)}
                gpus = int(line.get("device", "").startswith("cuda"))
                found[line["cell"]] = Seen(line["identity"], made["seconds"], gpus, _finished(made, 0.0), packed=True)
    return found


def _finished(made, written):
    """When a result was made, in POSIX seconds, as it says itself; `written`: when its file was, as a stand-in."""
    try:
        said = datetime.fromisoformat(made["started"]).timestamp() + made["seconds"]
    except (KeyError, TypeError, ValueError):
        return written
    return written if abs(written - said) < 2 else said  # it says whole seconds


@dataclass(frozen=True)
class Process:
    """One papermill run: a pretrain or train cell, or one model's evaluate cells, sweeps and all (what is current is skipped
    inside). An alignment has no cell: it builds `lite-clip` into the user's cache, where any first use would build it, and a
    result depends on the model's version, whoever built it.

    model: path or name of the model that it starts from (train) or judges (evaluate); made_by: identity of the study's cell
    whose checkpoint must lie there, None where the model comes from elsewhere; output: checkpoint folder that it writes, None
    for an evaluation; maker: name of the process that writes `model`, None where no process of the study does.
    """

    name: str
    kind: str
    cells: tuple
    model: str | None
    made_by: str | None
    output: str | None
    maker: str | None

    @property
    def has_model(self):
        """Whether the model that it needs lies where it is looked for."""
        return self.made_by is None or identity.checkpoint_cell(self.model) == self.made_by


@dataclass(frozen=True)
class Plan:
    """`processes`: all of a study, in order; `pending`: those to run; `todo`: their cells without a current result.

    `asked`: how the profile was named, by a name or a file's path.
    """

    profile: object
    asked: str
    results: Path
    runs: Path
    processes: tuple
    pending: list = field(default_factory=list)
    todo: list = field(default_factory=list)

    @property
    def command(self):
        """What starts or continues the study."""
        return f"mmcoa run {self.asked}"

    @property
    def cells(self):
        return [cell for process in self.processes for cell in process.cells]

    def look(self, cell):
        """What is stored of a cell, in a record or packed: what is current goes before what is outdated; None for nothing.

        Imports neither torch nor pandas: a status must answer at once. A file that has not changed is not read again.
        """
        record, table = record_path(self.runs, cell.id), self.results / "cells.csv"
        found = _record(record, _stamp(record)), _lines(table, _stamp(table)).get(cell.id)
        return next((seen for seen in found if seen and seen.identity == cell.identity), found[0] or found[1])

    def is_done(self, cell):
        """Whether a result of exactly this cell is stored."""
        return (seen := self.look(cell)) is not None and seen.identity == cell.identity

    def needs(self, process):
        """Names of the pending processes that must be done before this one."""
        return [other.name for other in self.pending if other.name == process.maker]

    def again(self):
        """The same plan, compared with what is stored now. A process that failed or was killed last time is pending too."""
        todo = {cell.id for cell in self.cells if not self.is_done(cell)}
        pending = {p.name for p in self.processes if any(cell.id in todo for cell in p.cells) or self.ended_badly(p)}
        # Weights that git does not keep are made again where they are needed; from the last process to the first.
        makers = {process.name: process for process in self.processes}
        for process in reversed(self.processes):
            if process.name in pending and self._lacks(process, maker := makers.get(process.maker)):
                todo |= {cell.id for cell in maker.cells}
                pending.add(maker.name)
        return replace(
            self,
            pending=sorted((p for p in self.processes if p.name in pending), key=lambda p: list(KINDS).index(p.kind)),
            todo=[cell for cell in self.cells if cell.id in todo],
        )

    def _lacks(self, process, maker):
        """Whether the process that makes its model is to run before it; an alignment once, as the cache then has the model."""
        if maker is not None and maker.kind == "align":
            return not self.executed(maker).is_file()
        return not process.has_model

    def seconds_left(self, cells, jobs=1, since=math.inf):
        """Estimate for the cells given, None where none of a kind has been timed yet.

        `since`: results made after it, on the machine that is at work, go before older ones.
        """
        mean = self.mean_seconds() | self.mean_seconds(since)
        # A sweep of which no cell is done yet is taken for as fast as the main evaluation.
        each = [mean.get(kind_of(cell), mean.get(cell.kind)) for cell in cells]
        return None if None in each else sum(each) / jobs

    def mean_seconds(self, since=0.0):
        """{what `kind_of` says: mean seconds} of the stored cells that can be read and were made after `since`."""
        timed = {}
        for cell in self.cells:
            if (seen := self.look(cell)) and not seen.damage and seen.finished >= since:
                timed.setdefault(kind_of(cell), []).append(seen.seconds)
        return {kind: sum(values) / len(values) for kind, values in timed.items()}

    def executed(self, process):
        """Where the executed notebook of a process goes."""
        return self.runs / "notebooks" / f"{process.name}.ipynb"

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


def make_plan(profile, results=Path("results"), runs=Path("runs")):
    """All processes and cells of a profile, and what of them is to do."""
    asked, profile = str(profile) if isinstance(profile, str | Path) else profile.name, load_profile(profile)
    results, runs = Path(results) / profile.name, Path(runs) / profile.name
    return Plan(profile, asked, results, runs, tuple(_processes(profile, results, runs))).again()


def _processes(profile, results, runs):
    """What makes the base model, where the study does (pre-training, alignment), all trainings, all evaluations."""
    base, weights, made_by, maker = profile.base_model, None, None, None
    if profile.pretrain is not None:
        cell = pretrain_cell(profile.base_model, **profile.pretrain.model_dump())
        base, maker = str(runs / "models" / profile.base_model), f"pretrain__{profile.base_model}"
        if identity.checkpoint_cell(kept := base_models.place(results, profile.base_model)) == cell.identity:
            base = str(kept)
        weights = made_by = cell.identity
        yield Process(maker, "pretrain", (cell,), None, None, base, None)
    elif base == lite.NAME:
        maker = f"align__{lite.NAME}-{lite.VERSION}"
        yield Process(maker, "align", (), None, None, None, None)
    weights = weights or identity.model(base)
    main = profile.evaluate.model_dump()
    entries, made = {entry_name(entry): entry for entry in profile.models}, {}
    for entry in profile.models:
        for name, seed, own in runs_of(profile, entry):
            told = (name, entry_name(entry))
            judged = points(main | ({"datasets": [own]} if own else {}), sweeps_of(profile, entry, seed, own))
            model, carries, made_in, judged_weights = base, made_by, maker, weights
            if seed is not None:
                settings = {"defense": entry.defense, **train_settings(profile, entry), "seed": seed}
                settings |= {"dataset": own} if own else {}
                start = base, made_by, maker
                if (first := getattr(entry, "from")) is not None:  # a training goes on from another one's model
                    start = made[start_of(profile, entries[first], seed, own)]
                cell, output = train_cell(*told, start[1] or weights, **settings), str(runs / "models" / name)
                made[name] = output, cell.identity, f"train__{name}"
                yield Process(f"train__{name}", "train", (cell,), *start[:2], output, start[2])
                model, carries, made_in, judged_weights = *made[name], cell.identity
            cells = evaluate_cells(*told, judged_weights, judged, profile.resize)
            if cells:
                yield Process(f"evaluate__{name}", "evaluate", tuple(cells), model, carries, None, made_in)


def narrowed(plan, only=None):
    """A plan of one process, by its name or that of one of its cells, and of those before it that are pending too.

    Raises `UserError` for a name that the profile does not have, and where nothing of it is to do.
    """
    if only is None:
        return plan
    known = [name for process in plan.processes for name in (process.name, *(cell.id for cell in process.cells))]
    if only not in known:
        raise unknown("cell", only, list(dict.fromkeys(known)))
    pending = []
    for process in reversed(plan.pending):  # in order: what a process needs stands before it
        needed = any(process.name in plan.needs(other) for other in pending)
        if needed or only == process.name or only in (cell.id for cell in process.cells):
            pending.insert(0, process)
    if not pending:
        raise UserError(f"'{only}' is done; nothing of it is to do")
    cells = {cell.id for process in pending for cell in process.cells}
    return replace(plan, pending=pending, todo=[cell for cell in plan.todo if cell.id in cells])


def notebook(name: str) -> Path:
    """Path of a notebook, such as `evaluate`. Raises `UserError` where there is none of that name.

    In a checkout of this project it is the one in ./notebooks, relative, so that an edited copy is what runs; anywhere else
    the one that came with the package.
    """
    folders = [Path("notebooks")] if _is_checkout(Path()) else []
    folders += [PACKAGE / "notebooks", PACKAGE.parent / "notebooks"]  # of a wheel, of an editable install
    for folder in folders:
        if (path := folder / f"{name}.ipynb").is_file():
            return path
    raise UserError(f"no notebook {folders[0] / name}.ipynb; install mmcoa anew, or run from a checkout of it")


def _is_checkout(folder: Path) -> bool:
    """Whether `folder` is the root of this project: somebody else's notebooks/evaluate.ipynb must not run in our place."""
    project = folder / "pyproject.toml"
    return project.is_file() and '\nname = "mmcoa"\n' in project.read_text(encoding="utf8")


def kind_of(cell):
    """Cells of one kind take about as long: pretrain, train, evaluate, or the evaluations of one sweep."""
    return f"{cell.kind} {cell.sweep}".strip()


def write_specs(plan):
    """One SPEC.json a pending process: its cells as planned, and where they read and write. Notebooks are handed its path.

    A cell whose current result is packed and in no record is left out: a notebook looks for records alone.
    """
    todo = {cell.id for cell in plan.todo}
    for process in plan.pending:
        cells = [cell for cell in process.cells if cell.id in todo or not getattr(plan.look(cell), "packed", False)]
        spec = {"name": process.name, "kind": process.kind, "notebook": str(notebook(KINDS[process.kind]))}
        spec |= {"executed": str(plan.executed(process)), "runs": str(plan.runs), "results": str(plan.results)}
        spec |= {"model": process.model, "output": process.output, "device": plan.profile.device}
        # None: it ended badly, and what it had made is packed. It runs once more as a whole, to leave its notebook.
        spec |= {"cells": [cell.asdict() for cell in cells or process.cells]}
        write_json(plan.spec(process), spec, indent=1)


def read_spec(path):
    """(spec, its cells) of a SPEC.json. Raises `UserError` where it is none."""
    try:
        spec = json.loads(Path(path).read_text(encoding="utf8"))
        return spec, [Cell(**cell) for cell in spec["cells"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: expected a process of a study's plan, as in runs/STUDY/specs/ ({error})") from error


def papermill_command(plan, process):
    """The process as a shell command: papermill by hand, handed the plan's cells."""
    script = Path(sys.executable).parent / "papermill"
    script = script.relative_to(Path.cwd()) if script.is_relative_to(Path.cwd()) else script
    words = [str(script), str(notebook(KINDS[process.kind])), str(plan.executed(process)), "-k", "python3"]
    words += ["-r", "plan", str(plan.spec(process))]
    return f"mkdir -p {shlex.quote(str(plan.executed(process).parent))} && {shlex.join(words)}"
