import dataclasses

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from mmcoa.report import sections
from mmcoa.report.names import SWEEPS

BENCHMARKS = {"strength", "prompts", "predictions", "speed"}


def test_available(study, folder, plain, bare):
    sweeps = {*SWEEPS, "search", "all-sweeps", "edits", "gaps", "text-gaps", "attacks-methods"}
    own = {"checks", "in-distribution"}  # trained on a data set that it is judged on
    shown = {key for key in sections.available(study, folder) if not key.startswith("ablation")}
    assert shown == {*sweeps, *own, *BENCHMARKS, "all-ablations", "faults"}
    assert sections.available(plain, bare) == own


def test_available_of_more_kinds_of_models(rich, folder, bare):
    found = sections.available(rich, folder)
    assert {"in-distribution", "few-shot", "epsilon-methods", "training-logs", "held-out"} <= found
    assert {"gallery", "examples", "example"} <= found and "variants" not in found
    assert "variants" in sections.available(rich, folder, "plain")
    assert "variants" not in sections.available(rich, bare, "rich")  # that study was not run there


def test_a_sweep_without_the_undefended_model_cannot_be_shown(study, tmp_path):
    part = study.sweeps["epsilon"]["2/255"]
    other = dataclasses.replace(part, rows=part.rows.assign(method="tecoa"))
    found = sections.available(dataclasses.replace(study, sweeps={"epsilon": {"2/255": other}}), tmp_path)
    assert found == {"checks", "in-distribution"}


def test_cells_that_do_not_fit_are_left_out(tmp_path):
    cells = [
        new_markdown_cell("always"),
        new_code_cell("1", metadata={"tags": ["hide-input", "needs-epsilon"]}),
        new_markdown_cell("sorry", metadata={"tags": ["lacks-epsilon"]}),
        new_markdown_cell("both", metadata={"tags": ["needs-epsilon", "needs-steps"]}),
    ]
    nbformat.write(new_notebook(cells=cells), tmp_path / "in.ipynb")

    def kept(keys):
        return [cell.source for cell in sections.fitting(tmp_path / "in.ipynb", keys).cells]

    assert kept(set()) == ["always", "sorry"]
    assert kept({"epsilon"}) == ["always", "1"]
    assert kept({"epsilon", "steps"}) == ["always", "1", "both"]


def test_a_page_whose_title_does_not_fit_is_left_out(tmp_path):
    cells = [new_markdown_cell("# Title", metadata={"tags": ["needs-steps"]}), new_markdown_cell("always")]
    nbformat.write(new_notebook(cells=cells), tmp_path / "in.ipynb")
    assert sections.fitting(tmp_path / "in.ipynb", {"epsilon"}) is None
    assert len(sections.fitting(tmp_path / "in.ipynb", {"steps"}).cells) == 2
