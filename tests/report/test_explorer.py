"""The explorer's data: the numbers of the report's tables, found by their places."""

import json
import re
from dataclasses import replace
from pathlib import Path

import nbformat
import pytest

from mmcoa.errors import UserError
from mmcoa.report import explorer, tables
from mmcoa.report.names import METHODS, ordered, ordered_attacks

PAGE = Path(__file__).parents[2] / "notebooks" / "report_explorer.ipynb"


def read(path):
    """(name, data) of a data script."""
    text = path.read_text()
    found = re.fullmatch(r'window.MMCOA_EXPLORER = [^\n]+\nwindow.MMCOA_EXPLORER\["(\w+)"\] = (.*);\n', text)
    return found[1], json.loads(found[2])


@pytest.fixture(scope="module")
def data(study, tmp_path_factory):
    """As a page reads it."""
    name, found = read(explorer.write(study, tmp_path_factory.mktemp("explorer")))
    assert name == "synthetic"
    return found


def main(data):
    return next(evaluation for evaluation in data["evaluations"] if not evaluation["sweep"])


def number(data, evaluation, unit, method, attack, member="mean"):
    """(value, low, high) in percent."""
    a = [name for name, _ in data["methods"]].index(method)
    place = evaluation["attacks"].index([item[0] for item in data["attacks"]].index(attack))
    return [value / 10 for value in evaluation["numbers"][str(a)][member][str(unit)][3 * place : 3 * place + 3]]


def rounded(*values):
    """As the tables print."""
    return [float(f"{value:.1f}") for value in values]


def test_numbers_are_those_of_the_tables(study, data):
    evaluation, names = main(data), [name for name, _ in data["datasets"]]
    for row in tables.by_dataset(study).itertuples():
        place = names.index(row.dataset)
        assert number(data, evaluation, place, row.method, row.attack) == rounded(row.accuracy, row.low, row.high)
        assert evaluation["n"][str(place)] == row.n
    everything = len(names) + data["groups"].index(list(range(len(names))))
    for row in tables.macro(study).itertuples():
        assert number(data, evaluation, everything, row.method, row.attack) == rounded(row.accuracy, row.low, row.high)
        assert sum(evaluation["n"].values()) == row.n


def test_one_seed_has_the_numbers_of_its_rows(study, data):
    names = [name for name, _ in data["datasets"]]
    for row in study.rows[study.rows.model == "mmcoa-seed1"].itertuples():
        found = number(data, main(data), names.index(row.dataset), "mmcoa", row.attack, "1")
        assert found == rounded(row.accuracy, row.ci_low, row.ci_high)


def test_differences_are_paired_as_in_the_gains_table(study, data):
    methods = [name for name, _ in data["methods"]]
    attacks = ordered_attacks(study.attacks)
    everything = len(data["datasets"]) + data["groups"].index(list(range(len(data["datasets"]))))
    gains = tables.macro(study, against="none")
    for row in gains[gains.method != "none"].itertuples():
        pair = main(data)["pairs"][f"{methods.index('none')},{methods.index(row.method)}"]["mean"][str(everything)]
        points, low, high = (-value / 10 for value in pair[3 * attacks.index(row.attack) :][:3])  # none minus the method
        assert [points, high, low] == rounded(row.accuracy, row.low, row.high)
    assert "1" in main(data)["pairs"][f"{methods.index('none')},{methods.index('mmcoa')}"]  # undefended: with every seed
    assert set(main(data)["pairs"][f"{methods.index('tecoa')},{methods.index('mmcoa')}"]) == {"mean"}  # one seed of TeCoA


def test_sweeps_have_their_own_numbers_and_budgets(study, data):
    points = [evaluation for evaluation in data["evaluations"] if evaluation["sweep"] == "epsilon"]
    assert [point["value"] for point in points] == ["1/255", "2/255", "4/255", "8/255"]
    for point in points:
        frame = tables.by_dataset(study.sweep("epsilon")[point["value"]])
        row = frame[(frame.attack == "image") & (frame.dataset == data["datasets"][0][0])].iloc[0]
        assert number(data, point, 0, "none", "image") == rounded(row.accuracy, row.low, row.high)
        assert point["n"]["0"] == row.n < main(data)["n"]["0"]
    place = str([item[0] for item in data["attacks"]].index("image"))
    threat = {name: threats for name, _, threats in data["sweeps"]}
    assert threat[""][place] == "ℓ∞ ball of 2/255, 10 steps, 1 starts"
    assert threat["epsilon"][place].startswith("ℓ∞ ball of 1/255, 10 steps, 1 starts, ")


def test_tasks_and_groups(study, data):
    sets = [name for name, _ in data["datasets"]]
    birds, others = sets.index("openmoji/birds"), [d for d, name in enumerate(sets) if name != "openmoji/birds"]
    assert sorted(data["groups"]) == sorted([list(range(len(sets))), others])
    tasks = {method: dict(found) for method, found in main(data)["tasks"].items()}
    methods = [name for name, _ in data["methods"]]
    assert tasks[str(methods.index("mmcoa"))][birds] == "in_distribution"
    assert explorer.shared(explorer.tasks_of(study), ["none", "mmcoa"], "in_distribution") == ("openmoji/birds",)
    assert explorer.shared(explorer.tasks_of(study), ["none"], "out_of_distribution") == ()


def test_every_number_leads_to_its_cell(study, data):
    found = [cell for part in data["evaluations"] for cell in part["records"]["cell"]]
    assert len(found) == len(set(found)) and set(found) == set(study.cells.cell[study.cells.kind == "evaluate"])
    said = {name: on for name, *_, on in data["models"]}
    assert said == {"none": "nothing beyond pre-training"} | dict.fromkeys(set(said) - {"none"}, "birds")
    records = main(data)["records"]
    assert [records["devices"][place] for place in records["device"]] == ["cpu"] * len(records["cell"])
    assert records["commits"] == ["0123456"]


def test_few_shots_are_said(study):
    few = replace(study, training=study.training.assign(shots=4.0))
    assert explorer.trained_on(few, "mmcoa-seed0", "openmoji/birds") == "birds, 4 pictures a class"


def test_the_script_is_small_and_ends_nowhere_else(study, data, tmp_path):
    numbers = sum(
        len(values)
        for part in data["evaluations"]
        for kind in ("numbers", "pairs")
        for members in part[kind].values()
        for units in members.values()
        for values in units.values()
    )
    assert len(json.dumps(data["evaluations"], separators=(",", ":"))) < 9 * numbers + 20_000
    odd = '</script>"\u2028\\ \u00e9'
    path = explorer.write(replace(study, rows=study.rows.assign(base_model=odd)), tmp_path)
    text = path.read_text(encoding="ascii")
    assert "</" not in text and read(path)[1]["base_model"] == odd


def test_other_pictures_cannot_be_paired(study):
    outcomes = study.outcomes
    fewer = outcomes[~((outcomes.method == "tecoa") & (outcomes.sample_id == 3))]
    with pytest.raises(UserError, match="'tecoa' was judged on other pictures of openmoji/"):
        explorer.data(replace(study, outcomes=fewer, sweeps={}))


def test_methods_come_in_the_order_of_the_tables(data, study):
    assert [name for name, _ in data["methods"]] == ordered(study.methods, METHODS)


def test_every_control_of_the_page_has_a_label():
    page = "\n".join(cell.source for cell in nbformat.read(PAGE, as_version=4).cells)
    assert all(
        f"<label>{text} <select" in page
        for text in ("Study", "Model", "Compare with", "Training seed", "Task", "Data sets", "Evaluation")
    )
    assert 'aria-live="polite"' in page and "<noscript>" in page
