"""Records: whole or not there, current or stale; rows.csv from the current ones."""

import csv
import json
from pathlib import Path

import pytest

from mmcoa.errors import UserError
from mmcoa.study import records
from mmcoa.study.cells import expand

PROVENANCE = {"seconds": 2.0}


def record_all(profile, skip=()):
    """Records with one made-up row for each evaluate cell."""
    for cell in expand(profile):
        if cell.id not in skip:
            rows = (
                [{"model": cell.model, "dataset": cell.parameters["dataset"], "accuracy": 50.0}]
                if cell.kind == "evaluate"
                else []
            )
            records.write_record("results/mini", cell, PROVENANCE, rows)


def test_a_write_that_fails_leaves_the_old_file_and_no_other(tmp_path):
    path = records.write_atomic(tmp_path / "record.json", lambda p: p.write_text("old"))

    def fail(temporary):
        temporary.write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        records.write_atomic(path, fail)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_current_and_stale(write_profile):
    profile = write_profile()
    record_all(profile)
    cells = expand(profile)
    assert all(records.is_current(records.read_record("results/mini", cell.id), cell.hash) for cell in cells)
    stale = expand(write_profile(evaluate__steps=2))
    assert not any(records.is_current(records.read_record("results/mini", c.id), c.hash) for c in stale if c.kind == "evaluate")
    assert not records.is_current(records.read_record("results/mini", "absent"), "abc")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"hash": "x"}'])
def test_a_damaged_record_is_named(tmp_path, text):
    path = tmp_path / "records" / "cell.json"
    path.parent.mkdir()
    path.write_text(text)
    with pytest.raises(UserError, match=r"damaged record .*cell\.json.*run the profile again"):
        records.read_record(tmp_path, "cell")


def test_rows_csv_holds_the_current_records_in_order(write_profile):
    profile = write_profile()
    record_all(profile, skip=["tecoa-seed0__openmoji-tools"])
    path, missing = records.compile_rows(profile)
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert path == Path("results/mini/rows.csv") and missing == 1
    assert [row["cell"] for row in rows] == ["none__openmoji-birds", "none__openmoji-tools", "tecoa-seed0__openmoji-birds"]
    assert list(rows[0]) == list(records.ROW_COLUMNS)
    _, missing = records.compile_rows(write_profile(evaluate__samples=3))
    assert missing == 4 and len(path.read_text().splitlines()) == 1


def test_rows_of_sweeps_come_after_those_of_the_main_evaluation(write_profile):
    profile = write_profile(
        sweeps=[{"name": "steps", "models": ["none"], "datasets": ["openmoji/tools"], "vary": {"steps": [1, 2]}}]
    )
    for cell in expand(profile):
        rows = [{"model": cell.model, "sweep": cell.sweep, "sweep_value": cell.sweep_value}] if cell.kind == "evaluate" else []
        records.write_record("results/mini", cell, PROVENANCE, rows)
    path, missing = records.compile_rows(profile)
    with path.open(newline="") as file:
        rows = [(row["model"], row["sweep"], row["sweep_value"]) for row in csv.DictReader(file)]
    swept = [("none", "steps", "1"), ("none", "steps", "2")]
    assert missing == 0 and rows == [("none", "", "")] * 2 + swept + [("tecoa-seed0", "", "")] * 2


def test_provenance_works_without_git(monkeypatch):
    monkeypatch.setenv("PATH", "")
    made = records.provenance(started=0, seconds=1.234, seed=3, device="cpu", threads=2)
    assert made["git_commit"] is None and made["git_dirty"] is None
    assert made["started"] == "1970-01-01T00:00:00+00:00" and made["seconds"] == 1.23
    assert {"python", "torch", "open_clip", "mmcoa"} == made["versions"].keys() and all(made["versions"].values())


RESULTS = Path(__file__).parents[2] / "results"


@pytest.mark.parametrize(
    "profile", sorted(path.parent.name for path in RESULTS.glob("*/records") if path.parent.name != "quick")
)
def test_a_committed_study_holds_what_its_profile_names_and_nothing_else(profile):
    """A cell that was renamed or left the profile must not stay behind: nobody would know what it belongs to."""
    folder, cells = RESULTS / profile, expand(profile)
    assert {path.stem for path in (folder / "records").iterdir()} == {cell.id for cell in cells}
    evaluated = {path.stem for path in (folder / "outcomes").iterdir()} if (folder / "outcomes").is_dir() else set()
    assert evaluated == {cell.id for cell in cells if cell.kind == "evaluate"}
    trained = {path.stem for path in (folder / "training").iterdir()} if (folder / "training").is_dir() else set()
    assert trained == {cell.model for cell in cells if cell.kind != "evaluate"}


def test_a_commit_may_be_told_where_there_is_no_repository(monkeypatch):
    monkeypatch.setenv("MMCOA_COMMIT", "abc123")
    made = records.provenance(started=0, seconds=1, seed=0, device="cuda:0", threads=1, hardware="Some GPU")
    assert made["git_commit"] == "abc123" and made["git_dirty"] is None and made["hardware"] == "Some GPU"


def test_a_record_is_a_line_an_item(tmp_path):
    record = {"cell": "a", "rows": [{"x": 1}, {"x": [2, 3]}], "changes": [], "made": {"by": "me"}}
    text = records.lined(record)
    assert json.loads(text) == record
    assert [line.strip() for line in text.splitlines()] == [
        "{",
        '"cell": "a",',
        '"rows": [',
        '{"x": 1},',
        '{"x": [2, 3]}',
        "],",
        '"changes": [],',
        '"made": {"by": "me"}',
        "}",
    ]


def test_rows_say_what_made_them(write_profile):
    made = records.provenance(started=0, seconds=1, seed=0, device="cpu", threads=2)
    (cell,) = expand(write_profile(models=[{"defense": "none"}], evaluate__datasets=["openmoji/birds"]))
    records.write_record("results/mini", cell, made, [{"model": "none"}])
    path, _ = records.compile_rows("mini.yaml")
    with path.open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["git_commit"] == (made["git_commit"] or "") and row["git_dirty"] == str(
        made["git_dirty"] if made["git_dirty"] is not None else ""
    )
    assert row["torch"] == made["versions"]["torch"] and row["threads"] == "2" and row["started"] == made["started"]


def test_seconds_of_all_sittings():
    assert records.seconds_of({"provenance": {"seconds": 2.0}, "training": {"seconds": 50.0}}) == 50.0
    assert records.seconds_of({"provenance": {"seconds": 2.0}, "rows": []}) == 2.0
