"""Each objective against its equation, written out again with plain calls."""

from dataclasses import replace

import pytest
import torch.nn.functional as F

from mmcoa import defenses
from mmcoa.attacks.pgd import pgd
from mmcoa.attacks.text import attack_prompts
from mmcoa.datasets.batches import ShuffledDataset
from mmcoa.defenses.losses import contrastive
from mmcoa.errors import UserError
from mmcoa.threat import ThreatModel
from mmcoa.training import TrainConfig

THREAT = ThreatModel(epsilon="4/255", steps=2, candidate_source="table:train")


@pytest.fixture
def batch(small_birds):
    return ShuffledDataset(small_birds, 12, seed=0)(1)


@pytest.fixture
def terms(tiny, batch):
    """The two terms of MMCoA, from public functions."""
    text = tiny.encode_text(batch.prompts).detach()
    adversarial = pgd(tiny, batch.images, batch.labels, text, replace(THREAT, seed=0), range(12, 24))
    changed = tiny.encode_text(attack_prompts(tiny, batch.prompts, THREAT).prompts)
    classes, labels = batch.labels.unique(return_inverse=True)
    image_term = contrastive(tiny.encode_image(adversarial), text[classes], labels, tiny.scale)
    text_term = contrastive(tiny.encode_image(batch.images), changed[classes], labels, tiny.scale)
    tecoa = F.cross_entropy(tiny.logits(adversarial, text), batch.labels)
    return {"image": image_term.item(), "text": text_term.item(), "tecoa": tecoa.item()}


@pytest.mark.parametrize(
    "name,value",
    [
        ("tecoa", lambda t: t["tecoa"]),
        ("image_only", lambda t: 0.3 * t["image"]),
        ("text_only", lambda t: 0.7 * t["text"]),
        ("mmcoa", lambda t: 0.3 * t["image"] + 0.7 * t["text"]),
    ],
)
def test_objective_is_its_equation(tiny, batch, terms, name, value):
    settings = TrainConfig(defense=name, lambda_image=0.3, lambda_text=0.7)
    loss, logs = defenses.load(name).objective(tiny, tiny, batch, THREAT, settings)
    assert loss.item() == pytest.approx(value(terms), abs=1e-4)
    assert logs


def test_adversarial_terms_are_larger_than_clean_ones(tiny, batch, terms):
    settings = TrainConfig(defense="clean")
    clean, _ = defenses.load("clean").objective(tiny, tiny, batch, None, settings)
    assert terms["image"] > clean.item() and terms["text"] != clean.item()


def test_defences_are_found_by_file_name():
    assert {"clean", "tecoa", "image_only", "text_only", "mmcoa"} <= set(defenses.names())
    for name in defenses.names():
        module = defenses.load(name)
        assert callable(module.objective) and set(module.TRAINS) <= {"image", "text"}
        assert len(defenses.describe(name)) > 20
    with pytest.raises(UserError, match="nearest: mmcoa"):
        defenses.load("mmco")
