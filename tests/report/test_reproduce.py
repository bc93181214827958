"""Cost, versions and studies of the page "Reproduce", on made-up cells."""

from types import SimpleNamespace

import pandas as pd
import pytest

from mmcoa.report import reproduce
from mmcoa.study.profiles import shipped_profiles

SAME = {"python": "3.11", "torch": "2.0", "open_clip": "3.0", "mmcoa": "0.2", "device": "cpu", "threads": 1, "hardware": ""}


def cell(kind, entry, sweep, seconds, commit="0123456789", dirty=False):
    return {"kind": kind, "entry": entry, "sweep": sweep, "seconds": seconds, "commit": commit, "dirty": dirty} | SAME


@pytest.fixture
def study():
    cells = [
        cell("evaluate", "none", "", 60),
        cell("train", "mmcoa", "", 1200),
        cell("train", "tecoa", "", 600, dirty=True),
        cell("evaluate", "tecoa", "", 180, commit="abcdefabcdef"),
        cell("evaluate", "tecoa", "epsilon", 360),
        cell("pretrain", "", "", 1200),
    ]
    return SimpleNamespace(cells=pd.DataFrame(cells))


def test_cost_by_kind(study):
    shown, numbers = reproduce.cost(study)
    kinds = ["pre-training", "fine-tuning, TeCoA", "fine-tuning, MMCoA", "evaluation, main tables", "evaluation, epsilon"]
    assert shown.what.tolist() == kinds and numbers.cells.tolist() == [1, 1, 1, 2, 1]
    main = numbers.iloc[3]
    assert (main["median"], main.minutes) == (2, 4) and numbers.share.sum() == pytest.approx(100)
    assert shown.iloc[3].tolist() == ["evaluation, main tables", "2", "2.0", "4.0", "7"]
    assert reproduce.hours(study) == "1.0"


def test_versions_are_counted_and_a_changed_tree_is_said(study):
    rows = reproduce.versions(study)[1].set_index(["what", "is"]).cells
    assert rows["torch", "2.0"] == 6 and rows["device", "cpu, 1 threads, not recorded"] == 6
    assert rows["commit", "0123456"] == 4 and rows["commit", "abcdefa"] == 1 and rows["commit", "0123456, changed"] == 1


def test_every_shipped_study_says_what_it_is_for():
    shown, numbers = reproduce.profiles()
    assert shown.study.tolist() == list(shipped_profiles()) and (shown["what for"].str.len() > 10).all()
    assert numbers.set_index("study").loc["main", "base model"] == "lite-clip"
