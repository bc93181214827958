"""What is left to do."""

import json
import shlex
import shutil

import pytest

from mmcoa.console import duration
from mmcoa.errors import UserError
from mmcoa.identity import MARKER
from mmcoa.store.finished import write_record
from mmcoa.study.machine import claim
from mmcoa.study.plan import KINDS, make_plan, narrowed, notebook, papermill_command, read_spec, write_specs
from mmcoa.study.status import state as standing

PROVENANCE = {"seconds": 2.0}


def finish(cell, plan):
    write_record("runs/mini", cell, PROVENANCE)
    if cell.kind == "train":
        folder = plan.runs / "models" / cell.model
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "mmcoa.json").write_text("{}")
        (folder / MARKER).write_text(json.dumps({"cell": cell.id, "identity": cell.identity}))


def pending(profile):
    return [process.name for process in make_plan(profile).pending]


@pytest.fixture
def finished(write_profile):
    """A profile all of whose cells have records and weights."""
    plan = make_plan(write_profile())
    for cell in plan.cells:
        finish(cell, plan)
    return plan


def test_everything_at_first_and_nothing_at_last(write_profile):
    plan = make_plan(write_profile())
    assert [p.name for p in plan.pending] == ["train__tecoa-seed0", "evaluate__none", "evaluate__tecoa-seed0"]
    assert [plan.needs(p) for p in plan.pending] == [[], [], ["train__tecoa-seed0"]]
    assert plan.seconds_left(plan.todo) is None
    for cell in plan.cells:
        finish(cell, plan)
    plan = make_plan("mini.yaml")
    assert plan.pending == [] and plan.todo == []


CHAIN = [
    {"defense": "tecoa", "seeds": [0, 1]},
    {"defense": "leaf", "name": "leaf-after-tecoa", "from": "tecoa", "seeds": [1]},
]


def test_a_training_starts_from_another_ones_model(write_profile):
    plan = make_plan(write_profile(models=CHAIN))
    one = {process.name: process for process in plan.processes}
    first, second = one["train__tecoa-seed1"], one["train__leaf-after-tecoa-seed1"]
    assert second.model == first.output and second.made_by == first.cells[0].identity == second.cells[0].inputs["model"]
    assert plan.needs(second) == ["train__tecoa-seed1"] and plan.needs(first) == []
    assert plan.needs(one["evaluate__leaf-after-tecoa-seed1"]) == ["train__leaf-after-tecoa-seed1"]
    assert [p.name for p in narrowed(plan, "train__leaf-after-tecoa-seed1").pending] == [first.name, second.name]
    unchained = make_plan(write_profile(models=[{**entry, "from": None} for entry in CHAIN]))
    again = {process.name: process for process in unchained.processes}
    assert again[first.name].cells[0].identity == first.cells[0].identity  # the first one does not know
    assert again[second.name].cells[0].identity != second.cells[0].identity


def test_a_chain_is_made_again_from_where_weights_are_missing(write_profile):
    plan = make_plan(write_profile(models=CHAIN))
    for cell in plan.cells:
        finish(cell, plan)
    shutil.rmtree(plan.runs / "models")
    (plan.runs / "cells" / "leaf-after-tecoa-seed1__openmoji-tools.json").unlink()
    assert pending("mini.yaml") == [
        "train__tecoa-seed1",
        "train__leaf-after-tecoa-seed1",
        "evaluate__leaf-after-tecoa-seed1",
    ]


def test_in_distribution_a_chain_stays_on_its_data_set(write_profile):
    own = {"task": "in_distribution", "seeds": [0]}
    models = [{"defense": "tecoa", **own}, {"defense": "leaf", "from": "tecoa", **own}]
    one = {process.name: process for process in make_plan(write_profile(models=models)).processes}
    for place in ("openmoji-birds", "openmoji-tools"):
        assert one[f"train__leaf-on-{place}-seed0"].maker == f"train__tecoa-on-{place}-seed0"


@pytest.mark.parametrize(
    "models, says",
    [
        ([{"defense": "leaf", "from": "tecoo"}], "unknown trained model above it 'tecoo'"),
        ([{"defense": "leaf", "from": "none"}], "unknown trained model above it 'none'"),
        ([{"defense": "leaf", "from": "leaf"}], "unknown trained model above it 'leaf'"),
        (
            [{"defense": "leaf", "from": "tecoa", "seeds": [0, 2]}],
            "'leaf-seed2' starts from 'tecoa', .* no model of seed 2",
        ),
        ([{"defense": "leaf", "from": "tecoa", "task": "in_distribution", "seeds": [3]}], "of seed 3 on openmoji/birds"),
    ],
)
def test_a_chain_that_has_no_beginning(write_profile, models, says):
    with pytest.raises(UserError, match=says):
        make_plan(write_profile(models=[{"defense": "none"}, {"defense": "tecoa", "seeds": [0]}, *models]))


def test_one_missing_record_makes_one_process(finished):
    (finished.runs / "cells" / "none__openmoji-tools.json").unlink()
    plan = make_plan("mini.yaml")
    assert [process.name for process in plan.pending] == ["evaluate__none"]
    assert [cell.id for cell in plan.todo] == ["none__openmoji-tools"]
    assert plan.seconds_left(plan.todo) == 2.0


def test_time_left_knows_that_sweeps_are_not_as_long_as_the_main_evaluation(write_profile):
    profile = write_profile(
        sweeps=[{"name": "words", "vary": {"attackable": ["content", "class_name"]}}, {"name": "more", "steps": 3}]
    )
    plan = make_plan(profile)
    for cell in plan.cells:
        if cell.id in ("train__tecoa-seed0", "none__openmoji-birds", "none__openmoji-birds__words-content"):
            write_record("runs/mini", cell, {"seconds": {"words": 5.0}.get(cell.sweep, 30.0)})
    plan = make_plan(profile)
    assert plan.seconds_left([cell for cell in plan.todo if cell.sweep == "words"]) == 7 * 5.0
    assert plan.seconds_left([cell for cell in plan.todo if cell.sweep == "more"]) == 4 * 30.0  # none of them is done yet


def test_weights_that_git_does_not_keep_are_made_again_only_where_needed(finished):
    (finished.runs / "models" / "tecoa-seed0" / "mmcoa.json").unlink()
    assert pending("mini.yaml") == []
    (finished.runs / "cells" / "tecoa-seed0__openmoji-tools.json").unlink()
    assert pending("mini.yaml") == ["train__tecoa-seed0", "evaluate__tecoa-seed0"]


def test_a_notebook_that_was_killed_after_its_records_is_pending(finished):
    path = finished.runs / "running" / "train__tecoa-seed0.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({**claim(), "pid": 2**22 + 1}))
    assert pending("mini.yaml") == ["train__tecoa-seed0"]
    assert make_plan("mini.yaml").todo == []


def test_a_notebook_that_failed_after_its_records_is_pending(finished):
    path = finished.runs / "failed" / "evaluate__none.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"reason": "KeyError: 'x'", "notebook": "runs/mini/notebooks/evaluate__none.failed.ipynb"}))
    assert pending("mini.yaml") == ["evaluate__none"]
    assert standing(make_plan("mini.yaml"))["failures"]["evaluate__none"]["reason"] == "KeyError: 'x'"


def test_status_counts_cells_by_state(write_profile):
    plan = make_plan(write_profile())
    for folder, text in (("running", json.dumps(claim())), ("failed", json.dumps({"reason": "E: x", "notebook": "n"}))):
        (plan.runs / folder).mkdir(parents=True)
        name = "train__tecoa-seed0" if folder == "running" else "evaluate__none"
        (plan.runs / folder / f"{name}.json").write_text(text)
    finish(plan.cells[0], plan)
    state = standing(make_plan("mini.yaml"))
    assert (state["cells"], state["done"], state["running"], state["failed"], state["todo"]) == (5, 1, 1, 1, 2)
    dead = {**claim(), "pid": 2**22 + 1}
    (plan.runs / "running" / "train__tecoa-seed0.json").write_text(json.dumps(dead))
    assert standing(make_plan("mini.yaml"))["running"] == 0


def test_printed_commands_hand_the_notebook_its_part_of_the_plan(write_profile):
    plan = make_plan(write_profile())
    write_specs(plan)
    for process in plan.pending:
        make_folder, command = papermill_command(plan, process).split(" && ")
        assert make_folder == "mkdir -p runs/mini/notebooks"
        words = shlex.split(command)
        assert words[1:5] == [str(notebook(KINDS[process.kind])), str(plan.executed(process)), "-k", "python3"]
        assert words[5:7] == ["-r", "plan"]
        spec, cells = read_spec(words[7])
        assert tuple(cells) == process.cells and (spec["model"], spec["output"]) == (process.model, process.output)


def test_a_fresh_clone_plans_from_the_packed_results(finished):
    """Without records and without weights nothing is to do; what is asked for anew needs its model trained again."""
    (finished.results).mkdir(parents=True)
    lines = ["cell,identity,device,started,seconds"]
    lines += [f"{cell.id},{cell.identity},cpu,2026-01-01T00:00:00+00:00,3.0" for cell in finished.cells]
    (finished.results / "cells.csv").write_text("\n".join(lines) + "\n")
    shutil.rmtree(finished.runs)
    plan = make_plan("mini.yaml")
    assert plan.pending == [] and plan.mean_seconds() == {"train": 3.0, "evaluate": 3.0}
    (finished.results / "cells.csv").write_text("\n".join(lines[:-1]) + "\n")
    assert pending("mini.yaml") == ["train__tecoa-seed0", "evaluate__tecoa-seed0"]


def test_a_notebook_is_handed_what_is_to_do_and_what_has_a_record(finished):
    """Not what is packed alone: a sweep that is added in a fresh clone costs itself, not all cells of its model again."""
    several = [process for process in finished.processes if process.kind == "evaluate" and len(process.cells) > 1]
    assert several
    process = several[0]
    packed, missing, *rest = process.cells
    finished.results.mkdir(parents=True)
    (finished.results / "cells.csv").write_text(
        f"cell,identity,device,started,seconds\n{packed.id},{packed.identity},cpu,,7.0\n"
    )
    for cell in (packed, missing):
        (finished.runs / "cells" / f"{cell.id}.json").unlink()
    plan = make_plan("mini.yaml")
    write_specs(plan)
    assert [cell.id for cell in read_spec(plan.spec(process))[1]] == [cell.id for cell in (missing, *rest)]


def test_a_record_goes_before_what_is_packed_only_where_it_is_current(finished):
    cell = finished.cells[0]
    finished.results.mkdir(parents=True)
    (finished.results / "cells.csv").write_text(f"cell,identity,device,started,seconds\n{cell.id},{cell.identity},cpu,,7.0\n")
    assert not make_plan("mini.yaml").look(cell).packed
    path = finished.runs / "cells" / f"{cell.id}.json"
    path.write_text(path.read_text().replace(cell.identity, "0" * 64))
    plan = make_plan("mini.yaml")
    assert plan.look(cell).packed and plan.is_done(cell)


def test_durations():
    assert [duration(s) for s in (5, 300, 9000, 3.6e7)] == ["5 s", "5 min", "2.5 h", "10,000 h"]
    assert "unknown" in duration(None)


def test_one_process_and_what_it_needs(write_profile):
    plan = make_plan(write_profile())
    alone = narrowed(plan, "evaluate__none")
    assert [process.name for process in alone.pending] == ["evaluate__none"] and len(alone.todo) == 2
    both = narrowed(plan, "tecoa-seed0__openmoji-birds")  # a cell names the process that computes it
    assert [process.name for process in both.pending] == ["train__tecoa-seed0", "evaluate__tecoa-seed0"] and len(both.todo) == 3
    with pytest.raises(UserError, match="unknown cell 'evaluate__nnoe'; nearest: evaluate__none"):
        narrowed(plan, "evaluate__nnoe")


def test_nothing_of_what_is_done_is_to_do(finished):
    for name in ("evaluate__none", "train__tecoa-seed0"):
        with pytest.raises(UserError, match=f"'{name}' is done"):
            narrowed(make_plan("mini.yaml"), name)
