"""What the cells of pages call; a page that runs is in test_build.py."""

import json
from pathlib import Path

import numpy as np
import pytest

from mmcoa.errors import UserError
from mmcoa.report import book


@pytest.fixture(autouse=True)
def in_a_book(tmp_path, monkeypatch):
    """A page's working folder."""
    (tmp_path / "book").mkdir()
    monkeypatch.chdir(tmp_path / "book")
    return tmp_path


def test_numbers_are_written_for_readers_and_kept_as_they_are(monkeypatch):
    glued = {}
    monkeypatch.setattr("myst_nb.glue", lambda name, text, display: glued.update({name: text}))
    book.say("impact", level=np.float64(61.31), count=np.int64(1234), word="TeCoA", less=-0.42, none=-0.01)
    book.say("impact", gain=book.points(3.21), loss=book.points(np.float64(-0.42)), nothing=book.points(0.01))
    book.say("impact", share=book.percent(61))
    texts = ["61.3", "1,234", "TeCoA", "−0.4", "0.0", "+3.2", "−0.4", "0.0", "61.0\u00a0%"]
    assert list(glued.values()) == texts and next(iter(glued)) == "impact_level"
    kept = json.loads(Path("_build/numbers/impact.json").read_text(encoding="utf8"))
    assert [each["text"] for each in kept.values()] == texts
    values = [61.31, 1234, "TeCoA", -0.42, -0.01, 3.21, -0.42, 0.01, 61]
    assert [each["value"] for each in kept.values()] == values


def test_results_are_the_nearest_above_or_where_the_environment_says(in_a_book, folder, monkeypatch):
    with pytest.raises(UserError, match=r"no folder .*results; say where results are: export MMCOA_RESULTS=FOLDER"):
        book.results_folder()
    (in_a_book / "results").mkdir()
    assert book.results_folder() == in_a_book / "results"
    monkeypatch.setenv(book.RESULTS, str(folder))
    assert book.study("plain").name == "plain" and book.study("plain") is book.study("plain")
    monkeypatch.setenv(book.STUDY, "plain")
    assert book.study() is book.study("plain")
