import dataclasses
import json
import shutil

import pytest

from mmcoa.errors import UserError
from mmcoa.report import results, tables
from mmcoa.study.cells import expand
from mmcoa.threat import ThreatModel


@pytest.fixture
def copy(synthetic_profile, tmp_path):
    """(profile, results folder of its own) to damage."""
    profile, folder = synthetic_profile
    shutil.copytree(folder, tmp_path / "results")
    return profile, tmp_path / "results"


def test_load_has_every_cell(study):
    assert study.methods == ["none", "tecoa", "mmcoa"]
    assert study.attacks == ["clean", "image", "text", "sequential"]
    assert len(study.rows) == 4 * 3 * 4  # models x data sets x attacks
    assert len(study.outcomes) == 4 * 3 * 24
    assert set(study.training.model_id) == {"tecoa-seed0", "mmcoa-seed0", "mmcoa-seed1"}


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


def test_checks_and_changes_are_read(study):
    assert set(study.checks.model_id) == {"none", "tecoa-seed0", "mmcoa-seed0", "mmcoa-seed1"}
    assert set(study.changes.attack) == {"text"} and study.changes.edits.map(len).eq(1).all()
    assert study.notes == ()


def test_threat_of_rows(study):
    part = study.sweep("attacks")[""]
    rows = part.rows[(part.rows.method == "none") & (part.rows.dataset == "openmoji/birds")].set_index("attack", drop=False)
    threats = {attack: results.threat_of(row) for attack, row in rows.iterrows()}  # every row states a valid one
    assert threats["pgd"] == threats["sequential"] == ThreatModel(epsilon="2/255")
    assert (threats["pgd-reference"].keep, threats["pgd-reference"].step_size) == ("last", 2 / 255)
    assert threats["joint"].text_score == "margin" and threats["apgd-dlr-t"].targets == 9
    most = study.sweep("budget")["3"].rows
    threat = results.threat_of(most[most.attack == "text"].iloc[0])
    assert (threat.text_budget, threat.beam, threat.min_similarity) == (3, 10, None)


def test_threat_of_a_row_that_lacks_newer_columns():
    row = {"epsilon": 4 / 255, "norm": "linf", "steps": 7, "step_size": 1 / 255, "candidate_source": "", "attack_seed": 3}
    assert results.threat_of(row) == ThreatModel(epsilon="4/255", steps=7, seed=3)
    assert dataclasses.replace(results.threat_of(row), seed=0) == ThreatModel(epsilon="4/255", steps=7)


def test_missing_cell_names_cell_and_command(copy):
    profile, folder = copy
    (folder / "synthetic" / "records" / "mmcoa-seed1__openmoji-tools.json").unlink()
    with pytest.raises(UserError, match=rf"no result for cell 'mmcoa-seed1__openmoji-tools'.*mmcoa run {profile}"):
        results.load(profile, folder)


def test_no_results_at_all(copy, tmp_path):
    more = len(expand(copy[0])) - 1
    with pytest.raises(UserError, match=f"no result for cell 'none__openmoji-birds' and {more} more"):
        results.load(copy[0], tmp_path / "nowhere")


def test_stale_cell(copy):
    profile, folder = copy
    path = folder / "synthetic" / "records" / "none__openmoji-birds.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"hash": "0" * 64}))
    with pytest.raises(UserError, match="stale result.*'none__openmoji-birds'.*mmcoa run"):
        results.load(profile, folder)


def test_damaged_record_and_outcomes(copy):
    profile, folder = copy
    path = folder / "synthetic" / "outcomes" / "none__openmoji-birds.parquet"
    path.write_bytes(b"no parquet")
    with pytest.raises(UserError, match="no readable outcomes of cell 'none__openmoji-birds'"):
        results.load(profile, folder)
    path = folder / "synthetic" / "records" / "none__openmoji-birds.json"
    path.write_text("{")
    with pytest.raises(UserError, match="damaged record .*none__openmoji-birds"):
        results.load(profile, folder)


def test_unknown_profile():
    with pytest.raises(UserError, match="quick"):
        tables.summary("quik")
