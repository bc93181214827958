"""The two tasks: in distribution a model is trained on each data set and judged on that one, out of distribution trained
once.
"""

import pytest

import mmcoa
from mmcoa.errors import UserError
from mmcoa.study.compute import evaluate_by_hand
from mmcoa.study.plan import make_plan
from mmcoa.study.profiles import load_profile, model_ids
from mmcoa.training.config import TrainConfig
from mmcoa.training.finetune import fine_tune

IN = {"defense": "tecoa", "task": "in_distribution", "seeds": [0, 1]}


def test_in_distribution_trains_on_each_data_set_and_judges_on_that_one(write_profile):
    path = write_profile(models=[{"defense": "none"}, {**IN, "shots": 1}], train={"samples": 8, "steps": 2})
    profile = load_profile(path)
    assert model_ids(profile, profile.models[1]) == [
        *("tecoa-on-openmoji-birds-seed0", "tecoa-on-openmoji-birds-seed1"),
        *("tecoa-on-openmoji-tools-seed0", "tecoa-on-openmoji-tools-seed1"),
    ]
    plan = make_plan(path)
    trained = {process.name: process.cells[0] for process in plan.processes if process.kind == "train"}
    for process in plan.processes:
        if process.maker is None:
            continue
        (evaluated,), train = process.cells, trained[process.maker]
        assert evaluated.parameters["dataset"] == train.parameters["dataset"] and evaluated.inputs["model"] == train.identity
        assert train.parameters["split"] == "train" and evaluated.parameters["split"] == "test"
        assert train.parameters["shots"] == 1 and evaluated.entry == train.entry == "tecoa"


def test_both_tasks_in_one_profile(write_profile):
    path = write_profile(
        models=[{"defense": "tecoa"}, {**IN, "name": "tecoa-in", "seeds": [3], "datasets": ["openmoji/tools"]}]
    )
    assert [cell.id for cell in make_plan(path).cells] == [
        *("train__tecoa-seed0", "tecoa-seed0__openmoji-birds", "tecoa-seed0__openmoji-tools"),
        *("train__tecoa-in-on-openmoji-tools-seed3", "tecoa-in-on-openmoji-tools-seed3__openmoji-tools"),
    ]


def test_sweeps_are_for_models_that_name_them(write_profile):
    sweep = {"name": "steps", "vary": {"steps": [1, 2]}}
    models = [{**IN, "seeds": [0], "datasets": ["openmoji/birds"]}]
    swept = [cell.sweep for cell in make_plan(write_profile(models=models, sweeps=[sweep])).cells]
    assert swept == ["", ""]
    swept = [cell.sweep for cell in make_plan(write_profile(models=models, sweeps=[{**sweep, "models": ["tecoa"]}])).cells]
    assert swept == ["", "", "steps", "steps"]


def test_a_sweep_on_some_data_sets_is_for_what_was_trained_on_them(write_profile):
    sweep = {"name": "steps", "steps": 2, "models": ["tecoa"], "datasets": ["openmoji/birds"]}
    cells = make_plan(write_profile(models=[{**IN, "seeds": [0]}], sweeps=[sweep])).cells
    assert [cell.id for cell in cells if cell.sweep] == ["tecoa-on-openmoji-birds-seed0__openmoji-birds__steps"]


@pytest.mark.parametrize(
    "entry, message",
    [
        ({**IN, "dataset": "openmoji/birds"}, "so it takes no 'dataset'"),
        ({"defense": "tecoa", "datasets": ["openmoji/birds"]}, "belongs to task in_distribution"),
        ({**IN, "datasets": ["openmoji/brids"]}, "unknown data set 'openmoji/brids'"),
        ({**IN, "split": "tset"}, "has no split 'tset'"),
        ({**IN, "task": "in-distribution"}, "task: input should be"),
        ({"defense": "none", "task": "in_distribution"}, "'none' is not trained"),
    ],
)
def test_what_cannot_be(write_profile, entry, message):
    with pytest.raises(UserError, match=message):
        load_profile(write_profile(models=[entry]))


def test_rows_say_which_task_they_are_of(project):
    """Train on one data set, evaluate on it and on another: the rows tell the two tasks apart, and what was trained on."""
    config = TrainConfig(shots=1, steps=1, batch_size=4, inner_steps=1)
    folder = fine_tune("tecoa", "models/tiny", "openmoji/birds", "out", config, device="cpu")
    rows = evaluate_by_hand(str(folder), ["openmoji/birds", "openmoji/tools"], ["clean"], samples=4, device="cpu")
    assert [(row["task"], row["trained_on"]) for row in rows] == [
        ("in_distribution", "openmoji/birds"),
        ("out_of_distribution", "openmoji/birds"),
    ]
    assert evaluate_by_hand("models/tiny", "openmoji/birds", ["clean"], samples=4, device="cpu")[0]["task"] == "zero_shot"


def test_training_and_test_pictures_differ():
    """Nobody evaluates on what was trained on: the splits of one data set share no picture."""
    train, test = (mmcoa.load_dataset("openmoji/birds", split) for split in ("train", "test"))
    seen = {picture.numpy().tobytes() for picture in train.images}
    assert not any(picture.numpy().tobytes() in seen for picture in test.images)
