"""Sweeps: further evaluations of a profile, each point of which is a cell of its own."""

import pytest

from mmcoa.errors import UserError
from mmcoa.study.plan import make_plan
from mmcoa.study.profiles import load_profile
from mmcoa.study.sweeps import read_sweeps

GOOD = """\
name: mine
base_model: openmoji-clip
train: {dataset: openmoji/birds}
models:
  - {defense: none}
  - {defense: tecoa, seeds: [0, 1]}
evaluate: {datasets: [openmoji/birds, openmoji/tools], attacks: [clean, image], samples: 4}
sweeps:
  - name: epsilon
    models: [none]
    vary: {epsilon: [1/255, 0.00784313725490196]}
  - name: attacks
    datasets: [openmoji/tools]
    attacks: [fgsm, text]
    steps: 3
"""


def load(tmp_path, text):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    return load_profile(path)


def test_each_point_is_a_cell_and_the_main_evaluation_stays_what_it_was(tmp_path):
    profile = load(tmp_path, GOOD)
    cells = {cell.id: cell for cell in make_plan(profile).cells}
    of_base = [name for name in cells if name.startswith("none__")]
    assert of_base == [
        *("none__openmoji-birds", "none__openmoji-tools"),
        *("none__openmoji-birds__epsilon-1-255", "none__openmoji-tools__epsilon-1-255"),
        *("none__openmoji-birds__epsilon-2-255", "none__openmoji-tools__epsilon-2-255"),
        "none__openmoji-tools__attacks",
    ]
    trained = [name for name in cells if name.startswith("tecoa-seed1__")]
    assert trained == ["tecoa-seed1__openmoji-birds", "tecoa-seed1__openmoji-tools", "tecoa-seed1__openmoji-tools__attacks"]
    point, sweep = cells["none__openmoji-birds__epsilon-2-255"], cells["none__openmoji-tools__attacks"]
    assert (point.sweep, point.sweep_value, point.parameters["epsilon"]) == ("epsilon", "2/255", "2/255")
    assert point.parameters["attacks"] == ["clean", "image"] and point.parameters["samples"] == 4
    assert (sweep.sweep, sweep.sweep_value) == ("attacks", "")
    assert sweep.parameters["attacks"] == ["fgsm", "text"] and sweep.parameters["steps"] == 3
    plain = load(tmp_path, GOOD[: GOOD.index("sweeps:")])
    main = {cell.id: cell.identity for cell in make_plan(profile).cells if not cell.sweep}
    assert main == {cell.id: cell.identity for cell in make_plan(plain).cells}


def test_seeds_of_a_sweep_leave_out_the_other_models_of_an_entry(tmp_path):
    narrowed = load(tmp_path, GOOD.replace("  - name: attacks\n", "  - name: attacks\n    seeds: [1]\n"))
    swept = [cell.id for cell in make_plan(narrowed).cells if cell.sweep == "attacks"]
    assert swept == ["none__openmoji-tools__attacks", "tecoa-seed1__openmoji-tools__attacks"]


def test_a_sweep_that_changes_makes_no_other_cell_stale(tmp_path):
    before = {cell.id: cell.identity for cell in make_plan(load(tmp_path, GOOD)).cells}
    after = {cell.id: cell.identity for cell in make_plan(load(tmp_path, GOOD.replace("steps: 3", "steps: 4"))).cells}
    assert {name for name in before if before[name] != after[name]} == {name for name in before if name.endswith("__attacks")}


def test_one_process_runs_a_model_with_its_sweeps(tmp_path):
    plan = make_plan(load(tmp_path, GOOD), tmp_path / "results", tmp_path / "runs")
    evaluations = {process.name: process for process in plan.pending if process.kind == "evaluate"}
    assert list(evaluations) == ["evaluate__none", "evaluate__tecoa-seed0", "evaluate__tecoa-seed1"]
    swept = {name: [(c.sweep, c.sweep_value) for c in one.cells if c.sweep] for name, one in evaluations.items()}
    assert swept["evaluate__tecoa-seed0"] == [("attacks", "")]
    assert set(swept["evaluate__none"]) == {("epsilon", "1/255"), ("epsilon", "2/255"), ("attacks", "")}
    (attacks,) = (cell for cell in evaluations["evaluate__none"].cells if cell.sweep == "attacks")
    assert (attacks.parameters["attacks"], attacks.parameters["steps"]) == (["fgsm", "text"], 3)


@pytest.mark.parametrize(
    ("old", "new", "line", "says"),
    [
        ("name: attacks", "name: epsilon", 12, "two sweeps are called 'epsilon'"),
        ("models: [none]", "models: [nnoe]", 10, "models: unknown model 'nnoe'; nearest: none"),
        ("models: [none]", "models: [none, none]", 10, "models: 'none' is listed twice"),
        ("models: [none]", "modles: [none]", 10, "unknown key 'modles'; nearest: models"),
        ("{epsilon: [1/", "{epsilom: [1/", 11, "vary: unknown setting 'epsilom'; nearest: epsilon"),
        ("{epsilon: [1/", "{attacks: [1/", 11, "vary: unknown setting 'attacks'"),
        ("[1/255, ", "[2/255, ", 11, "vary: '2/255' is listed twice"),
        ("[1/255, ", "[much, ", 11, "vary: epsilon 'much' is not a number"),
        ("[1/255, ", "[9, ", 9, "epsilon must lie in (0, 1]"),
        ("[1/255, 0.00784313725490196]", "[]", 11, "vary: epsilon has no values"),
        ("[1/255, 0.00784313725490196]", "1/255", 11, "input should be a valid list"),
        ("0.00784313725490196]", "2/255], steps: [1, 2]", 11, "vary: one field can vary in a sweep, got epsilon and steps"),
        (
            "vary: {epsilon: [1/255, 0.00784313725490196]}",
            "vary: {steps: [1, 1.5]}",
            11,
            "vary: steps: must be a whole number, got 1.5",
        ),
        ("    vary", "    epsilon: 1/255\n    vary", 9, "sweep 'epsilon' sets 'epsilon' and varies it"),
        ("name: attacks", "name: epsilon-2-255", 12, "would be called 'epsilon-2-255'"),
        ("steps: 3", "seeds: [1, 2]", 15, "no model of sweep 'attacks' has seed 2"),
        ("steps: 3", "split: tset", 15, "'openmoji/tools' has no split 'tset'"),
        ("steps: 3", "steps: 0", 15, "steps must be at least 1, got 0"),
        ("steps: 3", "defense_at_test: tcc", 15, "unknown test-time defence 'tcc'; nearest: ttc"),
        ("steps: 3", "defense_at_test: ttc\n    with_at_test: {tau: 1}", 16, "unknown setting 'tau'"),
        ("samples: 4", "samples: 4, adversary: transfer", 7, "without a 'defense_at_test' there is no 'adversary'"),
        ("[fgsm, text]", "[fgsm, txet]", 14, "unknown attack 'txet'; nearest: text"),
    ],
)
def test_a_mistake_is_one_line_with_file_line_and_key(tmp_path, old, new, line, says):
    assert old in GOOD
    with pytest.raises(UserError) as caught:
        load(tmp_path, GOOD.replace(old, new, 1))
    assert says in str(caught.value)
    assert str(caught.value).startswith(f"{tmp_path / 'mine.yaml'}, line {line}: ")


@pytest.mark.parametrize(
    ("sweep", "says"),
    [
        ({"name": "x", "stesp": 3}, "sweep 2: unknown key 'stesp'; nearest: steps"),
        ({"name": "x", "models": ["none"]}, "sweep 2: 'models' belongs in a profile"),
        ({"name": "x", "seeds": [0]}, "sweep 2: 'seeds' belongs in a profile"),
        ({"vary": {"steps": [1]}}, "sweep 2: key 'name' is missing"),
        ({"name": "x", "vary": {"steps": [0]}}, "sweep 2: vary: steps must be at least 1, got 0"),
    ],
)
def test_a_mistake_by_hand_is_one_line(sweep, says):
    with pytest.raises(UserError) as caught:
        read_sweeps([{"name": "first"}, sweep])
    assert str(caught.value).startswith(says)


def test_the_adversary_of_no_defence_is_a_mistake(tmp_path):
    with pytest.raises(UserError, match="sweep 'attacks': without a 'defense_at_test' there is no 'adversary'"):
        make_plan(load(tmp_path, GOOD.replace("steps: 3", "adversary: transfer")))


def test_test_time_defences_vary_in_a_sweep(tmp_path):
    swept = GOOD.replace("steps: 3", "adversary: transfer\n    vary: {defense_at_test: [none, ttc]}")
    cells = [cell for cell in make_plan(load(tmp_path, swept)).cells if cell.sweep == "attacks"]
    assert {cell.sweep_value for cell in cells} == {"none", "ttc"}
