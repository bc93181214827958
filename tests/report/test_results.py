import json
import shutil

import pytest

from mmcoa.errors import UserError
from mmcoa.report import results, tables


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


def test_missing_cell_names_cell_and_command(copy):
    profile, folder = copy
    (folder / "synthetic" / "records" / "mmcoa-seed1__openmoji-tools.json").unlink()
    with pytest.raises(UserError, match=rf"no result for cell 'mmcoa-seed1__openmoji-tools'.*mmcoa run {profile}"):
        results.load(profile, folder)


def test_no_results_at_all(copy, tmp_path):
    with pytest.raises(UserError, match="no result for cell 'none__openmoji-birds' and 14 more"):
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
