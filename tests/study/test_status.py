"""Where a study stands: counts, hours, errors, what was killed; in plain text and as a live view."""

import io
import json
import os
import random
import time
import types
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from rich.console import Console

from mmcoa.identity import MARKER
from mmcoa.store.finished import record_path, write_record
from mmcoa.study import plan as stored
from mmcoa.study import status
from mmcoa.study.machine import claim
from mmcoa.study.plan import make_plan
from mmcoa.study.status import state as standing

RUNS, RESULTS = Path("runs/mini"), Path("results/mini")
NOBODY = 2**22 + 1  # no process has this number
EVALUATED = ["none__openmoji-birds", "none__openmoji-tools", "tecoa-seed0__openmoji-birds", "tecoa-seed0__openmoji-tools"]


def finish(cells, seconds=2.0, device="cpu", **more):
    """Records of some cells, and the marker of a trained model's checkpoint."""
    for cell in cells:
        write_record(RUNS, cell, {"seconds": seconds, "device": device}, **more)
        if cell.kind == "train":
            folder = RUNS / "models" / cell.model
            leave(folder / "mmcoa.json", {})
            leave(folder / MARKER, {"cell": cell.id, "identity": cell.identity})


def leave(path, value):
    """A JSON file, as a process leaves it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def dead(**more):
    return {**claim(), "pid": NOBODY, **more}


def text(state):
    return "\n".join(status.lines(state))


def drawn(state, width=100):
    console = Console(file=io.StringIO(), width=width)
    console.print(status.view(state))
    return console.file.getvalue()


@pytest.fixture
def study(write_profile):
    return make_plan(write_profile())


@pytest.fixture
def at_work(monkeypatch):
    """Claims of any age count as alive but for those of NOBODY: this test's process is younger than what it says of itself."""
    monkeypatch.setattr(status, "alive", lambda claimed: claimed["pid"] != NOBODY)


@pytest.fixture
def finished(study):
    finish(study.cells)
    return study


def test_nothing_has_run(study):
    state = standing(study)
    assert (state["cells"], state["done"], state["running"], state["failed"], state["todo"]) == (5, 0, 0, 0, 5)
    assert (
        state["last_record"] is None and state["last_error"] is None and state["seconds_left"] is None and state["rate"] is None
    )
    assert text(state).splitlines()[:5] == [
        "mini: 5 cells",
        "  done        0",
        "  running     0",
        "  failed      0",
        "  to do       5",
    ]
    for shown in (text(state), drawn(state)):
        assert "0 GPU hours, 0 CPU hours" in shown and "unknown until a first cell of each kind is done" in shown
        assert "start with" in shown and "mmcoa run mini.yaml" in shown and "last" not in shown


def test_all_is_done(finished):
    state = standing(finished)
    assert (state["done"], state["todo"], state["seconds_left"]) == (5, 0, 0)
    for shown in (text(state), drawn(state)):
        assert "mmcoa book mini" in shown and "time left" not in shown and "mmcoa run" not in shown


def test_hours_are_those_of_the_device_and_its_gpus(study):
    cells = {cell.id: cell for cell in study.cells}
    finish(
        [cells["train__tecoa-seed0"]], 3600, "cuda:0", training={"seconds": 7200, "processes": 4}
    )  # a sitting before this one
    finish([cells[EVALUATED[0]]], 1800, "cpu")
    finish([cells[EVALUATED[1]]], 900, "cuda")
    write_record(RUNS, cells[EVALUATED[2]], {"seconds": 900, "device": "cuda", "gpus": 2})
    state = standing(study)
    assert state["kinds"]["train"] == {"cells": 1, "done": 1, "gpu_hours": 8.0, "cpu_hours": 0.0}
    assert state["kinds"]["evaluate"] == {"cells": 4, "done": 3, "gpu_hours": 0.75, "cpu_hours": 0.5}
    assert (state["gpu_hours"], state["cpu_hours"]) == (8.75, 0.5)
    assert "spent: 8.8 GPU hours (train 8.0, evaluate 0.75), 0.5 CPU hours (evaluate 0.5)" in text(state)


def test_hours_and_counts_leave_outdated_records_out(finished, write_profile):
    state = standing(make_plan(write_profile(evaluate__steps=2)))
    assert (state["done"], state["todo"], state["stale"]) == (1, 4, 4)
    assert state["cpu_hours"] == pytest.approx(2 / 3600) and state["seconds_left"] == 4 * 2.0
    assert "4 results are of other settings, inputs or versions" in text(state)


def test_the_last_record_is_dated_by_itself_not_by_its_file(finished):
    made = {
        "seconds": 60.0,
        "device": "cpu",
        "started": datetime.fromtimestamp(time.time() + 3600, UTC).isoformat(timespec="seconds"),
    }
    write_record(RUNS, finished.cells[1], made)
    os.utime(record_path(RUNS, finished.cells[1].id), (0, 0))
    last = standing(finished)["last_record"]
    assert last["cell"] == finished.cells[1].id and last["when"] == pytest.approx(time.time() + 3660, abs=5)


def test_a_running_study(study, at_work):
    """A runner of this machine, two processes at work, one of them half done."""
    cells = {cell.id: cell for cell in study.cells}
    now = time.time()
    leave(RUNS / "runner.json", claim() | {"started": now - 1800, "workflow": claim()})
    leave(RUNS / "running" / "evaluate__none.json", claim() | {"started": now - 3725})
    leave(RUNS / "running" / "train__tecoa-seed0.json", claim() | {"host": "node-7", "started": now - 10})
    leave(RUNS / "running" / "evaluate__left-the-profile.json", claim())
    finish([cells[EVALUATED[0]]], seconds=8.0)
    state = standing(study)
    assert (state["done"], state["running"], state["todo"]) == (1, 2, 2)
    first, second = state["processes"]
    assert (first["name"], first["done"], first["cells"], second["host"], second["done"]) == (
        "evaluate__none",
        1,
        2,
        "node-7",
        0,
    )
    assert first["seconds"] == pytest.approx(3725, abs=5) and state["runner"]["alive"] and state["killed"] == []
    assert state["rate"] == pytest.approx(2, rel=0.01) and state["at_once"] == 2 and state["seconds_left"] is None
    assert "running: evaluate__none: 1:02:0" in text(state) and "1 of 2 cells done" in text(state)
    for shown in (text(state), drawn(state)):
        assert "node-7" in shown and "2 cells an hour" in shown and "if it stops, go on with" in shown


def test_time_left_trusts_the_machine_that_is_at_work(study, at_work):
    cells = {cell.id: cell for cell in study.cells}
    finish([cells["train__tecoa-seed0"], cells[EVALUATED[0]]], seconds=50.0)
    for path in (RUNS / "cells").iterdir():
        os.utime(path, (0, 0))
    assert standing(study)["seconds_left"] == 3 * 50.0
    leave(RUNS / "runner.json", claim() | {"started": time.time() - 100, "workflow": claim()})
    finish([cells[EVALUATED[1]]], seconds=10.0)
    assert standing(study)["seconds_left"] == 2 * 10.0


def test_the_last_error_is_the_latest_one(study):
    for age, name in ((100, "train__tecoa-seed0"), (0, "evaluate__none")):
        path = RUNS / "failed" / f"{name}.json"
        leave(path, {"reason": f"KeyError: [{age}]", "notebook": f"runs/mini/notebooks/{name}.failed.ipynb"})
        os.utime(path, (time.time() - age, time.time() - age))
    state = standing(study)
    assert (state["failed"], state["todo"]) == (3, 2) and state["last_error"]["name"] == "evaluate__none"
    shown = text(state)
    assert "last error: KeyError: [0], in evaluate__none, 0 s ago; see runs/mini/notebooks/evaluate__none.failed.ipynb" in shown
    assert "failed: KeyError: [100], in train__tecoa-seed0; see" in shown and "continue with: mmcoa run mini.yaml" in shown
    assert "KeyError: [0]" in drawn(state)  # not taken for markup


def test_a_damaged_note_of_a_failure_still_counts(study):
    path = RUNS / "failed" / "evaluate__none.json"
    leave(path, [])
    state = standing(study)
    assert (
        state["failed"] == 2
        and "damaged runs/mini/failed/evaluate__none.json" in text(state)
        and "logs/evaluate__none.log" in text(state)
    )


def test_a_failure_after_the_records_is_not_the_end(finished):
    leave(RUNS / "failed" / "evaluate__none.json", {"reason": "KeyError: 'x'", "notebook": "n.ipynb"})
    state = standing(finished)
    assert state["done"] == 5 and "continue with: mmcoa run mini.yaml" in text(state)


def test_a_runner_that_was_killed(study):
    finish(study.cells[:1])
    leave(RUNS / "runner.json", dead(workflow=dead()))
    leave(RUNS / "running" / "train__tecoa-seed0.json", dead())
    state = standing(study)
    assert (state["running"], state["todo"], state["processes"], state["killed"]) == (0, 4, [], ["train__tecoa-seed0"])
    for shown in (text(state), drawn(state)):
        assert f"was killed: process {NOBODY}" in shown and "train__tecoa-seed0: ended without a result" in shown
        assert "continue with" in shown and "mmcoa run mini.yaml" in shown


def test_a_process_that_was_killed_while_its_runner_goes_on(study):
    leave(RUNS / "runner.json", claim() | {"workflow": claim()})
    leave(RUNS / "running" / "evaluate__none.json", dead())
    state = standing(study)
    assert state["killed"] == ["evaluate__none"] and state["runner"]["alive"] and "was killed" not in text(state)


def test_a_run_that_was_refused_was_not_killed(study):
    leave(RUNS / "runner.json", dead())
    assert standing(study)["runner"] is None


@pytest.mark.parametrize(
    "damage",
    [
        "{",
        '{"identity": "x", "kind": "evaluate", "rows": [], "provenance": {}}',
        '{"identity": 1, "kind": 1, "rows": [], "provenance": 3}',
    ],
)
def test_a_damaged_record_is_named_and_its_cell_is_to_do(finished, damage):
    path = record_path(RUNS, EVALUATED[0])
    path.write_text(damage)
    state = standing(finished)
    assert (state["done"], state["todo"], len(state["damaged"])) == (4, 1, 1)
    (line,) = [line for line in text(state).splitlines() if "damaged" in line]
    assert str(path) in line and "remove it and run the profile again" in line
    finish([cell for cell in finished.cells if cell.id == EVALUATED[0]])
    assert standing(finished)["damaged"] == []


def test_what_is_to_do_is_what_the_plan_says(write_profile):
    """Also where weights are missing, and after failures and kills."""
    profile = write_profile(models=[{"defense": "none"}, {"defense": "tecoa", "seeds": [0, 1]}])
    study, draw = make_plan(profile), random.Random(0)
    for _ in range(12):
        finish(study.cells)
        for path in [*RUNS.glob("failed/*"), *RUNS.glob("running/*")]:
            path.unlink()
        for cell in study.cells:
            if draw.random() < 0.2:
                record_path(RUNS, cell.id).unlink()
            if cell.kind == "train" and draw.random() < 0.5:
                (RUNS / "models" / cell.model / MARKER).unlink()
        for name in [process.name for process in study.processes]:
            if draw.random() < 0.2:
                leave(RUNS / draw.choice(["failed", "running"]) / f"{name}.json", dead(reason="E", notebook="n"))
        plan = make_plan(profile)
        state = standing(study)
        assert state["done"] == len(plan.cells) - len(plan.todo) and state["cells"] == len(plan.cells)
        assert state["seconds_left"] == plan.seconds_left(plan.todo)
        assert state["failures"].keys() == {path.stem for path in RUNS.glob("failed/*")}


def test_weights_of_a_base_model_of_the_study_itself(write_profile):
    pretrain = {"data": ["openmoji/birds"], "epochs": 1}
    profile = write_profile(base_model="own", pretrain=pretrain)
    study = make_plan(profile)
    finish(study.cells)
    assert study.processes[0].name == "pretrain__own" and standing(study)["done"] == 6
    record_path(RUNS, EVALUATED[1]).unlink()  # of the base model, whose weights are not here
    assert standing(study)["done"] == 4 == 6 - len(make_plan(profile).todo)


def test_a_state_reads_only_files_that_have_changed(finished, monkeypatch):
    standing(finished)
    read = []
    monkeypatch.setattr(stored, "read_record", lambda folder, name: read.append(name))
    assert standing(finished)["done"] == 5 and read == []
    os.utime(record_path(RUNS, EVALUATED[2]), (1, 1))
    standing(finished)
    assert read == [EVALUATED[2]]


@pytest.mark.parametrize("width", [60, 100, 200])
def test_the_view_fits_its_terminal(study, width):
    finish(study.cells[:1] + study.cells[2:3])
    for number in range(30):
        name = f"evaluate__{number}-with-quite-a-long-name-of-a-model-seed0"
        study = replace(study, processes=(*study.processes, replace(study.processes[0], name=name, cells=())))
        leave(RUNS / "running" / f"{name}.json", claim() | {"host": "a-node-of-a-cluster.example.org"})
    leave(
        RUNS / "failed" / "evaluate__none.json",
        {"reason": "RuntimeError: [Errno 28] no space " + "left " * 20, "notebook": "a/b.ipynb"},
    )
    shown = drawn(standing(study), width)
    assert all(len(line) <= width for line in shown.splitlines())
    flat = " ".join(shown.split())
    for part in (
        "mini",
        "2 of 5 cells",
        "done 2",
        "failed 1",
        "and 10 more",
        "last error",
        "[Errno 28]",
        "a/b.ipynb",
        "0:00:0",
    ):
        assert part in flat, part


@pytest.fixture
def screen(monkeypatch):
    """A terminal, as a `Console` whose `file` holds what was drawn."""
    console = Console(file=io.StringIO(), width=100, force_terminal=True)
    monkeypatch.setattr(status, "console", console)
    monkeypatch.setattr(status, "is_terminal", lambda: True)
    return console


def test_the_live_view_ends_when_all_is_done(study, screen, monkeypatch):
    monkeypatch.setattr(status.time, "sleep", lambda _: finish(study.cells))
    status.show("mini.yaml")
    assert "0 of 5 cells" in screen.file.getvalue() and "5 of 5 cells" in screen.file.getvalue()


def test_ctrl_c_ends_the_live_view_and_is_no_error(study, screen, monkeypatch):
    def interrupt(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(status.time, "sleep", interrupt)
    status.show("mini.yaml")
    assert "0 of 5 cells" in screen.file.getvalue()


def test_a_run_shows_the_same_view_until_it_has_ended(study, screen, monkeypatch):
    monkeypatch.setattr(status.time, "sleep", lambda _: finish(study.cells[:2]))
    child = types.SimpleNamespace(poll=lambda: 0 if (RUNS / "cells").is_dir() else None)
    status.show_progress(study, child, jobs=1)
    assert "2 of 5 cells" in screen.file.getvalue()


def test_a_pipe_gets_plain_lines_once(finished, capsys):
    from mmcoa.cli import main as cli

    with pytest.raises(SystemExit) as stop:
        cli.main(["status", "mini.yaml"])
    assert stop.value.code == 0
    printed = capsys.readouterr().out
    assert printed.startswith("mini: 5 cells\n  done        5\n") and "\x1b" not in printed
