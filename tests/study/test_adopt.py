"""Results are kept across a change of code only where cells that are run again come out the same, to the sample and the bit."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

from mmcoa.cli import main as cli
from mmcoa.errors import UserError
from mmcoa.study import cell as study
from mmcoa.study import cells as cells_module
from mmcoa.study.adopt import adopt, choose, choose_trainings, stale_cells
from mmcoa.study.plan import make_plan, write_specs
from mmcoa.study.records import read_record

OUTPUT = Path("results/mini")


@pytest.fixture
def finished(write_profile, monkeypatch):
    """A small study, run to its end; then the code is another."""
    plan = make_plan(write_profile())
    write_specs(plan)
    for process in plan.pending:
        study.run_spec(plan.spec(process))
    return "mini.yaml"


@pytest.fixture
def new_code(monkeypatch):
    kept = cells_module.code_hash
    monkeypatch.setattr(cells_module, "code_hash", lambda *roots: "new-" + kept(*roots))


def quiet(text):
    pass


def test_equal_cells_are_adopted_and_say_so(finished, new_code, capsys):
    assert len(make_plan(finished).pending) > 0
    trained, evaluated, refused = stale_cells(finished)
    assert len(trained) == 1 and len(evaluated) == 4 and not refused
    before = {path.name: json.loads(path.read_text()) for path in (OUTPUT / "records").iterdir()}
    with pytest.raises(SystemExit) as stop:
        cli.main(["adopt", finished, "--cells", "2", "--device", "cpu"])
    assert stop.value.code in (0, None) and "5 records" in capsys.readouterr().out
    assert make_plan(finished).pending == [] and not any(stale_cells(finished))
    for name, old in before.items():
        new = json.loads((OUTPUT / "records" / name).read_text())
        (note,) = new.pop("adopted")
        assert (
            note["from"] == old["hash"] != new["hash"]
            and note["trainings"] == 1
            and note["of"] == 5
            and note["evaluations"] >= 2
        )
        assert new["rows"] == old["rows"] and new["provenance"] == old["provenance"]  # what was measured stays as it was
    with pytest.raises(UserError, match="nothing of 'mini.yaml' is stale"):
        adopt(finished, echo=quiet)


def unchanged(finished):
    return all("adopted" not in json.loads(path.read_text()) for path in (OUTPUT / "records").iterdir())


def test_a_moved_outcome_forbids_it(finished, new_code):
    for path in (OUTPUT / "outcomes").glob("*.parquet"):
        frame = pd.read_parquet(path)
        frame.loc[0, "clean_correct"] = not frame.loc[0, "clean_correct"]
        frame.to_parquet(path, index=False)
    with pytest.raises(UserError, match="1 of 4 outcomes moved; nothing was adopted"):
        adopt(finished, count=1, device="cpu", echo=quiet)
    assert unchanged(finished)


def test_another_weight_forbids_it(finished, new_code, monkeypatch):
    def other(*arguments, **settings):
        return original(*arguments, **{**settings, "seed": 7})

    original = study.run_train_cell
    monkeypatch.setattr(study, "run_train_cell", other)
    with pytest.raises(UserError, match="training again gives other weights"):
        adopt(finished, count=1, device="cpu", echo=quiet)
    assert unchanged(finished)


def test_other_parameters_are_no_matter_of_code(finished, new_code, write_profile):
    write_profile(evaluate__steps=2)
    with pytest.raises(UserError, match="parameter 'steps' has changed; run: mmcoa run mini.yaml"):
        adopt("mini.yaml", device="cpu", echo=quiet)
    assert unchanged(finished)


def test_a_model_whose_checkpoint_is_gone_is_trained_again_and_judged_by_its_outcomes(finished, new_code):
    shutil.rmtree("runs/mini/models/tecoa-seed0")
    said = []
    with pytest.raises(UserError, match="checkpoints of 1 models are not here: .* --trainings 1"):
        adopt(finished, count=1, trainings=0, device="cpu", echo=quiet)
    assert adopt(finished, count=1, device="cpu", echo=said.append) == 5
    again = [line for line in said if line.startswith("equal: tecoa-seed0__")]
    assert len(again) == 2 and "trained again: train__tecoa-seed0, whose checkpoint is not here" in said
    assert make_plan(finished).pending == [] and not Path("runs/mini/models/tecoa-seed0").exists()


def test_another_model_in_its_place_forbids_it(finished, new_code, monkeypatch):
    Path("runs/mini/models/tecoa-seed0/cell.json").write_text('{"hash": "of another study"}')
    for path in (OUTPUT / "outcomes").glob("tecoa*.parquet"):
        frame = pd.read_parquet(path)
        frame["text_correct"] = ~frame["text_correct"]
        frame.to_parquet(path, index=False)
    with pytest.raises(UserError, match="outcomes moved; nothing was adopted"):
        adopt(finished, count=1, device="cpu", echo=quiet)
    assert unchanged(finished)


def test_the_choice_covers_every_data_set_and_method(finished, new_code):
    _, evaluated, _ = stale_cells(finished)
    chosen = choose(evaluated, 1, seed=3)
    assert {stale.cell.parameters["dataset"] for stale in chosen} == {"openmoji/birds", "openmoji/tools"}
    assert {stale.record["rows"][0]["defense"] for stale in chosen} == {"none", "tecoa"}
    assert len(choose(evaluated, 4, seed=3)) == 4 and read_record(OUTPUT, chosen[0].cell.id)


def test_trainings_are_of_different_defences_first():
    names = [f"{defense}-seed{seed}" for defense in ("clean", "mmcoa", "tecoa") for seed in range(3)]
    cells = [SimpleNamespace(cell=SimpleNamespace(id=name, parameters={"defense": name.partition("-")[0]})) for name in names]
    for seed in range(5):
        assert {stale.cell.parameters["defense"] for stale in choose_trainings(cells, 3, seed)} == {"clean", "mmcoa", "tecoa"}
    assert len(choose_trainings(cells, 20, 0)) == 9
