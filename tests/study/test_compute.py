"""The work of a cell, in this process: records, outcomes, skipping, errors."""

import importlib.util
import json
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from mmcoa.errors import UserError
from mmcoa.store.finished import read_outcomes, read_record, write_outcomes
from mmcoa.study import compute as study
from mmcoa.study.plan import make_plan, write_specs
from mmcoa.threat import ThreatModel

RUNS = Path("runs/mini")
EVALUATE = dict(attacks=["clean", "image", "text"], samples=4, steps=1, device="cpu")


SWEEPS = [
    {
        "name": "words",
        "models": ["none"],
        "datasets": ["openmoji/tools"],
        "attacks": ["text"],
        "vary": {"attackable": ["content", "class_name"]},
    }
]


def test_a_chained_training_starts_from_the_first_ones_weights(write_profile):
    """LEAF trains the text tower alone, so the image tower is still the one that TeCoA trained."""
    models = [{"defense": "tecoa"}, {"defense": "leaf", "name": "leaf-after-tecoa", "from": "tecoa"}]
    plan = make_plan(write_profile(models=models, evaluate__datasets=["openmoji/birds"], evaluate__attacks=["clean"]))
    write_specs(plan)
    for process in plan.pending:
        study.run_spec(plan.spec(process))
    assert make_plan("mini.yaml").pending == []
    base, first, second = (
        load_file(Path(folder) / "model.safetensors")
        for folder in ("models/tiny", *(f"runs/mini/models/{name}-seed0" for name in ("tecoa", "leaf-after-tecoa")))
    )
    image = [key for key in base if key.startswith("visual")]
    assert all(torch.equal(first[key], second[key]) for key in image)
    assert not all(torch.equal(base[key], first[key]) for key in image)
    assert not torch.equal(first["text_projection"], second["text_projection"])
    (row,) = read_record(RUNS, "leaf-after-tecoa-seed0__openmoji-birds")["rows"]
    assert (row["base_model"], row["defense"], row["trained_on"]) == ("tiny", "leaf", "openmoji/birds")
    card = (RUNS / "models" / "leaf-after-tecoa-seed0" / "README.md").read_text()
    assert "`tiny`, after tecoa on openmoji/birds, fine-tuned with the defence `leaf`" in " ".join(card.split())


def test_specs_run_without_jupyter_and_write_the_records_that_the_plan_expects(write_profile):
    plan = make_plan(write_profile(sweeps=SWEEPS))
    write_specs(plan)
    for process in plan.pending:
        study.run_spec(plan.spec(process))
    assert make_plan("mini.yaml").pending == []
    cells = {cell.id: cell for cell in make_plan("mini.yaml").cells}
    record = read_record(RUNS, "tecoa-seed0__openmoji-tools")
    cell = cells[record["cell"]]
    assert record["identity"] == cell.identity and record["versions"] == cell.versions and record["entry"] == "tecoa"
    assert [row["attack"] for row in record["rows"]] == ["clean", "image", "text"]
    assert {row["task"] for row in record["rows"]} == {"out_of_distribution"}
    assert {row["model"] for row in record["rows"]} == {"tecoa-seed0"}
    assert len(record["changes"]) == record["rows"][0]["classes"]
    assert {(row["sweep"], row["sweep_value"], row["check"]) for row in record["rows"]} == {("", "", ""), ("", "", "not run")}
    assert record["checks"] == []
    swept = read_record(RUNS, "none__openmoji-tools__words-class_name")
    assert {(row["attack"], row["sweep"], row["sweep_value"], row["attackable"]) for row in swept["rows"]} == {
        ("text", "words", *["class_name"] * 2)
    }
    assert all(edit["position"] >= 5 for change in swept["changes"] for edit in change["edits"])  # This is a photo of a ...
    assert record["provenance"]["device"] == "cpu" and record["provenance"]["threads"] >= 1
    outcomes = read_outcomes(RUNS, "tecoa-seed0__openmoji-tools")
    assert len(outcomes) == 4 and outcomes["clean_correct"].sum() == record["rows"][0]["correct"]
    trained = read_record(RUNS, "train__tecoa-seed0")
    assert trained["kind"] == "train" and trained["rows"] == [] and trained["training"]["images"] == 8
    assert trained["training"]["held_out"]["final"]["clean"] >= trained["training"]["held_out"]["final"]["robust"]
    log = pd.read_csv(RUNS / "cells" / "train__tecoa-seed0.csv")
    assert log["loss"].notna().all() and log["held_out_clean"].iloc[-1] == trained["training"]["held_out"]["final"]["clean"]


def test_a_current_cell_is_read_and_another_is_computed(project, monkeypatch):
    evaluated = []
    original = study.evaluate
    monkeypatch.setattr(
        study, "evaluate", lambda model, data, *a, **k: evaluated.append(data.name) or original(model, data, *a, **k)
    )
    first = study.evaluate_by_hand("models/tiny", "openmoji/birds", output=RUNS, name="none", **EVALUATE)
    both = study.evaluate_by_hand("models/tiny", ["openmoji/birds", "openmoji/tools"], output=RUNS, name="none", **EVALUATE)
    assert evaluated == ["openmoji/birds", "openmoji/tools"]
    assert both[:3] == json.loads(json.dumps(first)) and len(both) == 6


def test_settings_reach_the_evaluation(project):
    settings = EVALUATE | {
        "attacks": ["image", "text"],
        "preset": "reference",
        "precision": "bf16",
        "text_budget": 2,
        "targets": 1,
        "craft_on": "models/tiny",
    }
    image, text = study.evaluate_by_hand("models/tiny", "openmoji/birds", epsilon="4/255", norm="l2", **settings)
    assert image["epsilon"] == image["step_size"] == 4 / 255 and (image["norm"], image["keep"]) == ("l2", "last")
    assert image["crafted_on"] == text["crafted_on"] != ""
    assert image["targets"] == 1 and image["precision"].startswith("bf16; ") and text["text_budget"] == 2


def test_self_checks_are_in_rows_and_record(project):
    checked = EVALUATE | {"check_dataset": "openmoji/tools", "check_samples": 8}
    clean, image, text = study.evaluate_by_hand("models/tiny", "openmoji/birds", output=RUNS, name="none", **checked)
    assert (clean["check"], clean["check_n"]) == ("", 0)
    assert all(row["check"].split(":")[0] in ("ok", "suspicious") and row["check_n"] <= 8 for row in (image, text))
    record = read_record(RUNS, "none__openmoji-birds")
    assert {item["attack"] for item in record["checks"]} == {"pgd", "text"}
    assert {"attack", "check", "value", "limit", "passed", "n", "verdict"} == record["checks"][0].keys()


def test_a_cell_that_was_killed_goes_on_in_the_middle_of_its_data_set(project):
    settings = EVALUATE | {"samples": 70, "attacks": ["clean", "image"]}
    whole = study.evaluate_by_hand("models/tiny", "openmoji/birds", output="runs/whole", name="none", **settings)

    def kill(what, done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        study.evaluate_by_hand("models/tiny", "openmoji/birds", output=RUNS, name="none", progress=kill, **settings)
    identity = read_record("runs/whole", "none__openmoji-birds")["identity"]
    assert list((RUNS / "partial").glob("*/*")) == [RUNS / "partial" / "none__openmoji-birds" / identity[:16]]
    said = []
    rest = study.evaluate_by_hand(
        "models/tiny", "openmoji/birds", output=RUNS, name="none", progress=lambda *a: said.append(a), **settings
    )
    assert said == [("openmoji/birds", 70, 70)]  # the first 64 are not done again
    assert [row | {"seconds": 0} for row in rest] == [row | {"seconds": 0} for row in whole]
    outcomes = [read_outcomes(folder, "none__openmoji-birds") for folder in ("runs/whole", RUNS)]
    pd.testing.assert_frame_equal(*outcomes)
    assert not (RUNS / "partial").exists()


@pytest.mark.parametrize(
    ("attacks", "score", "needed"),
    [
        (["clean", "image", "sequential"], "embedding", False),
        (["multimodal"], "embedding", True),
        (["joint"], "embedding", True),
        (["text"], "margin", True),
        (["image"], "margin", False),
    ],
)
def test_labelled_pictures_are_drawn_only_for_attacks_that_learn_from_them(attacks, score, needed):
    assert study.needs_attacker(attacks, ThreatModel(text_score=score)) == needed


def test_one_bad_data_set_does_not_keep_the_others_from_running(project):
    with pytest.raises(
        UserError,
        match=r"1 of 2 evaluations failed; openmoji/brids: unknown data set 'openmoji/brids'; nearest: openmoji/birds",
    ):
        study.evaluate_by_hand("models/tiny", ["openmoji/brids", "openmoji/tools"], output=RUNS, name="none", **EVALUATE)
    assert {path.stem for path in (RUNS / "cells").iterdir()} == {"none__openmoji-tools"}


def test_names_that_nobody_knows(project):
    with pytest.raises(UserError, match="unknown model 'openmoji-clp'; nearest: openmoji-clip"):
        study.evaluate_by_hand("openmoji-clp", "openmoji/birds", **EVALUATE)
    with pytest.raises(UserError, match="unknown parameter 'setps'; nearest: steps"):
        study.evaluate_by_hand("models/tiny", "openmoji/birds", setps=3)
    with pytest.raises(UserError, match="unknown attack 'imgae'; nearest: image"):
        study.evaluate_by_hand("models/tiny", "openmoji/birds", **(EVALUATE | {"attacks": ["imgae"]}))


@pytest.mark.parametrize("spec", [{"kind": "train"}, [], {"kind": "evaluate", "cells": [{"modle": "x"}]}, "no JSON"])
def test_a_bad_spec_is_one_line(tmp_path, spec):
    path = tmp_path / "spec.json"
    path.write_text(spec if isinstance(spec, str) else json.dumps(spec))
    with pytest.raises(UserError, match=r"spec\.json: expected a process of a study's plan"):
        study.run_spec(path)


def test_an_outdated_checkpoint_is_removed_and_somebody_elses_is_not(tmp_path, write_profile):
    (old,) = (cell for cell in make_plan(write_profile()).cells if cell.kind == "train")
    (new,) = (cell for cell in make_plan(write_profile(train__steps=3)).cells if cell.kind == "train")
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
    outcomes = pd.DataFrame({"sample_id": [3, 1], "clean_correct": [True, False], "auto_broken_by": ["", "square"]})
    with monkeypatch.context() as without:
        without.setattr(importlib.util, "find_spec", lambda name: None)
        assert write_outcomes(outcomes, tmp_path, "cell").name == "cell.npz"
    found = read_outcomes(tmp_path, "cell")
    assert found.sample_id.tolist() == [3, 1] and found.auto_broken_by.tolist() == ["", "square"]


@pytest.mark.parametrize(
    "settings, said",
    [
        ({"samples": "4"}, "samples: must be a whole number, got '4'"),
        ({"steps": 2.5}, "steps: must be a whole number, got 2.5"),
        ({"samples": 0}, "samples: input should be greater than or equal to 1, got 0"),
        ({"transform": "openclpi"}, "transform: input should be 'reference' or 'openclip', got 'openclpi'"),
        ({"classnames": "gone.txt"}, "classnames: no file gone.txt"),
    ],
)
def test_a_wrong_parameter_by_hand_is_one_line(project, settings, said):
    """As papermill's `-r` hands them over, all are texts."""
    with pytest.raises(UserError) as told:
        study.evaluate_by_hand("models/tiny", "openmoji/birds", **EVALUATE | settings)
    assert str(told.value) == said
