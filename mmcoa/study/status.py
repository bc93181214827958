"""Where a study stands: done, running, failed, to do, time left. Reads files only, so that it answers at once."""

import json
from pathlib import Path

from mmcoa.study.plan import duration, make_plan
from mmcoa.study.processes import alive


def running_processes(runs):
    """Names of the processes that run now; a claim left by a killed one does not count. `runs` is runs/PROFILE."""
    names = []
    for path in sorted((Path(runs) / "running").glob("*.json")):
        try:
            claimed = json.loads(path.read_text())
        except (OSError, ValueError):  # it has just ended
            continue
        if alive(claimed):
            names.append(path.stem)
    return names


def failures(plan):
    """{process name: {"reason", "notebook"}} of the pending processes that failed when they last ran."""
    found = {}
    for process in plan.pending:
        path = plan.failure(process)
        if path.is_file():
            found[process.name] = json.loads(path.read_text(encoding="utf8"))
    return found


def summary(profile, results=Path("results"), runs=Path("runs")):
    """Counts and names: {"profile", "cells", "done", "running", "failed", "todo", "seconds_left", "failures"}.

    `running`, `failed` and `todo` count cells without a current record, by the state of their process.
    """
    plan = make_plan(profile, results, runs)
    running, failed = running_processes(plan.runs), failures(plan)
    states = dict.fromkeys(("running", "failed", "todo"), 0)
    waiting = {cell.id for cell in plan.todo}
    for process in plan.pending:
        state = "running" if process.name in running else "failed" if process.name in failed else "todo"
        states[state] += sum(cell.id in waiting for cell in process.cells)
    done = len(plan.cells) - len(plan.todo)
    left = plan.seconds_left(plan.todo)
    return {"profile": plan.profile.name, "cells": len(plan.cells), "done": done, **states, "seconds_left": left, "failures": failed, "active": running}


def show(profile, results=Path("results"), runs=Path("runs"), echo=print):
    """Print the summary. Returns it."""
    state = summary(profile, results, runs)
    echo(f"{state['profile']}: {state['cells']} cells")
    for kind, text in (("done", "done"), ("running", "running"), ("failed", "failed"), ("todo", "to do")):
        note = f"   {', '.join(state['active'])}" if kind == "running" and state["active"] else ""
        echo(f"  {text:8}{state[kind]:5}{note}")
    for name, failure in state["failures"].items():
        echo(f"  failed: {name}: {failure['reason']}  ({failure['notebook']})")
    if state["done"] < state["cells"] or state["failures"]:
        echo(f"  time left, one after the other: {duration(state['seconds_left'])}; continue with: mmcoa run {profile}")
    return state
