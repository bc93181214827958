"""Packed results as pages use them."""

import shutil
import subprocess
import sys

import pytest

from mmcoa.errors import UserError
from mmcoa.report import results
from mmcoa.store import packed


def test_load_has_every_cell(study):
    assert study.methods == ["none", "tecoa", "mmcoa"]
    assert study.attacks == ["clean", "image", "text", "sequential"]
    assert len(study.rows) == 4 * 3 * 4  # models x data sets x attacks
    assert len(study.outcomes) == 4 * 3 * 24
    assert set(study.training.model) == {"tecoa-seed0", "mmcoa-seed0", "mmcoa-seed1"}
    assert study.rows.cell.nunique() == 12 and set(study.rows.commit) == {"0123456789abcdef"}


def test_sweeps_are_studies_of_their_own(study, plain):
    assert plain.sweeps == {} and set(plain.rows.dataset) == set(study.rows.dataset)
    assert list(study.sweeps) == ["attacks", "epsilon", "steps", "restarts", "budget", "source", "words"]
    assert list(study.sweeps["epsilon"]) == ["1/255", "2/255", "4/255", "8/255"] and list(study.sweeps["attacks"]) == [""]
    part = study.sweep("epsilon")["4/255"]
    assert part.attacks == ["image", "sequential"] and part.methods == ["none"] and part.sweeps == {}
    assert set(part.rows.epsilon) == {4 / 255} and len(part.outcomes) == 3 * 12 and len(part.rows) == 3 * 2
    assert set(study.sweep("attacks")[""].rows.method) == {"none", "mmcoa"}
    with pytest.raises(UserError, match="'plain' has no sweep 'epsilon' .it has none.; add it under `sweeps`"):
        plain.sweep("epsilon")


def test_outcomes_are_those_of_the_rows(rich):
    for part in (rich, rich.sweep("epsilon")["4/255"]):
        for row in part.rows.itertuples():
            own = part.outcomes[(part.outcomes.model == row.model) & (part.outcomes.dataset == row.dataset)]
            assert own[f"{row.attack}_correct"].sum() == row.correct and len(own) == row.n
            assert set(own.method) == {row.method}


def test_an_attack_that_one_evaluation_lacks_is_no_outcome_there(folder, tmp_path):
    made = packed.read(folder / "plain")
    gone = (made.outcomes.dataset == "openmoji/tools") & (made.outcomes.attack == "text")
    outcomes = results.wide(made.outcomes[~gone].assign(method="any"))
    assert outcomes.text_correct.isna().sum() == 4 * 24 and outcomes.clean_correct.dtype == bool
    assert set(outcomes.dataset[outcomes.text_correct.isna()]) == {"openmoji/tools"}


def test_checks_changes_and_notes_are_read(study):
    assert set(study.checks.model) == {"none", "tecoa-seed0", "mmcoa-seed0", "mmcoa-seed1"}
    assert set(study.changes.attack) == {"text"} and study.changes.edits.map(len).eq(1).all()
    assert study.notes == []


def test_what_is_not_there_is_one_line(folder, tmp_path):
    with pytest.raises(UserError, match=r"no results: .*nothing/cells\.csv is missing; compute them with: mmcoa run nothing"):
        results.load("nothing", folder)
    copy = shutil.copytree(folder / "plain", tmp_path / "plain")
    (copy / "outcomes" / "none.parquet").write_bytes(b"PAR1 no more")
    with pytest.raises(UserError, match=r"damaged results .*none\.parquet.*mmcoa pack plain"):
        results.load("plain", tmp_path)


def test_the_report_loads_no_torch():
    rooms = "build, pdf, claims, words, plots"
    code = f"import sys; from mmcoa.report import {rooms}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
