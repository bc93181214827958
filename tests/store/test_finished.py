"""Records: whole or not there, readable by a person, and honest about what made them."""

import json
from dataclasses import dataclass

import pytest

from mmcoa.errors import UserError
from mmcoa.store import files, finished


@dataclass(frozen=True)
class SomeCell:
    id: str = "cell"
    kind: str = "evaluate"
    entry: str = "none"
    identity: str = "abc"

    @property
    def versions(self):
        return {"evaluation": 1}

    parameters = inputs = versions


def test_a_write_that_fails_leaves_the_old_file_and_no_other(tmp_path):
    path = files.write_text(tmp_path / "record.json", "old")

    def fail(temporary):
        temporary.write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        files.write_atomic(path, fail)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_what_is_written_may_be_read_by_others(tmp_path):
    path, usual = files.write_json(tmp_path / "a.json", {"x": 1}), tmp_path / "b.json"
    usual.write_text("{}")
    assert path.stat().st_mode == usual.stat().st_mode


def test_a_record_is_read_as_it_was_written(tmp_path):
    assert finished.read_record(tmp_path, "cell") is None
    path = finished.write_record(tmp_path, SomeCell(), {"seconds": 2.0}, [{"attack": "image"}], notes=["n"])
    assert path == finished.record_path(tmp_path, "cell")
    record = finished.read_record(tmp_path, "cell")
    assert record["identity"] == "abc" and record["versions"] == {"evaluation": 1} and record["notes"] == ["n"]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"identity": "x"}'])
def test_a_damaged_record_is_named(tmp_path, text):
    path = tmp_path / "cells" / "cell.json"
    path.parent.mkdir()
    path.write_text(text)
    with pytest.raises(UserError, match=r"damaged record .*cell\.json.*run the profile again"):
        finished.read_record(tmp_path, "cell")


def test_outcomes_that_cannot_be_read_are_named(tmp_path):
    with pytest.raises(UserError, match=r"no readable outcomes .*cell\.parquet; remove .*cell\.json"):
        finished.read_outcomes(tmp_path, "cell")


def test_provenance_works_without_git(monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("MMCOA_COMMIT", raising=False)
    made = finished.provenance(started=0, seconds=1.234, seed=3, device="cpu", threads=2)
    assert made["git_commit"] is None and made["git_dirty"] is None
    assert made["started"] == "1970-01-01T00:00:00+00:00" and made["seconds"] == 1.23
    assert {"python", "torch", "open_clip", "mmcoa"} == made["versions"].keys() and all(made["versions"].values())


def test_a_commit_may_be_told_where_there_is_no_repository(monkeypatch):
    monkeypatch.setenv("MMCOA_COMMIT", "abc123")
    made = finished.provenance(started=0, seconds=1, seed=0, device="cuda:0", threads=1, hardware="Some GPU")
    assert made["git_commit"] == "abc123" and made["git_dirty"] is None and made["hardware"] == "Some GPU"


def test_a_record_is_a_line_an_item():
    record = {"cell": "a", "rows": [{"x": 1}, {"x": [2, 3]}], "changes": [], "made": {"by": "me"}}
    text = finished.lined(record)
    assert json.loads(text) == record
    lines = [
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
    assert [line.strip() for line in text.splitlines()] == lines


def test_seconds_of_all_sittings():
    assert finished.seconds_of({"provenance": {"seconds": 2.0}, "training": {"seconds": 50.0}}) == 50.0
    assert finished.seconds_of({"provenance": {"seconds": 2.0}, "rows": []}) == 2.0
