"""What a run lacks is listed at once, before its first cell."""

import shutil
from pathlib import Path

import pytest

from mmcoa.errors import UserError
from mmcoa.study import preflight
from mmcoa.study.plan import make_plan
from mmcoa.study.runner import run


def test_everything_that_is_missing_is_listed_and_nothing_starts(write_profile, tmp_path, monkeypatch):
    monkeypatch.setenv("MMCOA_DATA", str(tmp_path))
    path = write_profile(evaluate__datasets=["openmoji/birds", "dtd", "wds:absent", "cars"], base_model="ViT-B-33/openai")
    with pytest.raises(UserError) as caught:
        run(path, echo=lambda text: None)
    text = str(caught.value)
    assert "\n" not in text and text.startswith("nothing was started: 4 problems")
    for said in ("no architecture 'ViT-B-33'", "no folder dtd", "mmcoa data get dtd", "no folder absent", "'cars' is not in"):
        assert said in text
    assert not Path("results/mini").exists() and not list(Path("runs/mini").glob("done/*"))


def test_the_dry_run_says_so_too(write_profile, tmp_path, monkeypatch):
    monkeypatch.setenv("MMCOA_DATA", str(tmp_path))
    lines = []
    assert run(write_profile(evaluate__datasets=["dtd"]), dry_run=True, echo=lines.append) == 0
    assert any("not ready: data set 'dtd'" in line for line in lines) and any("about 0.7 GB" in line for line in lines)


def test_a_study_that_has_all_is_ready(write_profile):
    plan = make_plan(write_profile())
    assert preflight.problems(plan) == [] and preflight.gigabytes(plan) == 0


def test_damaged_models_and_full_disks(write_profile, monkeypatch):
    plan = make_plan(write_profile())
    usage = shutil.disk_usage(".")
    monkeypatch.setattr(preflight.shutil, "disk_usage", lambda place: usage._replace(free=1_000_000))
    assert any("1 MB free" in text for text in preflight.problems(plan))
    weights, config = Path("models/tiny/model.safetensors"), Path("models/tiny/open_clip_config.json")
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    assert any("models/tiny is damaged (SafetensorError" in text for text in preflight.problems(plan))
    weights.write_bytes(whole)
    config.write_text("{}")
    assert any("models/tiny is damaged (KeyError" in text for text in preflight.problems(plan))
    weights.unlink()
    assert any("lacks model.safetensors" in text for text in preflight.problems(plan))


def test_the_paper_s_profile_says_what_it_needs(tmp_path, monkeypatch):
    """Planned without weights, data or network."""
    monkeypatch.setenv("MMCOA_DATA", str(tmp_path))
    plan = make_plan("paper", tmp_path / "results", tmp_path / "runs")
    missing = preflight.problems(plan)
    assert len(missing) == 17 and sum("mmcoa data get" in text for text in missing) >= 10
    assert any("image-net.org" in text for text in missing) and preflight.gigabytes(plan) > 200


def test_weights_that_open_clip_does_not_have(write_profile):
    plan = make_plan(write_profile(base_model="ViT-B-32/opnai"))
    assert "model 'ViT-B-32/opnai': unknown weights 'opnai'; nearest: openai" in preflight.problems(plan)[0]
