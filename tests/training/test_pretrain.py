"""A study that trains its base model from scratch: the cell, what depends on it, and the source of captioned pictures."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from mmcoa.datasets.batches import Ahead
from mmcoa.datasets.captions import TEMPLATES, CaptionedPictures, crop
from mmcoa.errors import UserError
from mmcoa.model.loading import load_model
from mmcoa.study import verify, weights
from mmcoa.study.cell import run_pretrain_cell, run_spec
from mmcoa.study.cells import expand, pretrain_cell
from mmcoa.study.plan import make_plan, write_specs
from mmcoa.study.profiles import load_profile
from mmcoa.study.records import read_record
from mmcoa.study.sources import checkpoint_cell
from mmcoa.training.pretrain import pretrain, untrained

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
    needs = {process.name: process.needs for process in plan.pending}
    assert needs["train__tecoa-seed0"] == needs["evaluate__none"] == ["pretrain__small"]
    assert needs["evaluate__tecoa-seed0"] == ["train__tecoa-seed0"]
    run(plan, "pretrain")
    record = read_record(plan.results, "pretrain__small")
    assert record["training"]["pictures"] == 1472 and record["provenance"]["seconds"] > 0
    assert (plan.results / "training" / "small.csv").is_file()
    assert "pretrain__small" not in {process.name for process in make_plan(profile).pending}
    run(plan, "train")
    run(plan, "evaluate")
    assert not make_plan(profile).pending
    rows = read_record(plan.results, "none__openmoji-birds")["rows"]
    assert {(row["model"], row["defense"], row["base_model"]) for row in rows} == {("small", "none", "small")}
    tuned = json.loads(Path("runs/mini/models/tecoa-seed0/mmcoa.json").read_text())
    assert tuned["base_model"] == "small" and tuned["epsilon"] == "2/255"
    assert all(row["passed"] for row in verify.verify(profile, count=2, seed=1, device="cpu"))

    shutil.rmtree("runs")  # results from another machine, of which nothing is to be done: small weights came with them
    assert not make_plan(profile).pending
    shutil.rmtree("results/mini/models")  # large ones do not
    assert not make_plan(profile).pending
    assert "none" in verify.candidates(profile)[1]
    Path("results/mini/records/none__openmoji-birds.json").unlink()
    again = make_plan(profile)
    assert [process.name for process in again.pending] == ["pretrain__small", "evaluate__none"]
    assert {cell.id for cell in again.todo} == {"pretrain__small", "none__openmoji-birds"}


def test_small_weights_are_kept_beside_the_results(profile, tiny, monkeypatch):
    run(make_plan(profile), "pretrain")
    kept = Path("results/mini/models/small")
    assert (kept / "model.safetensors").read_bytes() == Path("runs/mini/models/small/model.safetensors").read_bytes()
    shutil.rmtree("runs")
    plan = make_plan(profile)  # a fresh checkout: fine-tuning starts from what the results hold
    assert [process.name for process in plan.pending] == ["train__tecoa-seed0", "evaluate__none", "evaluate__tecoa-seed0"]
    assert not plan.pending[0].needs and plan.pending[0].parameters["model"] == str(kept)
    run(plan, "train")
    run(make_plan(profile), "evaluate")
    assert not make_plan(profile).pending

    monkeypatch.setattr(weights, "LARGEST", 1000)
    large = shutil.copytree(kept, "large")
    assert not weights.keep(large, "results/mini", plan.cells[0]) and not kept.exists()


def test_another_pretraining_makes_everything_anew(write_profile, profile):
    before = {cell.id: cell.hash for cell in expand(profile)}
    after = {
        cell.id: cell.hash
        for cell in expand(
            write_profile(
                base_model="small", pretrain={**SMALL, "steps": 3}, models=[{"defense": "none"}, {"defense": "tecoa"}]
            )
        )
    }
    assert before.keys() == after.keys() and not set(before.values()) & set(after.values())


def test_checkpoint_says_what_it_is(tmp_path, tiny, project):
    run_pretrain_cell(
        SMALL["data"],
        "made",
        name="small",
        results="results/mini",
        device="cpu",
        **{k: v for k, v in SMALL.items() if k != "data"},
    )
    model = load_model("made")
    assert model.name == "small" and "defense" not in model.metadata and "trained_on" not in model.metadata
    assert (
        checkpoint_cell("made") == pretrain_cell("small", **read_record("results/mini", "pretrain__small")["parameters"]).hash
    )
    card = Path("made/README.md").read_text()
    assert "openmoji/birds openmoji/tools; 1,472 pictures" in card and "defence" not in card
    before = Path("made/model.safetensors").stat().st_mtime_ns
    Path("made/README.md").unlink()
    pretrain("small", SMALL["data"], "made", steps=2, batch_size=16, warmup=1, device="cpu")  # finished: returned as it is
    assert Path("made/model.safetensors").stat().st_mtime_ns == before and Path("made/README.md").read_text() == card


def test_batch_norms_learn_their_statistics(tmp_path):
    fresh = untrained("resnet")
    folder = pretrain(
        "small", ["openmoji/birds"], tmp_path / "made", architecture="resnet", steps=2, batch_size=8, warmup=1, device="cpu"
    )
    kept, first = load_model(folder).clip.state_dict(), fresh.clip.state_dict()
    assert not torch.equal(kept["visual.bn1.running_mean"], first["visual.bn1.running_mean"])
    assert not load_model(folder).clip.visual.bn1.training


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


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"steps": 2, "epochs": 1}, "one of the two"),
        ({"data": "openmoji", "epochs": 1}, "give steps"),
        ({"steps": 2, "architecture": "vti"}, "nearest: vit"),
        ({"steps": 2, "batch_size": 5000}, "fewer than a batch of 5000"),
    ],
)
def test_bad_arguments(tmp_path, arguments, message):
    with pytest.raises(UserError, match=message):
        pretrain("small", **{"data": ["openmoji/birds"], "output": tmp_path / "made", "device": "cpu", **arguments})


def test_batches_depend_on_seed_and_step_alone():
    one, two = (CaptionedPictures(["openmoji/birds", "openmoji/tools"], 16, 0, {}) for _ in range(2))
    first, second = one(5), two(5)
    assert torch.equal(first.images, second.images) and first.prompts == second.prompts
    assert not torch.equal(first.images, one(6).images)
    assert first.images.shape == (16, 3, 64, 64) and first.images.min() >= 0 and first.images.max() <= 1
    assert sorted(torch.cat([one._index(step) for step in range(92)]).tolist()) == list(range(1472))  # an epoch: each once


def test_batches_that_are_made_ahead_are_the_same():
    source = CaptionedPictures(["openmoji/birds"], 4, 0, {})
    ahead = Ahead(source)
    for step in (0, 1, 2, 7, 8, 3):  # in order, and after a jump
        one, other = source(step), ahead(step)
        assert torch.equal(one.images, other.images) and one.prompts == other.prompts and one.step == other.step


def test_captions_name_their_class():
    source = CaptionedPictures(["openmoji/birds"], 16, 0, {})
    batch = source(0)
    for label in batch.labels.tolist():
        template = next(
            t
            for t in sorted({*TEMPLATES, *source.templates[label]}, key=len, reverse=True)
            if batch.prompts[label] == t.replace("{}", source.classes[label])
        )
        assert template


def test_words_are_replaced_but_never_by_another_class():
    source = CaptionedPictures(["openmoji/birds"], 16, 0, {"duck": ["swan", "mallard"], "photo": ["snapshot"]})
    label = source.classes.index("duck")
    import numpy as np

    captions = [source.caption(np.random.default_rng(seed), label) for seed in range(200)]
    assert (
        any("mallard" in one for one in captions)
        and any("snapshot" in one for one in captions)
        and any("duck" in one for one in captions)
    )
    assert not any("swan" in one for one in captions) and "swan" in source.classes


def test_crops_keep_digits_upright():
    import numpy as np

    ramp = torch.linspace(0, 1, 32).expand(8, 3, 32, 32)
    plain = crop(ramp, np.random.default_rng(0), 16, mirrored=False)
    assert plain.shape == (8, 3, 16, 16) and (plain[..., -1] > plain[..., 0]).all()
    mirrored = crop(ramp, np.random.default_rng(0), 16, mirrored=True)
    assert (mirrored[..., -1] < mirrored[..., 0]).any(dim=1).any()
