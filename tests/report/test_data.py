"""Tables of the data sets, and the page that shows them."""

from pathlib import Path
from types import SimpleNamespace

import nbformat
import pandas as pd
import pytest

from mmcoa.datasets.records import Ensemble, PromptRule, Record, paper_names, records
from mmcoa.report import data

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "report_data.ipynb"


def record(name, **changes):
    about = dict(
        title=name, reader="imagefolder", classes=10, splits={"train": 1200, "test": 30}, licence="free", source="https://x.org"
    )
    return Record(**(about | dict(name=name, prompt=PromptRule(template="a {}"), names="cifar10") | changes))


def small():
    """Four data sets: plain, without a split, two of a family with one licence."""
    return {
        "plain": record("plain", size=32, prompt=PromptRule(template="a {}", lower=False, keep="-", rewrite=[("^x$", "")])),
        "hashed": record("hashed", splits={"train": None, "test": None}, total=1000, reference_split="all samples (no split)"),
        "set/a": record("set/a"),
        "set/b": record("set/b", openclip=Ensemble(templates="cifar10")),
    }


def test_every_data_set_is_a_row():
    table = data.table()
    assert (
        list(table["data set"]) == list(records()) and not table[["title", "classes", "licence", "source"]].isna().any().any()
    )
    assert set(table[table.family == "the paper's"]["data set"]) == set(paper_names())
    by_name = table.set_index("data set")
    assert by_name.loc["cifar10", ["train", "test", "pixels"]].tolist() == [50000, 10000, 32]
    assert pd.isna(by_name.loc["cifar10", "val"]) and by_name.loc["caltech101", "all"] == 8677


def test_overview():
    rows = data.overview(small()).set_index("data set")
    assert rows.loc["plain"].tolist() == ["10", "1,200", "–", "30", "32", "`a {}`", "case kept, `-` kept, `^x$` → nothing"]
    assert rows.loc["set/a", "class names"] == ""  # lower case goes without saying
    assert rows.loc["hashed", ["train", "test", "pixels"]].tolist() == ["80 % of 1,000", "20 % of 1,000", "vary"]


def test_splits_that_differ():
    rows = data.splits(small())
    assert rows.values.tolist() == [["hashed", "all samples (no split)", "test: 20 % by a hash of the path"]]
    everything = set(data.splits()["data set"])
    assert {"caltech101", "caltech256", "sun397", "eurosat"} <= everything and "cifar10" not in everything
    assert data.splits({}).empty


def test_provenance_is_complete_and_joins_a_family():
    rows = data.provenance(small())
    assert rows["data set"].tolist() == ["plain", "hashed", "set/a, set/b"] and set(rows.source) == {"<https://x.org>"}
    everything = data.provenance()
    assert everything.licence.str.len().min() > 0 and "openmoji/… (17 sets)" in set(everything["data set"])


def test_duplicates_are_found_with_their_labels():
    rows = data.duplicates()
    cars = rows[rows["data set"] == "cars"]
    assert set(cars.preset) == {"reference"} and "Audi S4 Sedan 2012 (22), Audi S4 Sedan 2007 (23)" in set(cars.classes)
    assert "`This is a photo of a crane`" in set(rows[rows["data set"] == "imagenet"].prompt)
    one = data.duplicates({"x": record("x", prompt=PromptRule(template="a {}", rewrite=[("^(cat|dog)$", "pet")]))})
    assert one.values.tolist() == [["x", "reference", "`a pet`", "cat (3), dog (5)"]]
    assert data.duplicates(small()).empty


def test_presets():
    assert data.presets(small()).values.tolist() == [["set/b", "`a {}`", 18, "`a photo of a {}.`", "none"]]
    rows = data.presets().set_index("data set")
    assert set(paper_names()) <= set(rows.index) and rows.loc["imagenet", "openclip templates"] == 80
    assert rows.loc["pcam", "other class names"] == "2 of 2"


def test_derived_classes_have_names():
    rows = data.derived()
    shift = rows[rows["data set"] == "photos/cifar10-shift"].set_index("class")
    assert shift.loc["cat", "they are"] == "tiger cat, Siamese cat" and shift.loc["deer", "classes there"] == 0
    assert len(shift) == 10 and not rows["they are"].str.contains(r"n\d{8}").any()


def test_roles_are_rows_of_families_that_agree():
    rows = data.roles().set_index("data sets")
    by_set = {name: row for names, row in rows.iterrows() for name in names.replace(" and ", ", ").split(", ")}
    assert set(by_set) == set(records())
    assert by_set["openmoji/birds"]["openmoji-clip"] == "pre-training pictures"
    assert by_set["photos/pets3"]["lite-clip"] == "unseen" and by_set["photos/imagenette"]["lite-clip"] == "pre-training names"


def test_twins_say_where_training_and_test_pictures_meet():
    rows = data.twins().set_index(["pictures of", "are also in"])
    pacs = rows.loc["photos/caltech101, test", "photos/pacs-photo, train"]
    assert pacs["train meets test"] == "yes" and int(pacs["pictures"]) > 40
    assert rows.loc[("photos/caltech101, train", "photos/pacs-photo, train"), "train meets test"] == "no"


@pytest.fixture
def study():
    """What the page needs of one."""
    rows = pd.DataFrame({"dataset": ["openmoji/birds", "cifar10"], "trained_on": ["", "openmoji/tools"]})
    return SimpleNamespace(name="tiny", rows=rows)


def test_facts_and_what_a_study_uses(study):
    facts = data.facts(small()) | data.used(study)
    assert facts["data_sets"] == "4" and facts["data_hashed"] == "hashed" and facts["data_shared_says"] == "none"
    assert all(isinstance(text, str) and text for text in data.facts().values())
    assert (facts["profile"], facts["data_used"], facts["data_trained"]) == (
        "tiny",
        "openmoji/birds and cifar10",
        "openmoji/tools",
    )


def test_the_page_runs_and_shows_every_table(study, tmp_path, monkeypatch):
    """Its cells in this process; each table that it writes has a caption, a name and a download, and each fact exists."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    glued = {}
    monkeypatch.setattr("mmcoa.report.facts.glue", glued.update)
    monkeypatch.setattr("mmcoa.report.results.load", lambda name, results: study)
    variables = {}
    for cell in notebook.cells:
        if cell.cell_type == "code":
            exec(compile(cell.source, "report_data.ipynb", "exec"), variables)
            if "parameters" in cell.metadata.tags:
                variables |= {"output": tmp_path}
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    written = sorted(path.name for path in (tmp_path / "tables").glob("*.csv"))
    assert written
    for name in written:
        assert (f"<tables/{name}>`" if name == "datasets_all.csv" else f":file: tables/{name}\n") in text
        assert len(pd.read_csv(tmp_path / "tables" / name)) > 0
    assert text.count(":name: tab-") == text.count(":::{csv-table}") == len(written) - 1
    mentioned = {part.partition("`")[0] for part in text.split("{glue:text}`")[1:]}
    assert mentioned <= glued.keys()
