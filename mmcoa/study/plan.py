"""The plan of a study: its processes, each one papermill run of one or more cells, and what of them is left to do.

A plan is made once. Whoever runs a process is handed its cells (write_specs), and `again` compares the same cells with what
is stored now.
"""

import json
import shlex
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path

from mmcoa import identity
from mmcoa.errors import UserError, unknown
from mmcoa.model import lite
from mmcoa.store import base_models
from mmcoa.store.files import write_json
from mmcoa.study.cells import Cell, evaluate_cells, pretrain_cell, train_cell
from mmcoa.study.profiles import entry_name, load_profile, runs_of, start_of, sweeps_of, train_settings
from mmcoa.study.stored import Stored
from mmcoa.study.sweeps import points

KINDS = {"align": "align", "pretrain": "pretrain", "train": "finetune", "evaluate": "evaluate"}  # kind of process -> notebook
PACKAGE = Path(__file__).parent.parent


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
    """`processes`: all of a study, in order; `pending`: those to run; `todo`: their cells without a current result."""

    profile: object
    results: Path
    runs: Path
    processes: tuple
    stored: Stored
    pending: list = field(default_factory=list)
    todo: list = field(default_factory=list)

    @property
    def cells(self):
        return [cell for process in self.processes for cell in process.cells]

    def is_done(self, cell):
        return self.stored.is_current(cell)

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

    def seconds_left(self, cells, jobs=1, timed=None):
        """Estimate for the cells given, None where none of a kind has been timed yet.

        `timed`: means that go before what is stored.
        """
        mean = self.mean_seconds() | (timed or {})
        # A sweep of which no cell is done yet is taken for as fast as the main evaluation.
        each = [mean.get(kind_of(cell), mean.get(cell.kind)) for cell in cells]
        return None if None in each else sum(each) / jobs

    def mean_seconds(self, wanted=lambda seen: True):
        """{what `kind_of` says: mean seconds} of the stored cells that can be read and are wanted."""
        timed = {}
        for cell in self.cells:
            if (seen := self.stored.look(cell)) and not seen.damage and wanted(seen):
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
    profile = load_profile(profile)
    results, runs = Path(results) / profile.name, Path(runs) / profile.name
    plan = Plan(profile, results, runs, tuple(_processes(profile, results, runs)), Stored(runs, results))
    return plan.again()


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
            judged = points(main | ({"datasets": [own]} if own else {}), sweeps_of(profile, entry, seed))
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


def narrowed(plan, only):
    """A plan of one process, by its name or that of one of its cells, and of those before it that are pending too.

    Raises `UserError` for a name that the profile does not have, and where nothing of it is to do.
    """
    known = [name for process in plan.processes for name in (process.name, *(cell.id for cell in process.cells))]
    if only not in known:
        raise unknown("cell", only, list(dict.fromkeys(known)))
    wanted = {p.name for p in plan.pending if only == p.name or only in (cell.id for cell in p.cells)}
    if not wanted:
        raise UserError(f"'{only}' is done; nothing of it is to do")
    for process in reversed(plan.pending):  # in order: what a process needs stands before it
        wanted |= set(plan.needs(process)) if process.name in wanted else set()
    pending = [process for process in plan.pending if process.name in wanted]
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
    """One SPEC.json a pending process: its cells as planned, and where they read and write. Notebooks are handed its path."""
    for process in plan.pending:
        spec = {"name": process.name, "kind": process.kind, "notebook": str(notebook(KINDS[process.kind]))}
        spec |= {"executed": str(plan.executed(process)), "runs": str(plan.runs), "results": str(plan.results)}
        spec |= {"model": process.model, "output": process.output, "device": plan.profile.device}
        spec |= {"cells": [cell.asdict() for cell in process.cells]}
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


def duration(seconds):
    """Seconds as a reader says them; None: not known yet."""
    if seconds is None:
        return "unknown until a first cell of each kind is done"
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
