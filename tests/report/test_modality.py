import dataclasses

import pandas as pd
import pytest

from mmcoa.report import modality, style, tables, tasks, words
from mmcoa.report.modality import EITHER, IMAGE, KINDS, STANDS, TEXT, TOGETHER, WRONG
from mmcoa.report.names import MACRO

# clean, image, text, sequential -> kind
CASES = [
    (1, 1, 1, 1, STANDS), (1, 1, 1, 0, TOGETHER), (1, 0, 0, 0, EITHER), (1, 0, 0, 1, EITHER), (1, 1, 0, 0, TEXT),
    (1, 1, 0, 1, TEXT), (1, 0, 1, 0, IMAGE), (0, 0, 0, 0, WRONG),
]  # fmt: skip


@pytest.fixture
def made(plain):
    """The undefended model on eight pictures of one data set, one of each case."""
    rows = plain.rows[(plain.rows.method == "none") & (plain.rows.dataset == "openmoji/birds")]
    frame = pd.DataFrame(
        {
            "model": "none",
            "method": "none",
            "dataset": "openmoji/birds",
            "sample_id": range(8),
            "label": [0, 0, 0, 0, 1, 1, 1, 1],
        }
    )
    for place, attack in enumerate(("clean", "image", "text", "sequential")):
        frame[f"{attack}_correct"] = [bool(case[place]) for case in CASES]
    return dataclasses.replace(plain, rows=rows, outcomes=frame, sweeps={})


def test_every_picture_has_one_kind(made):
    found = modality.kinds(made).sort_values("sample_id")
    assert list(found[list(KINDS)].idxmax(axis=1)) == [case[-1] for case in CASES]
    assert found[list(KINDS)].sum(axis=1).eq(1).all()


def test_interaction_is_beyond_the_union(made):
    (row,) = modality.interaction(made).itertuples()
    assert (row.method, row.attack, row.n) == ("none", "sequential", 8)
    assert row.points == pytest.approx(100 * (2 - 3) / 8)  # survive both singles: 2; survive the combined attack: 3
    assert row.low <= row.points <= row.high


def test_shares_add_up_and_reach_the_tables(rich, tmp_path):
    study = tasks.everywhere(rich)
    frame = modality.shares(study)
    assert frame.groupby(["method", "dataset"]).share.sum().round(6).eq(100).all()
    means = frame[frame.dataset == MACRO].set_index(["method", "kind"]).share
    clean = tables.macro(study).set_index(["method", "attack"]).accuracy
    for method in study.methods:
        assert means[method, WRONG] == pytest.approx(100 - clean[method, "clean"])
        assert means[method, TEXT] + means[method, EITHER] + means[method, WRONG] == pytest.approx(100 - clean[method, "text"])
    assert list(modality.methods_table(frame).columns) == ["method", "n", *KINDS[::-1]]
    assert len(modality.sets_table(frame)) == 3
    assert style.save(modality.figure(frame), tmp_path / "a.svg").stat().st_size > 5000


def test_classes_that_lose(made):
    frame = modality.class_losses(made).set_index("label")
    assert frame.loc[0, ["right", "lost", "kind"]].tolist() == [4, 2, "loses some"] and frame.loc[
        1, ["right", "lost"]
    ].tolist() == [3, 2]
    table = modality.classes_table(modality.class_losses(made))
    assert table["n classes"].tolist() == ["2"] and table["loses some (%)"].iloc[0].startswith("100.0")


def test_words_by_method_and_favourites(rich):
    study = tasks.everywhere(rich)
    table = words.methods_table(study).set_index("method")
    assert list(table.index) == ["undefended", "TeCoA", "image only", "image only (equal compute)", "MMCoA"]
    assert float(table.loc["MMCoA", "template word (%)"]) + float(table.loc["MMCoA", "class name (%)"]) == pytest.approx(100)
    first = words.favourites(study).iloc[0]
    prompts = words.text_changes(study)
    assert first.word == "photo" and first["part of"] == "template" and first["has it (n)"] == str(len(prompts))
    assert first["mostly by"] == f"snapshot ({first.replaced})"
