"""Plans, measured cost, how it grows, and the page that shows them."""

import dataclasses
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest

from mmcoa.errors import UserError
from mmcoa.report import growth, reproduce, results, sections, style
from mmcoa.store import packed
from mmcoa.study.profiles import load_profile, shipped_profiles

from . import synthetic

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "report_reproduce.ipynb"
SECONDS = {
    "samples": (0.02, 0.1),
    "classes": (0.003, 0.1),
    "steps": (0.05, 0.2),
    "epsilons": (1.0, 0.0),
    "restarts": (0.5, 0.4),
}  # made up
VALUES = {"samples": (20, 40, 80), "classes": (10, 100, 400), "steps": (1, 10, 50), "epsilons": (1, 2), "restarts": (1, 2)}


def write_cost(folder, name="machine", hardware="2 made-up cores"):
    """A made-up results/cost/NAME.csv: seconds lie on straight lines."""
    rows = []
    for what, (slope, fixed) in SECONDS.items():
        for value in reversed(VALUES[what]):
            for attack in (
                ("image", "text", "sequential") if what in ("samples", "classes", "epsilons") else ("sequential", "image")
            ):
                seconds = fixed + slope * value
                row = {
                    "what": what,
                    "value": value,
                    "attack": attack,
                    "seconds": seconds,
                    "median": 1.1 * seconds,
                    "longest": 2 * seconds,
                }
                row |= {
                    "dataset": "openmoji/birds",
                    "n": value if what == "samples" else 40,
                    "classes": value if what == "classes" else 21,
                }
                row |= {"steps": value if what == "steps" else 10, "restarts": value if what == "restarts" else 1}
                row |= {"epsilons": " ".join(("2/255", "4/255")[: value if what == "epsilons" else 1]), "repetitions": 3}
                rows.append(row | {"load": 0.5, "versions": "torch 0.0", "hardware": hardware})
    path = folder / "cost" / f"{name}.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows).to_csv(path, index=False)
    return path


@pytest.fixture
def measured(tmp_path):
    write_cost(tmp_path)
    return growth.cost(tmp_path)


def test_every_shipped_profile_has_a_plan(tmp_path):
    packed.write(tmp_path / "quick", synthetic.study())
    frame = reproduce.plans(tmp_path).set_index("profile")
    assert list(frame.index) == list(shipped_profiles())
    assert (frame[["pretrain", "train", "evaluate"]].sum(axis=1) == frame.cells).all()
    assert frame.loc["quick", "train"] == 2 and frame.loc["quick", "evaluate"] > 45
    assert frame.loc["openmoji", "GB"] == 0 and frame.loc["paper", "GB"] > 100
    own = frame.loc["quick"]
    assert own.done == 78 and own["hours cpu"] == pytest.approx(2 * own.done / 3600)
    assert frame.loc["paper", "done"] == 0 and np.isnan(frame.loc["paper", "hours cpu"])
    assert (frame.purpose.str.len() > 10).all()
    held, done = reproduce.plans_table(frame.reset_index()), reproduce.done_table(frame.reset_index()).set_index("profile")
    assert held.set_index("profile").loc["paper", ["models", "n each", "sweeps"]].tolist() == ["34", "1,000", "0"]
    assert done.loc["paper", ["done here", "hours measured"]].tolist() == ["–", ""]
    assert done.loc["quick", "hours measured"].endswith(" on cpu")


def test_planned_cells_are_those_of_the_finished_study():
    profile = load_profile("openmoji")
    cells = packed.read_cells(Path(__file__).parents[2] / "results" / "openmoji")
    assert reproduce.planned(profile) == {"pretrain": 0} | cells.kind.value_counts().to_dict()


def test_cost_by_kind(study):
    frame = reproduce.cost_by_kind(study).set_index(["kind", "of"])
    names = [of for kind, of in frame.index if kind == "train"], [of for kind, of in frame.index if kind == "evaluate"]
    assert names == (["tecoa", "mmcoa"], ["", "attacks", "epsilon", "steps", "restarts", "budget", "source", "words"])
    main = frame.loc[("evaluate", "")]
    assert (main.cells, main.pictures, main["median"], main.smallest, main.largest) == (12, "24", 2, 2, 2)
    assert main.hours == pytest.approx(12 * 2 / 3600) and frame.share.sum() == pytest.approx(100)
    assert (frame.device == "cpu").all() and set(frame.threads) == {"1"} and set(frame.commits) == {"0123456"}
    table = reproduce.kinds_table(frame.reset_index())
    assert table["kind of cell"].tolist()[:3] == ["fine-tuning, TeCoA", "fine-tuning, MMCoA", "evaluation, main"]
    assert table["minutes in all"].iloc[2] == "0.40"


def test_what_is_done_is_said(study):
    assert reproduce.of_reproduce(study)["plan_done"] == "78 of an unknown number of cells computed"
    openmoji = dataclasses.replace(study, name="openmoji")
    assert reproduce.of_reproduce(openmoji)["plan_done"] == "78 of 897 cells computed"


def test_slopes_of_straight_lines(measured):
    frame = growth.slopes(measured).set_index(["what", "attack"])
    for what, (slope, fixed) in SECONDS.items():
        line = frame.loc[(what, "image")]
        assert (
            line.slope == pytest.approx(slope) and line.fixed == pytest.approx(fixed, abs=1e-9) and line.r2 == pytest.approx(1)
        )
        assert (line.low, line.high, line.points) == (VALUES[what][0], VALUES[what][-1], len(VALUES[what]))
        assert line["first"] == pytest.approx(fixed + slope * line.low)
    table = growth.slopes_table(growth.slopes(measured))
    assert table.iloc[0].tolist() == ["picture", "image", "20", "80", "0.5", "1.7", "0.02", "0.1", "1.00", "3"]
    assert "machine" not in table


def test_what_no_line_describes_is_not_said(measured):
    flat = measured.assign(seconds=np.where(measured.what == "classes", 1.0, measured.seconds))
    lines = growth.slopes(flat)
    assert lines[lines.what == "classes"].r2.isna().all()
    said = growth.says(lines.set_index(["what", "attack"]))
    assert said.startswith("one more picture, 0.02 s (image), 0.02 s (text) and 0.02 s (sequential)") and "class" not in said
    table = growth.slopes_table(lines)
    assert set(table[table["grows with"] == "class"]["R²"]) == {"–"}
    assert growth.slopes(measured[(measured.what == "steps") & (measured.value == 1)]).empty


def test_several_machines(tmp_path):
    write_cost(tmp_path)
    write_cost(tmp_path, "other", "a GPU")
    frame = growth.cost(tmp_path)
    table = growth.slopes_table(growth.slopes(frame))
    assert set(table.machine) == {"2 made-up cores", "a GPU"} and len(table) == 2 * len(
        growth.slopes(frame[frame.hardware == "a GPU"])
    )
    assert growth.of_growth(tmp_path)["growth_machines"] == "2 made-up cores and a GPU"


def test_damaged_and_absent_files(tmp_path, study):
    assert growth.cost(tmp_path).empty and growth.of_growth(tmp_path) == {}
    assert "cost" not in sections.available(study, tmp_path)
    path = write_cost(tmp_path)
    assert "cost" in sections.available(study, tmp_path)
    path.write_text("what,value\nsamples,many\n")
    with pytest.raises(UserError, match="damaged table"):
        growth.cost(tmp_path)


def test_figure(measured, tmp_path):
    figure = growth.curves(measured)
    titles = [axes.get_xlabel() for axes in figure.axes if axes.get_xlabel()]
    assert titles == list(growth.AXES.values())
    first, second = (
        style.save(draw, tmp_path / f"{name}.svg").read_bytes()
        for name, draw in (("a", figure), ("b", growth.curves(measured)))
    )
    assert first == second and len(first) > 5000
    alone = growth.curves(measured[measured.what == "steps"])
    assert sum(axes.get_xlabel() != "" for axes in alone.axes) == 1


@pytest.mark.parametrize("there", [True, False])
def test_the_page_runs_and_shows_every_table(there, folder, tmp_path, monkeypatch):
    """Its cells in this process, with and without results/cost; tables have a caption, a name and a download, and each fact
    exists."""
    made = tmp_path / "results"
    made.mkdir()
    for path in folder.iterdir():
        (made / path.name).symlink_to(path)
    if there:
        write_cost(made)
    keys = sections.available(results.load("synthetic", made), made)
    cells = [cell for cell in nbformat.read(NOTEBOOK, as_version=4).cells if sections.fits(cell, keys)]
    glued, variables = {}, {}
    monkeypatch.setattr("mmcoa.report.facts.glue", glued.update)
    for cell in cells:
        if cell.cell_type == "code":
            exec(compile(cell.source, NOTEBOOK.name, "exec"), variables)
            if "parameters" in cell.metadata.tags:
                variables |= {"name": "synthetic", "results": made, "output": tmp_path}
    text = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    written = sorted(path.name for path in (tmp_path / "tables").glob("*.csv"))
    assert len(written) == (8 if there else 5)
    for name in written:
        assert (f":file: tables/{name}\n" in text) != (f"<tables/{name}>`" in text.replace("\n", " ")) and len(
            pd.read_csv(tmp_path / "tables" / name)
        ) > 0
    assert text.count(":name: tab-") == text.count(":::{csv-table}") == (4 if there else 3)
    assert text.count(":alt: ") == text.count(":::{figure}") == int(there) and ("not measured" in text) != there
    mentioned = {part.partition("`")[0] for part in text.split("{glue:text}`")[1:]}
    assert mentioned <= glued.keys() and all(isinstance(value, str) and value for value in glued.values())
