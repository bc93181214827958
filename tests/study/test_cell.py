"""The work of a cell, in this process: records, outcomes, skipping, errors."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mmcoa.errors import UserError
from mmcoa.study import cell as study
from mmcoa.study.cells import expand
from mmcoa.study.plan import make_plan, write_specs
from mmcoa.study.records import is_current, read_record

OUTPUT = Path("results/mini")
EVALUATE = dict(attacks=["clean", "image", "text"], samples=4, steps=1, device="cpu")


def test_specs_run_without_jupyter_and_write_the_records_that_the_plan_expects(write_profile):
    plan = make_plan(write_profile())
    write_specs(plan)
    for process in plan.pending:
        study.run_spec(plan.spec(process))
    assert make_plan("mini.yaml").pending == []
    cells = {cell.id: cell for cell in expand("mini.yaml")}
    record = read_record(OUTPUT, "tecoa-seed0__openmoji-tools")
    assert is_current(record, cells[record["cell"]].hash)
    assert [row["attack"] for row in record["rows"]] == ["clean", "image", "text"]
    assert {row["task"] for row in record["rows"]} == {"out_of_distribution"}
    assert {row["model"] for row in record["rows"]} == {"tecoa-seed0"}
    assert len(record["changes"]) == record["rows"][0]["classes"]
    assert record["provenance"]["device"] == "cpu" and record["provenance"]["threads"] >= 1
    outcomes = pd.read_parquet(OUTPUT / "outcomes" / "tecoa-seed0__openmoji-tools.parquet")
    assert len(outcomes) == 4 and outcomes["clean_correct"].sum() == record["rows"][0]["correct"]
    trained = read_record(OUTPUT, "train__tecoa-seed0")
    assert trained["kind"] == "train" and trained["rows"] == [] and trained["training"]["images"] == 8


def test_a_current_cell_is_read_and_another_is_computed(project, monkeypatch):
    evaluated = []
    original = study.evaluate
    monkeypatch.setattr(study, "evaluate", lambda model, data, *a, **k: evaluated.append(data.name) or original(model, data, *a, **k))
    first = study.run_evaluate_cells("models/tiny", "openmoji/birds", output=OUTPUT, name="none", **EVALUATE)
    both = study.run_evaluate_cells("models/tiny", ["openmoji/birds", "openmoji/tools"], output=OUTPUT, name="none", **EVALUATE)
    assert evaluated == ["openmoji/birds", "openmoji/tools"]
    assert both[:3] == json.loads(json.dumps(first)) and len(both) == 6


def test_one_bad_data_set_does_not_keep_the_others_from_running(project):
    with pytest.raises(UserError, match=r"1 of 2 data sets failed; openmoji/brids: unknown data set 'openmoji/brids'; nearest: openmoji/birds"):
        study.run_evaluate_cells("models/tiny", ["openmoji/brids", "openmoji/tools"], output=OUTPUT, name="none", **EVALUATE)
    assert [path.stem for path in (OUTPUT / "records").iterdir()] == ["none__openmoji-tools"]


def test_names_that_nobody_knows(project):
    with pytest.raises(UserError, match="unknown model 'openmoji-clp'; nearest: openmoji-clip"):
        study.run_evaluate_cells("openmoji-clp", "openmoji/birds", **EVALUATE)
    with pytest.raises(UserError, match="unknown attack 'imgae'; nearest: image"):
        study.run_evaluate_cells("models/tiny", "openmoji/birds", **(EVALUATE | {"attacks": ["imgae"]}))


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ({"kind": "evaluate", "parameters": {"modle": "x"}}, "unknown parameter 'modle'; nearest: model"),
        ({"kind": "evalute", "parameters": {}}, "unknown kind 'evalute'; nearest: evaluate"),
        ({"kind": "train"}, "expected JSON with 'kind' and 'parameters'"),
        ([], "expected JSON with 'kind' and 'parameters'"),
    ],
)
def test_a_bad_spec_is_one_line(tmp_path, spec, says):
    path = tmp_path / "spec.json"
    path.write_text(json.dumps(spec))
    with pytest.raises(UserError, match=says):
        study.run_spec(path)


def test_an_outdated_checkpoint_is_removed_and_somebody_elses_is_not(tmp_path, write_profile):
    (old,) = (cell for cell in expand(write_profile()) if cell.kind == "train")
    (new,) = (cell for cell in expand(write_profile(train__steps=3)) if cell.kind == "train")
    folder = tmp_path / "model"
    study.claim_folder(folder, old)
    (folder / "mmcoa.json").write_text("{}")
    study.claim_folder(folder, old)
    assert (folder / "mmcoa.json").is_file()
    study.claim_folder(folder, new)
    assert not (folder / "mmcoa.json").exists()
    other = tmp_path / "other"
    other.mkdir()
    (other / "mmcoa.json").write_text("{}")
    with pytest.raises(UserError, match="holds a checkpoint that no study made"):
        study.claim_folder(other, new)


def test_outcomes_as_npz_without_pyarrow(tmp_path, monkeypatch):
    monkeypatch.setattr(study.importlib.util, "find_spec", lambda name: None)
    path = study.write_outcomes(pd.DataFrame({"sample_id": [3, 1], "clean_correct": [True, False]}), tmp_path, "cell")
    assert path.name == "cell.npz"
    assert np.load(path)["sample_id"].tolist() == [3, 1]
