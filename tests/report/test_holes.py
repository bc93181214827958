"""A study with holes: what is missing is named and marked, and no number is computed over less than it says."""

import re
import shutil
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest

from mmcoa.cli.main import main
from mmcoa.errors import UserError
from mmcoa.report import (
    claim_pairs,
    claim_report,
    claims,
    explorer,
    facts,
    few_shot,
    holes,
    in_distribution,
    modality,
    names,
    results,
    sections,
    strength,
    sweeps,
    tables,
    tasks,
    training,
    words,
)
from mmcoa.report.holes import MISSING

from . import synthetic

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("report_*.ipynb"))
GONE = (  # of one seed on one data set; of the undefended model; a whole point of a sweep; one data set of another
    "mmcoa-seed1__openmoji-tools",
    "none__openmoji-birds__attacks",
    *(f"none__openmoji-{name}__epsilon-4-255" for name in ("birds", "land-vehicles", "tools")),
    "none__openmoji-tools__source-neighbours",
)


@pytest.fixture
def remove(synthetic_profile, tmp_path):
    """A function that removes records and returns (profile, results folder)."""
    profile, folder = synthetic_profile
    shutil.copytree(folder, tmp_path / "results")

    def away(*cells):
        for cell in cells:
            (tmp_path / "results" / "synthetic" / "records" / f"{cell}.json").unlink()
        return profile, tmp_path / "results"

    return away


def test_holes_are_listed(remove):
    profile, folder = remove(*GONE)
    study = results.load(profile, folder, holes=True)
    assert {hole.cell for hole in study.holes} == set(GONE)
    hole = next(hole for hole in study.holes if hole.cell == GONE[0])
    assert (hole.model_id, hole.method, hole.dataset, hole.point, hole.why) == (
        "mmcoa-seed1",
        "mmcoa",
        "openmoji/tools",
        ("", ""),
        "missing",
    )
    assert study.lacking("mmcoa") == ["openmoji/tools"] and study.lacking("none") == []
    assert study.sweep("attacks")[""].lacking("none") == ["openmoji/birds"] and study.sweep("steps")["5"].holes == ()
    assert not (study.rows.method.eq("mmcoa") & study.rows.dataset.eq("openmoji/tools")).any(), (
        "the other seed alone is no result either"
    )
    with pytest.raises(
        UserError, match=rf"no result for cell '\S+' and {len(GONE) - 1} more \('none__\S+, .*\.\.\.\): .*; run: mmcoa run"
    ):
        results.load(profile, folder)


def test_a_whole_study_has_none(synthetic_profile, study):
    again = results.load(*synthetic_profile, holes=True)
    assert again.holes == () and again.own_holes == [] and again.rows.equals(study.rows)


def test_stale_is_a_hole_and_a_model_needs_its_training(remove):
    profile, folder = remove("train__tecoa-seed0")
    record = folder / "synthetic" / "records" / "none__openmoji-tools.json"
    record.write_text(re.sub(r'"hash": "\w+"', '"hash": "0"', record.read_text(), count=1))
    study = results.load(profile, folder, holes=True)
    why = {hole.cell: hole.why for hole in study.holes}
    assert why["train__tecoa-seed0"] == "missing" and why["none__openmoji-tools"] == "stale"
    assert why["tecoa-seed0__openmoji-birds"] == "its model's training is missing" and study.untrained() == ["tecoa"]
    table = tables.methods_table(study).set_index("method")
    assert (
        table.loc["TeCoA", ["seeds", "n", "clean"]].tolist() == [MISSING, "0", MISSING]
        and table.loc["TeCoA", "trained on"] == "birds"
    )
    made = training.cost_table(study).set_index("method")
    assert made.loc["TeCoA"].eq(MISSING).all() and MISSING not in made.loc["MMCoA"].tolist()


def test_nothing_of_the_undefended_model_is_no_report(remove):
    with pytest.raises(UserError, match="undefended model has no result.*mmcoa run"):
        results.load(*remove(*(f"none__openmoji-{name}" for name in ("birds", "land-vehicles", "tools"))), holes=True)


def test_no_mean_over_fewer_data_sets(remove, study):
    holed = results.load(*remove("mmcoa-seed1__openmoji-tools"), holes=True)
    means = tables.macro(holed).set_index(["method", "attack"])
    assert means.loc["mmcoa", ["accuracy", "low", "high"]].isna().all(axis=None) and (means.loc["mmcoa"].n == 48).all()
    whole = tables.macro(study).set_index(["method", "attack"])
    assert means.loc[["none", "tecoa"]].equals(whole.loc[["none", "tecoa"]])
    assert tables.gains_table(holed).set_index("method").loc["MMCoA", "text"] == MISSING
    table = tables.dataset_table(holed)
    rows = {(row["data set"], row["method"]): row for row in table.to_dict("records")}
    assert len(rows) == 9 and rows["tools", "MMCoA"]["n"] == rows["tools", "MMCoA"]["clean"] == MISSING
    assert [row for key, row in rows.items() if key != ("tools", "MMCoA")] == [
        row for row in tables.dataset_table(study).to_dict("records") if (row["data set"], row["method"]) != ("tools", "MMCoA")
    ]
    assert list(training.tradeoff(holed).method) == ["none", "tecoa"]
    said = facts.of_finetuning(holed)
    assert f"MMCoA {MISSING}" in said["clean_price"] and "MMCoA," not in said["best"] and "TeCoA," in said["best"]


def test_the_undefended_model_with_a_hole(remove, study):
    holed = results.load(*remove("none__openmoji-tools"), holes=True)
    table = tables.impact_table(holed).set_index("data set")
    assert table.loc["tools", ["n", "clean", "text"]].eq(MISSING).all() and table.loc["tools", "classes"] == "25"
    assert table.loc[names.MACRO, ["clean", "text"]].eq(MISSING).all() and table.loc[names.MACRO, "n"] == "48"
    assert table.loc["birds"].equals(tables.impact_table(study).set_index("data set").loc["birds"])
    assert tables.gains_table(holed).drop(columns=["method", "n"]).eq(MISSING).all(axis=None)
    said = facts.of_impact(holed)
    assert said["macro_text"] == said["short_clean"] == MISSING
    shares, beyond = modality.shares(holed), modality.interaction(holed)
    said = modality.facts(holed, shares, beyond)
    assert (
        said["union"] == said["kind_text"] == said["classes_all"] == said["template_share"] == MISSING
        and MISSING not in said["kind_by_text"]
    )
    kinds = modality.sets_table(shares).set_index("data set")
    assert kinds.loc["tools"].eq(MISSING).all() and kinds.loc["birds"].equals(
        modality.sets_table(modality.shares(study)).set_index("data set").loc["birds"]
    )
    assert words.favourites(holed).eq(MISSING).all(axis=None) and not words.favourites(study).eq(MISSING).any(axis=None)


def test_in_distribution(rich_profile, rich, tmp_path):
    """A defence with a hole is marked in its rows; a few-shot model with one makes the curve about what all points have."""
    profile, folder = rich_profile
    shutil.copytree(folder, tmp_path / "results")
    for cell in ("mmcoa-in-on-openmoji-tools-seed1__openmoji-tools", "tecoa-4shot-on-openmoji-birds-seed0__openmoji-birds"):
        (tmp_path / "results" / "rich" / "records" / f"{cell}.json").unlink()
    holed = results.load(profile, tmp_path / "results", holes=True)
    assert {hole.shots for hole in holed.holes} == {None, 4}
    part = in_distribution.full(holed)
    assert part.lacking("mmcoa") == ["openmoji/tools"] and part.lacking("tecoa") == []
    whole, both = (in_distribution.common(in_distribution.full(each)) for each in (rich, holed))
    for make in (in_distribution.methods_table, in_distribution.gains_table):
        before, after = (make(each).set_index("method") for each in (whole, both))
        assert after.loc["MMCoA"].drop("n").eq(MISSING).all() and after.loc["TeCoA"].equals(before.loc["TeCoA"])
    curve = few_shot.curve(holed)
    assert [(d, s) for d, s in curve[["defense", "shots"]].drop_duplicates().itertuples(index=False) if d == "tecoa"] == [
        ("tecoa", 1),
        ("tecoa", np.inf),
    ]
    assert not curve.accuracy.isna().any() and set(tasks.everywhere(holed).methods) == set(tasks.everywhere(rich).methods)
    assert not [part for judged in claims.judge(holed, resamples=50) for part in judged.parts if "4shot" in (part.why or "")]


def test_the_explorer_leaves_out_and_says_so(remove, study):
    holed = results.load(*remove(*GONE), holes=True)
    data, whole = explorer.data(holed), explorer.data(study)
    assert set(data["missing"]) == set(GONE) and whole["missing"] == []
    mmcoa, tools = (
        data[key].index(found)
        for key, name in (("methods", "mmcoa"), ("datasets", "openmoji/tools"))
        for found in data[key]
        if found[0] == name
    )
    main = data["evaluations"][0]
    assert tools not in [place for place, _ in main["tasks"][mmcoa]] and tools not in main["numbers"][mmcoa]["mean"]
    assert len(data["evaluations"]) == len(whole["evaluations"]) - 1  # one point of a sweep has no result


def test_points_of_a_sweep(remove):
    study = results.load(*remove(*GONE), holes=True)
    epsilon = sweeps.curve_table(study, "epsilon").set_index("epsilon")
    assert epsilon.loc["4/255"].tolist() == ["0", MISSING, MISSING] and MISSING not in epsilon.drop("4/255").to_numpy()
    sources = sweeps.texts_table(study, "source", reference="table:eval").set_index("candidate source")
    assert (
        sources.loc["nearest tokens"].tolist() == ["24", MISSING, MISSING, MISSING]
        and MISSING not in sources.drop("nearest tokens").to_numpy()
    )
    assert sweeps.attacks_table(study).accuracy.eq(MISSING).all()
    gaps = strength.gaps_table(strength.gaps(study))
    assert gaps[gaps.model == "undefended"].drop(columns=["attack", "against", "model"]).eq(MISSING).all(axis=None)
    assert not gaps[gaps.model == "MMCoA"].eq(MISSING).any(axis=None)


def test_a_claim_that_needs_a_missing_cell_is_not_judged(remove, study):
    holed = results.load(*remove("mmcoa-seed1__openmoji-tools"), holes=True)
    refused = []
    for before, after in zip(claims.judge(study, resamples=50), claims.judge(holed, resamples=50), strict=True):
        for whole, part in zip(before.parts, after.parts, strict=True):
            if whole.measured and not part.measured:
                assert part.verdict == "not judged" and part.why == "no result of cell mmcoa-seed1__openmoji-tools"
                refused.append((before.claim.key, part.name))
            elif whole.measured:
                assert (part.why, str(part.points), part.n) == (whole.why, str(whole.points), whole.n), part.name
    kept = {key: [name for claim, name in refused if claim == key] for key in ("C1", "C2", "C3", "C4", "C5")}
    assert (
        kept["C1"] == kept["C2"] == [] and all("out of distribution" in name for name in kept["C3"]) and len(kept["C3"]) == 3
    )  # the study has no attack independent
    assert all("TeCoA" in name for name in kept["C4"]) and len(kept["C4"]) == 3  # nor a model image only
    assert kept["C5"] == ["all defences, out of distribution", "out of minus in distribution", "MMCoA"]


def test_who_enters_is_marked_where_a_cell_is_missing(remove, study):
    gone = results.load(*remove("mmcoa-seed1__openmoji-tools"), holes=True)
    whole, holed = (claim_report.entering_table(claim_pairs.find(each)).set_index("data set") for each in (study, gone))
    assert holed.loc["tools", "MMCoA"] == MISSING != whole.loc["tools", "MMCoA"]
    assert (holed == whole).sum().sum() == whole.size - 1


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_page_runs_with_holes_and_prints_no_nan(path, remove, tmp_path, monkeypatch):
    """Its cells in this process: each fact that the page names exists, and nothing that it shows is blank or nan where something is missing."""
    profile, folder = remove(*GONE)
    synthetic.write_training(profile, folder)
    (folder / "synthetic" / "records" / "train__tecoa-seed0.json").unlink()
    study = results.load(profile, folder, holes=True)
    content = sections.fitting(path, sections.available(study, folder, profile, holes=True) | {"one"})
    assert content is not None, "the page is there"
    cells = content.cells
    if path.stem == "report_summary":  # shows a table of another page
        tables.write(claim_report.verdict_table(claims.judge(study, resamples=50)), tmp_path / "tables" / "claims.csv")
    glued, variables = {}, {}
    monkeypatch.setattr("mmcoa.report.facts.glue", glued.update)
    for cell in cells:
        if cell.cell_type == "code":
            exec(compile(cell.source, path.name, "exec"), variables)
            if "parameters" in cell.metadata.tags:
                assert ("holes" in variables) == any(
                    re.search(r"(stored|summary)\.load\(", one.source) for one in nbformat.read(path, as_version=4).cells
                )
                told = [{"profile": profile, "title": "", "folder": tmp_path}]
                variables |= {
                    "profile": profile,
                    "results": folder,
                    "output": tmp_path,
                    "holes": True,
                    "variant": profile,
                    "studies": told,
                }
    text = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    assert {part.partition("`")[0] for part in text.split("{glue:text}`")[1:]} <= glued.keys()
    assert all(value and not re.search(r"\bnan\b", value) for value in glued.values())
    for name in re.findall(r":file: (\S+)", text):
        shown = (tmp_path / name).read_text(encoding="utf8")
        assert not re.search(r"\bnan\b", shown) and len(pd.read_csv(tmp_path / name)) > 0, name
    for name in re.findall(r"figures/(\S+\.svg)", text):
        assert name in ("losses.svg", "defences.svg") or (tmp_path / "figures" / name).stat().st_size > 1000


@pytest.mark.parametrize("damage", ["missing", "stale"])
def test_the_command_names_the_cell_and_ends_with_2(damage, remove, tmp_path, monkeypatch, capsys):
    profile, folder = remove()
    record = folder / "synthetic" / "records" / f"{GONE[0]}.json"
    changed = re.sub(r'"hash": "\w+"', '"hash": "0"', record.read_text(), count=1)
    record.unlink() if damage == "missing" else record.write_text(changed)
    for name in ("book", "notebooks"):
        (tmp_path / name).mkdir()
    (tmp_path / "book" / "_config.yml").write_text("title: none\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(["book", profile])
    error = capsys.readouterr().err.strip()
    said = {"missing": "no result", "stale": "stale result (other settings, code or inputs made it)"}[damage]
    assert ended.value.code == 2 and "\n" not in error
    assert error.startswith(f"mmcoa: {said} for cell '{GONE[0]}': ") and error.endswith(f"run: mmcoa run {profile}")


def test_differences_of_what_is_missing():
    there = (np.array([1.0, 0.0]), np.array([0, 1]))
    assert holes.is_missing(holes.difference([there], [holes.NO_SET])[0]) and not holes.is_missing(there)
    assert holes.pictures([there, holes.NO_SET]) == 2
    assert (tables.number(np.nan, 1, 2), tables.signed(np.nan), tables.signed_interval(np.nan, 0, 0)) == (MISSING,) * 3
