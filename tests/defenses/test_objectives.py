"""Each objective against its equation, written out again with plain calls."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mmcoa import defenses
from mmcoa.attacks.candidates import CandidateTable
from mmcoa.attacks.pgd import feature, pgd
from mmcoa.attacks.text import attack_prompts, enumerate_variants
from mmcoa.datasets.batches import ShuffledDataset
from mmcoa.defenses._features import class_features
from mmcoa.defenses._losses import contrastive
from mmcoa.model.loading import create_model
from mmcoa.threat import ThreatModel

THREAT = ThreatModel(epsilon="4/255", steps=2, candidate_source="table:train")


@pytest.fixture
def batch(small_birds):
    return ShuffledDataset(small_birds, 12, seed=0)(1)


@pytest.fixture
def frozen(tiny_folder):
    """Another model, so that a mix-up of the two shows."""
    return create_model(tiny_folder, seed=1).eval().requires_grad_(False)


def call(name, model, frozen, batch, **settings):
    """(loss, logs) of a defence with these settings of its own."""
    defense = defenses.choose(name, settings)
    return defense.objective(model, frozen, batch, THREAT, defense.settings)


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
    weights = {"lambda_image": 0.3, "lambda_text": 0.7}
    loss, logs = call(
        name, tiny, tiny, batch, **{key: weights[key] for key in defenses.record(name).settings if key in weights}
    )
    assert loss.item() == pytest.approx(value(terms), abs=1e-4)
    assert logs


def test_fare_is_its_equation(tiny, frozen, batch):
    """Squared distance before normalisation to the frozen model's clean embedding, by plain calls."""
    with torch.no_grad():
        clean = frozen.encode_image_raw(batch.images)
    threat = replace(THREAT, seed=0)
    adversarial = feature(tiny, batch.images, None, None, threat, range(12, 24), distance="l2", clean=clean)
    loss, _ = call("fare", tiny, frozen, batch)
    with torch.no_grad():
        rows = tiny.encode_image_raw(adversarial).tolist()
    by_hand = [
        sum((a - b) ** 2 for a, b in zip(mine, theirs, strict=True)) for mine, theirs in zip(rows, clean.tolist(), strict=True)
    ]
    assert loss.item() == pytest.approx(sum(by_hand) / 12, rel=1e-4)
    with torch.no_grad():
        start = (tiny.encode_image_raw(batch.images) - clean).square().sum(dim=1).mean()
    assert loss.item() > start.item()  # the attack moves away from the frozen model's embedding


def test_pmg_aft_is_its_equation(tiny, frozen, batch):
    text, guide_text = tiny.encode_text(batch.prompts).detach(), frozen.encode_text(batch.prompts).detach()
    adversarial = pgd(tiny, batch.images, batch.labels, text, replace(THREAT, seed=0), range(12, 24))
    with torch.no_grad():
        p0 = frozen.logits(adversarial, guide_text).softmax(dim=1).tolist()
        p = tiny.logits(adversarial, text).softmax(dim=1).tolist()
        clean = tiny.logits(batch.images, text).softmax(dim=1).tolist()

    def kl(first, second):
        return (
            sum(a * math.log(a / b) for one, two in zip(first, second, strict=True) for a, b in zip(one, two, strict=True)) / 12
        )

    cross_entropy = -sum(math.log(row[label]) for row, label in zip(p, batch.labels.tolist(), strict=True)) / 12
    loss, logs = call("pmg_aft", tiny, frozen, batch)
    assert loss.item() == pytest.approx(cross_entropy + kl(p0, p) + kl(clean, p), rel=1e-4)
    weighted, _ = call("pmg_aft", tiny, frozen, batch, lambda_frozen=0.5, lambda_clean=2)
    assert weighted.item() == pytest.approx(cross_entropy + 0.5 * kl(p0, p) + 2 * kl(clean, p), rel=1e-4)
    assert logs["to_frozen"] > 0 and logs["to_clean"] > 0


def test_divergence_by_hand():
    from mmcoa.defenses.pmg_aft import divergence

    target, logits = torch.tensor([[0.0, math.log(3)]]), torch.tensor([[0.0, 0.0]])  # (1/4, 3/4) against (1/2, 1/2)
    assert divergence(target, logits).item() == pytest.approx(0.25 * math.log(0.5) + 0.75 * math.log(1.5))


@pytest.mark.parametrize("edits", [50, 7])
def test_leaf_is_its_equation(tiny, frozen, batch, edits):
    leaf = defenses.load("leaf")
    loss, _ = call("leaf", tiny, frozen, batch, edits=edits)
    prompts, _ = batch.present()
    rng = np.random.default_rng([batch.seed, batch.step])
    variants = enumerate_variants(batch.prompts, CandidateTable("characters")).of(prompts)
    drawn = leaf.sample(variants, edits, rng)
    with torch.no_grad():
        clean_unit, clean = frozen.encode_text(prompts), frozen.encode_text_raw(prompts)
        total = 0.0
        for index in range(len(prompts)):
            texts = [text for text, owner in zip(drawn.texts, drawn.owner.tolist(), strict=True) if owner == index]
            assert len(texts) == edits == len(set(texts))
            best = max(texts, key=lambda text: 1 - float(tiny.encode_text([text])[0] @ clean_unit[index]))
            total += float((tiny.encode_text_raw([best])[0] - clean[index]).square().sum())
    assert loss.item() == pytest.approx(total / len(prompts), rel=1e-4)


def test_prompts_are_encoded_once_a_run_where_text_is_frozen(tiny, batch, monkeypatch):
    tiny.requires_grad_(False)
    first = class_features(tiny, batch.prompts)
    assert class_features(tiny, list(batch.prompts)) is first
    assert class_features(tiny, batch.prompts[:5]) is not first
    tiny.clip.positional_embedding.requires_grad_(True)
    assert class_features(tiny, batch.prompts) is not class_features(tiny, batch.prompts)


def test_adversarial_terms_are_larger_than_clean_ones(tiny, batch, terms):
    clean, _ = call("clean", tiny, tiny, batch)
    assert terms["image"] > clean.item() and terms["text"] != clean.item()
