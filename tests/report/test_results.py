"""Packed results as pages use them."""

import shutil
from dataclasses import replace

import pytest

from mmcoa.errors import UserError
from mmcoa.report import results
from mmcoa.store import packed


def test_load_has_every_cell(plain):
    assert plain.methods == ["none", "tecoa", "mmcoa"]
    assert plain.attacks == ["clean", "image", "text", "sequential"] and plain.notes == []
    assert len(plain.rows) == 4 * 3 * 4  # models x data sets x attacks
    assert set(plain.training.model) == {"tecoa-seed0", "mmcoa-seed0", "mmcoa-seed1"}
    assert set(plain.checks.model) == {"none", "tecoa-seed0", "mmcoa-seed0", "mmcoa-seed1"}
    assert set(plain.changes.attack) == {"text"} and plain.changes.edits.map(len).eq(1).all()


def test_sweeps_are_studies_of_their_own(plain, rich):
    assert plain.sweeps == {} and list(rich.sweeps) == ["epsilon", "budget", "auto"]
    assert list(rich.sweeps["epsilon"]) == ["1/255", "2/255", "4/255", "8/255"] and list(rich.sweeps["auto"]) == [""]
    part = rich.sweep("epsilon")["4/255"]
    assert part.attacks == ["image", "sequential"] and part.methods == ["none", "mmcoa", "image_only"] and part.sweeps == {}
    assert set(part.rows.epsilon) == {4 / 255} and len(part.outcomes) == 4 * 3 * 12 and len(part.rows) == 4 * 3 * 2
    with pytest.raises(UserError, match="'plain' has no sweep 'epsilon' .it has none.; add it under `sweeps`"):
        plain.sweep("epsilon")


def test_outcomes_are_those_of_the_rows(rich):
    for part in (rich, rich.sweep("epsilon")["4/255"]):
        for row in part.rows.itertuples():
            own = part.outcomes[(part.outcomes.model == row.model) & (part.outcomes.dataset == row.dataset)]
            assert own[f"{row.attack}_correct"].sum() == row.correct and len(own) == row.n
            assert set(own.method) == {row.method}


def test_an_attack_that_one_evaluation_lacks_is_no_outcome_there_and_none_of_the_study(folder, plain):
    there = (plain.rows.attack != "text") | (plain.rows.dataset != "openmoji/tools")
    assert replace(plain, rows=plain.rows[there]).attacks == ["clean", "image", "sequential"]
    made = packed.read(folder / "plain")
    gone = (made.outcomes.dataset == "openmoji/tools") & (made.outcomes.attack == "text")
    outcomes = results.wide(made.outcomes[~gone][::-1].assign(method="any"))  # in whatever order
    assert outcomes.text_correct.isna().sum() == 4 * 24 and outcomes.clean_correct.dtype == bool
    assert set(outcomes.dataset[outcomes.text_correct.isna()]) == {"openmoji/tools"}


def test_what_is_not_there_is_one_line(folder, tmp_path):
    with pytest.raises(UserError, match=r"no results: .*nothing/cells\.csv is missing; compute them with: mmcoa run nothing"):
        results.load("nothing", folder)
    copy = shutil.copytree(folder / "plain", tmp_path / "plain")
    (copy / "outcomes" / "none.parquet").write_bytes(b"PAR1 no more")
    with pytest.raises(UserError, match=r"damaged results .*none\.parquet.*mmcoa pack plain"):
        results.load("plain", tmp_path)
