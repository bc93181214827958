"""A study that trains its base model from scratch: the cell and what depends on it.

Its training: tests/training/test_pretrain.py.
"""

import json
import shutil
from pathlib import Path

import pytest

from mmcoa.errors import UserError
from mmcoa.identity import checkpoint_cell
from mmcoa.model.loading import load_model
from mmcoa.store import base_models
from mmcoa.store.finished import read_record
from mmcoa.study import pack as verify
from mmcoa.study.compute import run_spec
from mmcoa.study.pack import pack
from mmcoa.study.plan import make_plan, write_specs
from mmcoa.study.profiles import load_profile
from mmcoa.training.pretrain import pretrain

SMALL = {"data": ["openmoji/birds", "openmoji/tools"], "steps": 2, "batch_size": 16, "warmup": 1}


@pytest.fixture
def profile(write_profile):
    return write_profile(base_model="small", pretrain=SMALL, models=[{"defense": "none"}, {"defense": "tecoa"}])


@pytest.fixture
def tiny(monkeypatch):
    """A tower that takes milliseconds."""
    from mmcoa.training import pretrain as pretraining

    config = {"image_size": 64, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16}
    monkeypatch.setitem(pretraining.ARCHITECTURES, "vit", config)


def run(plan, kind):
    write_specs(plan)
    for process in plan.pending:
        if process.kind == kind:
            run_spec(plan.spec(process))


def test_everything_comes_from_the_base_model(profile, tiny):
    plan = make_plan(profile)
    assert [process.name for process in plan.pending] == [
        "pretrain__small",
        "train__tecoa-seed0",
        "evaluate__none",
        "evaluate__tecoa-seed0",
    ]
    needs = {process.name: plan.needs(process) for process in plan.pending}
    assert needs["train__tecoa-seed0"] == needs["evaluate__none"] == ["pretrain__small"]
    assert needs["evaluate__tecoa-seed0"] == ["train__tecoa-seed0"]
    run(plan, "pretrain")
    record = read_record(plan.runs, "pretrain__small")
    assert record["training"]["pictures"] == 1472 and record["provenance"]["seconds"] > 0
    assert (plan.runs / "cells" / "pretrain__small.csv").is_file()
    assert "pretrain__small" not in {process.name for process in make_plan(profile).pending}
    run(plan, "train")
    run(plan, "evaluate")
    assert not make_plan(profile).pending
    rows = read_record(plan.runs, "none__openmoji-birds")["rows"]
    assert {(row["model"], row["defense"], row["base_model"]) for row in rows} == {("none", "none", "small")}
    tuned = json.loads(Path("runs/mini/models/tecoa-seed0/mmcoa.json").read_text())
    assert tuned["base_model"] == "small" and tuned["epsilon"] == "2/255"
    assert all(row["passed"] for row in verify.verify(profile, count=2, seed=1, device="cpu"))

    pack(profile)
    shutil.rmtree("runs")  # results from another machine, of which nothing is to be done: small weights came with them
    assert not make_plan(profile).pending
    shutil.rmtree("results/mini/models")  # large ones do not
    assert not make_plan(profile).pending
    assert "none" in verify.candidates(make_plan(profile))[1]
    cells = Path("results/mini/cells.csv")
    lines = [line for line in cells.read_text().splitlines(True) if not line.startswith("none__openmoji-birds")]
    cells.write_text("".join(lines))
    again = make_plan(profile)
    assert [process.name for process in again.pending] == ["pretrain__small", "evaluate__none"]
    assert {cell.id for cell in again.todo} == {"pretrain__small", "none__openmoji-birds"}


def test_small_weights_are_kept_beside_the_results(profile, tiny, monkeypatch):
    run(make_plan(profile), "pretrain")
    kept = Path("results/mini/models/small")
    assert (kept / "model.safetensors").read_bytes() == Path("runs/mini/models/small/model.safetensors").read_bytes()
    pack(profile)
    shutil.rmtree("runs")
    plan = make_plan(profile)  # a fresh checkout: fine-tuning starts from what the results hold
    assert [process.name for process in plan.pending] == ["train__tecoa-seed0", "evaluate__none", "evaluate__tecoa-seed0"]
    assert not plan.needs(plan.pending[0]) and plan.pending[0].model == str(kept)
    run(plan, "train")
    run(make_plan(profile), "evaluate")
    assert not make_plan(profile).pending

    monkeypatch.setattr(base_models, "LARGEST", 1000)
    large = shutil.copytree(kept, "large")
    assert not base_models.keep(large, "results/mini", "small") and not kept.exists()


def test_another_pretraining_makes_everything_anew(write_profile, profile):
    before = {cell.id: cell.identity for cell in make_plan(profile).cells}
    models = [{"defense": "none"}, {"defense": "tecoa"}]
    another = write_profile(base_model="small", pretrain={**SMALL, "steps": 3}, models=models)
    after = {cell.id: cell.identity for cell in make_plan(another).cells}
    assert before.keys() == after.keys() and not set(before.values()) & set(after.values())


def test_checkpoint_says_what_it_is(profile, tiny):
    plan = make_plan(profile)
    run(plan, "pretrain")
    shutil.copytree("runs/mini/models/small", "made")
    model = load_model("made")
    assert model.name == "small" and "defense" not in model.metadata and "trained_on" not in model.metadata
    assert checkpoint_cell("made") == plan.cells[0].identity
    card = Path("made/README.md").read_text()
    assert "openmoji/birds openmoji/tools; 1,472 pictures" in card and "defence" not in card
    before = Path("made/model.safetensors").stat().st_mtime_ns
    Path("made/README.md").unlink()
    pretrain("small", SMALL["data"], "made", steps=2, batch_size=16, warmup=1, device="cpu")  # finished: returned as it is
    assert Path("made/model.safetensors").stat().st_mtime_ns == before and Path("made/README.md").read_text() == card


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"pretrain": {**SMALL, "epochs": 2}}, "give 'epochs' or 'steps'"),
        ({"pretrain": {**SMALL, "data": "openmoji", "steps": None, "epochs": 2}}, "take 'steps', no 'epochs'"),
        ({"pretrain": {**SMALL, "data": ["openmoji/brids"]}}, "unknown data set 'openmoji/brids'"),
        ({"pretrain": {**SMALL, "data": "openmoji/birds"}}, "give a list of data sets"),
        ({"base_model": "small", "pretrain": {**SMALL, "data": ["photos/edges16"]}}, "has no split 'train'"),
        ({"pretrain": {**SMALL, "sede": 1}}, "nearest: seed"),
        ({"pretrain": SMALL, "base_model": "a/b"}, "needs a plain name"),
        ({"pretrain": SMALL, "base_model": "none"}, "two models are called 'none'"),
        ({"base_model": "small"}, "unknown model 'small'"),
    ],
)
def test_what_cannot_be(write_profile, changes, message):
    with pytest.raises(UserError, match=message) as error:
        load_profile(write_profile(**changes))
    assert "mini.yaml, line" in str(error.value)
