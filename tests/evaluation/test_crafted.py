"""Attacks made on one model and judged on another."""

from dataclasses import replace

import pandas as pd
import pytest
import torch

from mmcoa.attacks.losses import margin
from mmcoa.defenses.at_test import choose
from mmcoa.errors import UserError
from mmcoa.evaluation.loop import evaluate
from mmcoa.model.loading import create_model
from mmcoa.threat import ThreatModel
from tests.evaluation.test_loop import COLUMNS
from tests.evaluation.test_saved import pictures

ATTACKS = ["clean", "image", "text", "sequential", "independent", "multimodal"]
THREAT = ThreatModel(epsilon="2/255", steps=3)


@pytest.fixture
def named(tiny, small_birds):
    """Pictures whose labels are the tiny model's own predictions: all are right."""
    with torch.no_grad():
        labels = tiny.logits(small_birds.images.float() / 255, tiny.encode_text(small_birds.prompts)).argmax(dim=1)
    return replace(small_birds, labels=labels)


def test_from_a_model_to_itself_is_the_white_box(tiny, tiny_folder, named):
    """To the bit: predictions, margins, what broke a sample, and the prompts."""
    twin = create_model(tiny_folder, seed=0, name="twin").eval()
    own, transferred = evaluate(tiny, named, ATTACKS, THREAT), evaluate(tiny, named, ATTACKS, THREAT, craft=twin)
    pd.testing.assert_frame_equal(own.outcomes, transferred.outcomes, check_exact=True)
    assert own.changes == transferred.changes
    assert 0 < own.outcomes.image_correct.sum() < len(named)
    said = {row["attack"]: row["threat_text"].rpartition("; ")[2] for row in transferred}
    assert (said["image"], said["text"]) == ("pictures made on twin", "prompts made on twin")
    assert said["multimodal"] == "pictures and prompts made on twin" and said["clean"] == "no attack"
    for row, white in zip(transferred, own, strict=True):
        assert (
            set(row) == COLUMNS | {"crafted_on"} and row["model"] == "tiny-clip" and row["config_hash"] != white["config_hash"]
        )
        assert row["crafted_on"] == ("twin" if row["attack"] != "clean" else "")


def test_models_of_another_size_and_normalisation(tiny, embedded, birds, tmp_path):
    """64 px and 16 px: the ball is in the data set's own pixels, where the embedded model is led astray."""
    few = birds.prefix(21)
    with torch.no_grad():
        text, own = tiny.encode_text(few.prompts), embedded.encode_text(few.prompts)
        few = replace(few, labels=tiny.logits(few.images.float() / 255, text).argmax(dim=1))
    found = evaluate(tiny, few, ["clean", "image", "text"], THREAT, craft=embedded, save=tmp_path, batch_size=8)
    assert found[0]["accuracy"] == 100
    assert found.changes == evaluate(embedded, few, ["text"], THREAT).changes
    saved, clean = pictures(tmp_path, "image")["images"], few.images.float() / 255
    assert (saved - clean).abs().amax() <= THREAT.epsilon * (1 + 1e-5)
    with torch.no_grad():
        assert tiny.logits(saved, text).argmax(dim=1).tolist() == found.outcomes.image_prediction.tolist()
        before, after = (margin(embedded.logits(images, own), few.labels) for images in (clean, saved))
    assert (after > before).all()


def test_a_search_goes_on_after_the_other_model_is_broken(tiny, tiny_folder, named):
    """Another model is fooled by pictures made on the first, more often than by noise of the same size."""
    other = create_model(tiny_folder, seed=0, name="other").eval()
    with torch.no_grad():
        for parameter in other.clip.visual.parameters():
            parameter.mul_(1 + 0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    far = THREAT.changed(epsilon="8/255")
    transferred = evaluate(tiny, named, ["image"], far, craft=other).outcomes.image_correct.sum()
    noise = evaluate(tiny, named, ["image"], far.changed(steps=1, step_size=1e-9), craft=other).outcomes.image_correct.sum()
    assert evaluate(tiny, named, ["image"], far).outcomes.image_correct.sum() <= transferred < noise


def test_what_cannot_be_combined_is_one_line(tiny, embedded, birds):
    few = birds.prefix(2)
    with pytest.raises(UserError, match="takes 64x64 pixels and 'tiny-clip' 16x16"):
        evaluate(tiny, few, ["image"], THREAT.changed(attacked_space="model"), craft=embedded)
    with pytest.raises(UserError, match="do not go together"):
        evaluate(tiny, few, ["image"], THREAT, craft=embedded, defense=choose("ttc"))
