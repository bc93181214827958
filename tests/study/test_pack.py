"""Packing: records become tables; a clone that computes one defence again changes that defence alone."""

import json
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest

from mmcoa.store import packed
from mmcoa.store.finished import record_path, write_log, write_outcomes, write_record
from mmcoa.study.pack import long_outcomes, pack
from mmcoa.study.plan import make_plan

ROOT = Path(__file__).parents[2]
MODELS = [{"defense": "none"}, {"defense": "tecoa", "seeds": [0, 1]}]
SWEEPS = [{"name": "steps", "models": ["none"], "attacks": ["image"], "vary": {"steps": [1, 2]}}]
MADE = {
    "seconds": 2.0,
    "device": "cpu",
    "threads": 1,
    "git_commit": "c" * 40,
    "git_dirty": False,
    "started": "2026-01-01T00:00:00+00:00",
}
MADE |= {"versions": {"python": "3.11", "torch": "2.15.0", "open_clip": "3.3.0", "mmcoa": "0.2"}}


def finish(plan, cells, right=True):
    """Made-up records, as an evaluation and a training leave them."""
    for cell in cells:
        if cell.kind == "train":
            held_out = {"samples": 8, "final": {"clean": 50.0}, "best": {"step": 2, "clean": 50.0}}
            write_record(
                plan.runs, cell, MADE, training={"seconds": 9.0, "images": 8, "train_samples": 8, "held_out": held_out}
            )
            log = Path("log.csv")
            log.write_text("step,loss\n0,1.5\n1,1.25\n")
            write_log(log, plan.runs, cell.id)
            continue
        outcomes = {"sample_id": [3, 1, 2], "label": [0, 1, 1]}
        for attack in cell.parameters["attacks"]:
            outcomes |= {
                f"{attack}_prediction": [0, 1, 1],
                f"{attack}_margin": [0.5] * 3,
                f"{attack}_correct": [right, True, False],
            }
        write_outcomes(pd.DataFrame(outcomes), plan.runs, cell.id)
        threat = {"epsilon": 2 / 255, "steps": cell.parameters["steps"]}
        row = {
            "accuracy": 200 / 3,
            "correct": 2,
            "n": 3,
            "threat": threat,
            **threat,
            "threat_text": "PGD",
        }
        rows = [{"model": "x", "attack": attack, **row} for attack in cell.parameters["attacks"]]
        edit = {"position": 5, "old_word": "robin", "new_word": "wren", "source": "table:eval"}
        changes = [
            {"class_name": "robin", "attack": "text", "prompt": "a robin", "changed": True, "edits": [edit], "variants": 3}
        ]
        checks = [
            {"attack": "pgd", "check": "twice the steps", "value": 1, "limit": 2, "passed": True, "n": 3, "verdict": "ok"}
        ]
        write_record(plan.runs, cell, MADE, rows, changes, checks=checks, notes=["without joint"])


@pytest.fixture
def finished(write_profile):
    plan = make_plan(write_profile(models=MODELS, sweeps=SWEEPS))
    finish(plan, plan.cells)
    return plan


def test_every_record_is_in_the_tables(finished):
    changed, missing = pack("mini.yaml")
    assert missing == 0 and {path.name for path in changed} >= {"cells.csv", "rows.csv", "none.parquet", "tecoa.parquet"}
    found = packed.read(finished.results)
    assert found.cells.cell.tolist() == [cell.id for cell in finished.cells]
    assert found.cells.identity.tolist() == [cell.identity for cell in finished.cells]
    assert {"training", "defense tecoa"} <= json.loads(found.cells.set_index("cell").versions["train__tecoa-seed0"]).keys()
    assert set(found.cells.commit) == {"c" * 40} and set(found.cells.torch) == {"2.15.0"}
    assert found.trainings.model.tolist() == ["tecoa-seed0", "tecoa-seed1"] and set(found.trainings.best_step) == {2}
    assert found.trainings.seconds.tolist() == [9.0, 9.0] and found.logs.loss.tolist() == [1.5, 1.25] * 2
    assert set(found.rows.model) == {"none", "tecoa-seed0", "tecoa-seed1"} and "threat" not in found.rows
    swept = found.rows[found.rows.sweep == "steps"]
    assert swept.sweep_value.tolist() == ["1", "1", "2", "2"] and swept.steps.tolist() == [1, 1, 2, 2]
    main = found.outcomes[(found.outcomes.sweep == "") & (found.outcomes.model == "none")]
    assert len(main) == 2 * 3 * 3 and main.correct.mean() == pytest.approx(2 / 3)
    assert found.changes.edits[0][0]["new_word"] == "wren" and len(found.checks) == len(
        found.rows.drop_duplicates(["model", "dataset", "sweep_value"])
    )
    assert pack("mini.yaml") == ([], 0)


def test_a_fresh_clone_keeps_what_it_did_not_compute(finished):
    """One model is computed again: its lines and its file change, and nothing else."""
    pack("mini.yaml")
    before = {path: path.read_bytes() for path in finished.results.rglob("*.*")}
    shutil.rmtree(finished.runs)
    assert pack("mini.yaml") == ([], 0)  # no record is here: the tables stay
    plan = make_plan("mini.yaml")
    finish(plan, [cell for cell in plan.cells if cell.model == "tecoa-seed1"], right=False)
    changed, missing = pack("mini.yaml")
    assert missing == 0 and len(changed) < 10
    assert "outcomes/tecoa.parquet" in {str(path.relative_to(plan.results)) for path in changed}
    assert (plan.results / "outcomes" / "none.parquet").read_bytes() == before[plan.results / "outcomes" / "none.parquet"]
    found = packed.read(plan.results)
    assert found.outcomes.groupby("model", observed=True).correct.mean().round(2).to_dict() == {
        "none": 0.67, "tecoa-seed0": 0.67, "tecoa-seed1": 0.33
    }  # fmt: skip


def test_what_left_the_profile_leaves_the_tables(finished, write_profile):
    pack("mini.yaml")
    pack(write_profile(models=MODELS[:1]))
    found = packed.read(finished.results)
    assert set(found.cells.entry) == {"none"} and set(found.cells.sweep) == {""} and not len(found.trainings)
    assert [path.name for path in (finished.results / "outcomes").iterdir()] == ["none.parquet"]


def test_outdated_results_stay_until_they_are_computed_again_and_count_as_missing(finished, write_profile):
    pack("mini.yaml")
    shutil.rmtree(finished.runs)
    changed, missing = pack(write_profile(models=MODELS, sweeps=SWEEPS, train__steps=3))
    assert changed == [] and missing == 6  # two trainings and their evaluations
    record = record_path(finished.runs, "train__tecoa-seed0")
    assert not record.exists() and len(packed.read(finished.results).cells) == len(finished.cells)


def test_nothing_is_written_where_nothing_is_there(write_profile):
    changed, missing = pack(write_profile())
    assert changed == [] and missing == 5 and not Path("results").exists()


def test_a_worst_case_says_what_broke_a_sample():
    frame = pd.DataFrame(
        {"sample_id": [1, 2], "label": [0, 0], "auto_correct": [True, False], "auto_broken_by": ["", "square"]}
    )
    found = long_outcomes(frame)
    assert found.attack.tolist() == ["auto", "auto"] and found.broken_by.tolist() == [None, "square"]


STUDIES = sorted(path.parent.name for path in (ROOT / "results").glob("*/cells.csv") if path.parent.name != "quick")


@pytest.mark.parametrize("name", STUDIES)
def test_a_committed_study_holds_what_its_profile_names_and_nothing_else(name, monkeypatch):
    """And all of it is current: nothing that was changed since makes it otherwise."""
    monkeypatch.chdir(ROOT)
    plan = make_plan(name, runs="no-runs")
    found = packed.read(plan.results)
    assert found.cells.cell.tolist() == [cell.id for cell in plan.cells]
    stale = [cell.id for cell in plan.cells if not plan.is_done(cell)]
    assert stale == [], f"{len(stale)} cells of {name} are outdated, such as {stale[0]}: mmcoa status {name}"
    rows = found.rows.groupby(["model", "dataset", "sweep", "sweep_value", "attack"]).correct.sum()
    outcomes = found.outcomes.groupby(["model", "dataset", "sweep", "sweep_value", "attack"], observed=True).correct.sum()
    assert rows.to_dict() == outcomes.to_dict()


def test_every_column_is_explained(finished):
    pack("mini.yaml")
    explained = set(re.findall(r"`([\w*]+)`", (ROOT / "results" / "README.md").read_text()))
    found = packed.read(finished.results)
    for name in ("cells", "rows", "checks", "outcomes", "changes"):
        lacking = set(getattr(found, name).columns) - explained
        assert not lacking, f"{name}: {sorted(lacking)} are not in results/README.md"
