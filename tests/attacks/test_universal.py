"""One perturbation for all pictures of a data set, learnt on its train split."""

from dataclasses import replace

import pytest
import torch

from mmcoa.attacks.image.universal import attack, learn
from mmcoa.attacks.losses import margin
from mmcoa.datasets import attacker_dataset
from mmcoa.errors import UserError
from mmcoa.evaluation.loop import evaluate
from mmcoa.study.compute import needs_attacker
from mmcoa.threat import ThreatModel

RADIUS = {"linf": 4 / 255, "l2": 0.4}


def threat_of(norm="linf", **changes):
    return ThreatModel(**{"epsilon": RADIUS[norm], "norm": norm, "steps": 4, "attacker_images": 42, **changes})


@pytest.fixture
def case(tiny, small_birds):
    """(tiny model in double precision; test and train pictures at 16 px, labelled with its answers: all are right)."""
    tiny.double()
    train = attacker_dataset("openmoji/birds", threat_of())
    pixels = torch.nn.functional.interpolate(train.images.float(), size=16, mode="area").round().to(torch.uint8)
    parts = []
    for data in (small_birds, replace(train, images=pixels)):
        with torch.no_grad():
            logits = tiny.logits(data.images.double() / 255, tiny.encode_text(data.prompts))
        parts.append(replace(data, labels=logits.argmax(dim=1)))
    return tiny, *parts


@pytest.mark.parametrize("norm", RADIUS)
def test_in_the_ball_the_same_everywhere_and_stronger_than_noise(case, norm):
    model, data, attacker = case
    text, images, threat = model.encode_text(data.prompts), data.images.double() / 255, threat_of(norm)
    learned = learn(model, text, threat, attacker)
    size = learned.abs().amax() if norm == "linf" else learned.norm()
    assert learned.shape == (1, 3, 16, 16) and size <= threat.epsilon * (1 + 1e-6) and not learned.requires_grad
    found = attack(model, images, data.labels, text, threat, learned=learned)
    assert torch.equal(found, (images + learned).clamp(0, 1)) and found.min() >= 0 and found.max() <= 1

    def wrong(adversarial):
        with torch.no_grad():
            return margin(model.logits(adversarial, text), data.labels).mean()

    generator = torch.Generator().manual_seed(0)
    for _ in range(5):  # one noise for all, at the ball's corner or surface
        noise = torch.randn(1, 3, 16, 16, generator=generator, dtype=torch.float64)
        noise = threat.epsilon * (noise.sign() if norm == "linf" else noise / noise.norm())
        assert wrong(found) > wrong((images + noise).clamp(0, 1)) + 0.05
    torch.manual_seed(5)
    assert torch.equal(learn(model, text, threat, attacker), learned)
    assert not torch.equal(learn(model, text, threat.changed(seed=1), attacker), learned)
    assert not torch.equal(learn(model, text, threat.changed(attacker_images=21), attacker), learned)
    with torch.no_grad():
        assert torch.equal(learn(model, text, threat, attacker), learned)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_an_evaluation_learns_once_whatever_its_batch_size(case, monkeypatch):
    model, data, attacker = case
    calls = []
    monkeypatch.setattr("mmcoa.attacks.image.universal.learn", lambda *given: calls.append(0) or learn(*given))
    names, threat = ["clean", "universal", "image"], threat_of()
    whole = evaluate(model, data, names, threat, attacker=attacker, check=data)
    assert len(calls) == 1
    parts = evaluate(model, data, names, threat, attacker=attacker, batch_size=4)
    assert len(calls) == 2
    assert whole.outcomes.universal_prediction.tolist() == parts.outcomes.universal_prediction.tolist()
    clean, row, image = whole
    assert image["accuracy"] <= row["accuracy"] < clean["accuracy"] == 100
    assert row["attacker_images"] == 42 and "42 labelled train pictures" in row["threat_text"] and row["check"] == "not run"
    fewer = evaluate(model, data, ["universal"], threat, attacker=attacker.prefix(30))
    assert fewer[0]["config_hash"] != row["config_hash"]


def test_without_train_pictures_it_is_refused(case):
    model, data, attacker = case
    with pytest.raises(UserError, match="attack 'universal' learns from labelled pictures of a train split"):
        evaluate(model, data, ["universal"], threat_of())
    assert needs_attacker(["universal"], threat_of()) and not needs_attacker(["image", "text"], threat_of())
    images = data.images.double() / 255
    with pytest.raises(UserError, match="hand it `learned`"):
        attack(model, images, data.labels, None, threat_of())
    with pytest.raises(UserError, match="does not fit"):
        attack(model, images, data.labels, None, threat_of(), learned=torch.zeros(1, 3, 8, 8))
