"""Pre-training from scratch, and the source of captioned pictures. In a study: tests/study/test_pretrain_cell.py."""

import numpy as np
import pytest
import torch

from mmcoa.datasets.batches import Ahead
from mmcoa.datasets.captions import TEMPLATES, CaptionedPictures, crop
from mmcoa.errors import UserError
from mmcoa.model.loading import load_model
from mmcoa.training.pretrain import pretrain, untrained


def test_batch_norms_learn_their_statistics(tmp_path):
    fresh = untrained("resnet")
    folder = pretrain(
        "small", ["openmoji/birds"], tmp_path / "made", architecture="resnet", steps=2, batch_size=8, warmup=1, device="cpu"
    )
    kept, first = load_model(folder).clip.state_dict(), fresh.clip.state_dict()
    assert not torch.equal(kept["visual.bn1.running_mean"], first["visual.bn1.running_mean"])
    assert not load_model(folder).clip.visual.bn1.training


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
    captions = [source.caption(np.random.default_rng(seed), label) for seed in range(200)]
    assert (
        any("mallard" in one for one in captions)
        and any("snapshot" in one for one in captions)
        and any("duck" in one for one in captions)
    )
    assert not any("swan" in one for one in captions) and "swan" in source.classes


def test_crops_keep_digits_upright():
    ramp = torch.linspace(0, 1, 32).expand(8, 3, 32, 32)
    plain = crop(ramp, np.random.default_rng(0), 16, mirrored=False)
    assert plain.shape == (8, 3, 16, 16) and (plain[..., -1] > plain[..., 0]).all()
    mirrored = crop(ramp, np.random.default_rng(0), 16, mirrored=True)
    assert (mirrored[..., -1] < mirrored[..., 0]).any(dim=1).any()
