"""Published numbers: the files that ship, what a file may not hold, and the page that shows them."""

import re
from pathlib import Path

import pandas as pd
import pytest

from mmcoa.errors import UserError
from mmcoa.report import published, sections

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "notebooks" / "report_published.ipynb"
HEADER = ",".join(published.PAPER)
ROW = "2,1,out_of_distribution,Tiny-ImageNet,all,MMCoA,cifar10,image,1/255,50.5,"
UNDEFENDED = "2,2,in_distribution,–,–,CLIP,cifar10,clean,–,88,read off\nthe text".replace("\n", " ")


@pytest.fixture
def paper_csv(tmp_path):
    """Write a file with these lines below the paper's header, and return its path."""

    def write(*rows, header=HEADER):
        path = tmp_path / "paper.csv"
        path.write_text("\n".join([header, *rows]) + "\n", encoding="utf8")
        return path

    return write


def test_the_files_lie_in_the_package():  # which ships all that git keeps in it: tests/test_wheel.py
    assert {path.name for path in published.FOLDER.glob("*.csv")} == {"others.csv", "retrieval.csv", "paper.csv"}


def test_others_say_source_and_protocol_on_every_row():
    frame = published.others()
    assert list(frame.columns) == list(published.OTHERS) and len(frame) == 30
    known = set(re.findall(r"@\w+\{(\w+),", (ROOT / "book" / "references.bib").read_text(encoding="utf8")))
    assert set(frame.cite) | set(published.retrieval().cite) <= known
    assert (frame[["source", "protocol", "trained_on", "epsilon"]] != "").all(axis=None)
    without = frame[frame.robust.isna()]
    assert list(without.model) == ["PMG-AFT"] and "+4.99" in without.note.iloc[0]
    tecoa = frame[(frame.model.str.startswith("TeCoA")) & (frame.epsilon == "1/255")].set_index(["trained_on", "model"]).robust
    assert tecoa["ImageNet", "TeCoA, fine-tuning"] == 38.18 and tecoa["Tiny-ImageNet", "TeCoA"] == 28.06
    assert tecoa["ImageNet, at 1/255", "TeCoA1"] == 38.8


def test_the_papers_file_is_empty_until_someone_fills_it(paper_csv):
    assert published.paper().empty and list(published.paper().columns) == list(published.PAPER)
    frame = published.paper(paper_csv(ROW, UNDEFENDED))
    assert frame.accuracy.tolist() == [50.5, 88.0] and frame.note.tolist() == ["", "read off the text"]
    wide = published.paper_table(frame)
    assert wide.loc[0, "image 1/255"] == "50.5" and wide.loc[1, "clean"] == "88" and wide.loc[1, "image 1/255"] == ""
    assert wide.loc[0, "trained on"] == "Tiny-ImageNet" and wide.loc[0, "task"] == "out of distribution"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("50.5", "101"), "line 3: accuracy is in percent, 0 to 100, got 101"),
        (("50.5", "-0.1"), "line 3: accuracy is in percent"),
        (("50.5", "nan"), "line 3: accuracy is in percent"),
        (("50.5", "half"), "line 3: accuracy is a number in percent, got 'half'"),
        (("50.5", "–"), "line 3: accuracy is a number"),
        (("50.5", ""), "line 3: no accuracy"),
        (("MMCoA", " "), "line 3: no model; write –"),
        (("1/255", "1/0"), "line 3: epsilon '1/0' is not a number"),
        (("1/255", "2"), "line 3: epsilon 2 is not in"),
        (("out_of_distribution", "ood"), "line 3: unknown task 'ood'"),
        (("MMCoA", "MMCoA, ours"), "line 3: 12 values, but 11 columns"),
    ],
)
def test_a_bad_value_names_file_and_line(paper_csv, change, said):
    path = paper_csv(UNDEFENDED, ROW.replace(*change))
    with pytest.raises(UserError, match=re.escape(f"paper.csv, {said}")):
        published.paper(path)


def test_headers_and_repeated_numbers(paper_csv):
    with pytest.raises(UserError, match=r"line 1: unknown column 'acuracy'; nearest: accuracy"):
        published.paper(paper_csv(header=HEADER.replace("accuracy", "acuracy")))
    with pytest.raises(UserError, match="line 1: column 'shots' is missing"):
        published.paper(paper_csv(header=HEADER.replace("shots,", "")))
    with pytest.raises(UserError, match="line 1: column 'table' stands there twice"):
        published.paper(paper_csv(header=f"table,{HEADER}"))
    with pytest.raises(UserError, match="line 3: the same number as line 2"):
        published.paper(paper_csv(ROW, ROW.replace("50.5", "60")))
    with pytest.raises(UserError, match="cannot be read"):
        published.paper(paper_csv().parent / "nowhere.csv")


def test_tables_keep_the_places_of_their_source():
    frame = published.others()
    small = published.others_table(frame, "ViT-B/32 (OpenAI)")
    assert list(small.columns[4:7]) == ["1/255", "2/255", "4/255"] and len(small) == 17
    rows = small.set_index(["source", "model"])
    assert rows.loc[("{cite:t}`yu2024tgazsr`", "CLIP"), "1/255"] == "4.90"
    assert rows.loc[("{cite:t}`schlarmann2024fare`", "FARE1"), "clean":"4/255"].tolist() == ["60.5", "38.0", "20.1", "2.9"]
    assert rows.loc[("{cite:t}`wang2024pmgaft`", "PMG-AFT"), "clean"] == "–"
    assert len(published.others_table(frame, "ViT-L/14 (OpenAI)")) == 5
    with pytest.raises(UserError, match="0 rows for TeCoA, fine-tuning"):
        published.facts(frame[frame.cite != "mao2023tecoa"])


@pytest.mark.parametrize("filled", [False, True])
def test_the_page_runs_with_and_without_the_papers_tables(filled, paper_csv, tmp_path, monkeypatch):
    """Its cells in this process; each table has a caption and a name, each fact exists, and one section is for the other."""
    file = paper_csv(ROW, UNDEFENDED) if filled else published.FOLDER / "paper.csv"
    read = published.paper
    monkeypatch.setattr(published, "paper", lambda: read(file))
    keys = {"paper-tables"} if filled else set()
    glued, variables = {}, {}
    monkeypatch.setattr("mmcoa.report.facts.glue", glued.update)
    cells = sections.fitting(NOTEBOOK, keys).cells
    for cell in cells:
        if cell.cell_type == "code":
            exec(compile(cell.source, NOTEBOOK.name, "exec"), variables)
            if "parameters" in cell.metadata.tags:
                variables |= {"output": tmp_path}
    text = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    assert ("not at hand here" in text) != filled and ("as the paper prints it" in text) == filled
    for path in sorted((tmp_path / "tables").glob("*.csv")):
        assert f"tables/{path.name}" in text and len(pd.read_csv(path)) > 0, path.name
    assert text.count(":name: tab-published-") == text.count(":::{csv-table}") == 4
    assert {part.partition("`")[0] for part in text.split("{glue:text}`")[1:]} <= glued.keys()
    assert not re.search(r"\d{2}\.\d", text), "numbers come from the files"


def test_the_key_says_whether_the_papers_tables_are_there(paper_csv, plain, bare, monkeypatch):
    assert "paper-tables" not in sections.available(plain, bare)
    full = published.paper(paper_csv(ROW))
    monkeypatch.setattr(published, "paper", lambda: full)
    assert "paper-tables" in sections.available(plain, bare)
