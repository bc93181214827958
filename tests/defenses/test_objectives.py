"""Each objective against its equation, written out again with plain calls."""

import copy
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import mmcoa
from mmcoa import defenses
from mmcoa.attacks.candidates import CandidateTable
from mmcoa.attacks.pgd import ascend, feature, pgd
from mmcoa.attacks.text import attack_prompts, enumerate_variants
from mmcoa.datasets.batches import ShuffledDataset
from mmcoa.defenses import tga_zsr
from mmcoa.defenses._features import class_features
from mmcoa.defenses._losses import contrastive
from mmcoa.errors import UserError
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
    """The terms of MMCoA and MAT, from public functions."""
    text = tiny.encode_text(batch.prompts).detach()
    adversarial = pgd(tiny, batch.images, batch.labels, text, replace(THREAT, seed=0), range(12, 24))
    changed = tiny.encode_text(attack_prompts(tiny, batch.prompts, THREAT).prompts)
    classes, labels = batch.labels.unique(return_inverse=True)
    image_term = contrastive(tiny.encode_image(adversarial), text[classes], labels, tiny.scale)
    text_term = contrastive(tiny.encode_image(batch.images), changed[classes], labels, tiny.scale)
    both_term = contrastive(tiny.encode_image(adversarial), changed[classes], labels, tiny.scale)
    tecoa = F.cross_entropy(tiny.logits(adversarial, text), batch.labels)
    found = {"image": image_term, "text": text_term, "both": both_term, "tecoa": tecoa}
    return {name: term.item() for name, term in found.items()}


@pytest.mark.parametrize(
    "name,value",
    [
        ("tecoa", lambda t: t["tecoa"]),
        ("image_only", lambda t: 0.3 * t["image"]),
        ("text_only", lambda t: 0.7 * t["text"]),
        ("mmcoa", lambda t: 0.3 * t["image"] + 0.7 * t["text"]),
        ("mat", lambda t: 0.2 * t["both"] + 0.3 * t["image"] + 0.7 * t["text"]),
    ],
)
def test_objective_is_its_equation(tiny, batch, terms, name, value):
    weights = {"lambda_image": 0.3, "lambda_text": 0.7, "lambda_both": 0.2}
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


def test_fare_by_cosine_is_sim_clip(tiny, frozen, batch):
    with torch.no_grad():
        clean = frozen.encode_image_raw(batch.images)
    adversarial = feature(tiny, batch.images, None, None, replace(THREAT, seed=0), range(12, 24), clean=clean)
    loss, _ = call("fare", tiny, frozen, batch, distance="cosine")
    with torch.no_grad():
        cosines = [float(a @ b / (a.norm() * b.norm())) for a, b in zip(tiny.encode_image_raw(adversarial), clean, strict=True)]
    assert loss.item() == pytest.approx(1 - sum(cosines) / 12, abs=1e-5)
    assert 0 < loss.item() < 2 != call("fare", tiny, frozen, batch)[0].item()


@pytest.mark.parametrize("name", ["both", "image", "text"])
def test_each_term_of_mat_can_stand_alone(tiny, batch, terms, name):
    """The others are not even computed; without its own term MAT is MMCoA."""
    weights = {"lambda_both": 0, "lambda_image": 0, "lambda_text": 0}
    loss, logs = call("mat", tiny, tiny, batch, **weights | {f"lambda_{name}": 0.4})
    assert loss.item() == pytest.approx(0.4 * terms[name], abs=1e-4) and list(logs) == [f"adversarial_{name}"]
    assert call("mat", tiny, tiny, batch, lambda_both=0)[0].item() == call("mmcoa", tiny, tiny, batch)[0].item()
    with pytest.raises(UserError, match="all 0"):
        call("mat", tiny, tiny, batch, **weights)


def test_agft_is_its_equation_and_asks_for_no_label(tiny, frozen, batch):
    """The target is the frozen model's softened answer to the clean picture; the divergence entry by entry."""
    text = tiny.encode_text(batch.prompts).detach()
    with torch.no_grad():
        cosines = frozen.encode_image(batch.images) @ frozen.encode_text(batch.prompts).T
        target = (0.4 * 1.8 * frozen.scale * cosines).softmax(dim=1)
    inner = replace(THREAT, seed=0)

    def attacked(images, rows):
        own = (1.8 * tiny.logits(images, text)).log_softmax(dim=1)
        each = (target[rows] * (target[rows].log() - own)).sum(dim=1)
        return each, each.detach()

    adversarial = ascend([attacked], batch.images, inner, range(12, 24))
    loss, _ = call("agft", tiny, frozen, batch)
    with torch.no_grad():
        z = (1.8 * tiny.scale * tiny.encode_image(adversarial) @ text.T).tolist()
    by_hand = 0.0
    for row, wanted in zip(z, target.tolist(), strict=True):
        total = math.log(sum(math.exp(value) for value in row))
        by_hand += sum(q * (math.log(q) - value + total) for q, value in zip(wanted, row, strict=True)) / 12
    assert loss.item() == pytest.approx(by_hand, abs=1e-4)
    assert call("agft", tiny, frozen, replace(batch, labels=batch.labels.flip(0)))[0].item() == loss.item()
    agreed, _ = call("agft", tiny, tiny, batch, softness=1.0)
    assert 0 < agreed.item() < loss.item()  # the model as its own guide: what is left, the attack made


def test_advflyp_is_its_equation(tiny, frozen, batch):
    prompts, labels = batch.present()
    text = tiny.encode_text(prompts).detach()

    def attacked(images, rows):
        loss = contrastive(tiny.encode_image(images), text, labels, tiny.scale)
        return loss.repeat(12), loss.detach().repeat(12)

    adversarial = ascend([attacked], batch.images, replace(THREAT, seed=0), range(12, 24))
    with torch.no_grad():
        own, clean, guide = tiny.encode_image(adversarial), tiny.encode_image(batch.images), frozen.encode_image(adversarial)
        contrast = contrastive(own, text, labels, tiny.scale).item()
        apart = sum(
            math.dist(a, b) + math.dist(a, c) for a, b, c in zip(*(x.tolist() for x in (own, guide, clean)), strict=True)
        )
        p, p_clean = ((tiny.scale * x @ text.T).softmax(dim=1) for x in (own, clean))
        p0 = frozen.logits(adversarial, frozen.encode_text(prompts)).softmax(dim=1)
        kl = sum((target * (target / p).log()).sum().item() / 12 for target in (p0, p_clean))
    loss, logs = call("advflyp", tiny, frozen, batch, lambda_feature=0.5, lambda_logit=2.0)
    assert loss.item() == pytest.approx(contrast + 0.5 * apart / 12 + 2 * kl, rel=1e-4)
    clean_loss, _ = call("clean", tiny, frozen, batch)
    assert logs["adversarial_image"] == pytest.approx(contrast, abs=1e-4) and contrast > clean_loss.item()


def test_advflyp_at_the_frozen_model_has_a_finite_gradient(tiny, batch):
    """The length of a difference that is exactly zero has the gradient zero, not 0 / 0."""
    for parameter in tiny.clip.visual.parameters():
        parameter.requires_grad_(True)
    loss, logs = call("advflyp", tiny, copy.deepcopy(tiny).requires_grad_(False), batch)
    loss.backward()
    gradients = [parameter.grad for parameter in tiny.clip.visual.parameters() if parameter.grad is not None]
    assert gradients and all(torch.isfinite(gradient).all() for gradient in gradients) and logs["feature"] > 0


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


def attention_by_hand(model, images, text):
    """Tokens from open_clip's own forward pass; the map enlarged by a loop over its pixels."""
    plain = copy.deepcopy(model.clip.visual)
    plain.output_tokens = True
    _, patches = plain((images - model.mean) / model.std)
    found, (rows, columns), size = [], plain.grid_size, model.image_size[0]
    for tokens, prompt in zip(patches @ plain.proj, text, strict=True):
        values = (tokens @ prompt).tolist()
        low, high = min(values), max(values)
        small = [[(values[r * columns + c] - low) / (high - low) for c in range(columns)] for r in range(rows)]

        def at(y, x, small=small):
            y, x = (min(max((v + 0.5) * n / size - 0.5, 0), n - 1) for v, n in ((y, rows), (x, columns)))
            top, left = min(int(y), rows - 2), min(int(x), columns - 2)
            dy, dx = y - top, x - left
            above = small[top][left] * (1 - dx) + small[top][left + 1] * dx
            return above * (1 - dy) + (small[top + 1][left] * (1 - dx) + small[top + 1][left + 1] * dx) * dy

        found.append([at(y, x) for y in range(size) for x in range(size)])
    return found


def test_tga_zsr_is_its_equation(tiny, frozen, batch):
    text = tiny.encode_text(batch.prompts).detach()
    guide_text = frozen.encode_text(batch.prompts).detach()
    adversarial = pgd(tiny, batch.images, batch.labels, text, replace(THREAT, seed=0), range(12, 24))
    with torch.no_grad():
        guide = attention_by_hand(frozen, batch.images, guide_text[batch.labels])
        looks = {
            "attacked": attention_by_hand(tiny, adversarial, text[batch.labels]),
            "clean": attention_by_hand(tiny, batch.images, text[batch.labels]),
        }
        tecoa = F.cross_entropy(tiny.logits(adversarial, text), batch.labels).item()
    far = {name: sum(map(math.dist, maps, guide)) / 12 for name, maps in looks.items()}
    loss, logs = call("tga_zsr", tiny, frozen, batch)
    assert logs == pytest.approx({"tecoa": tecoa, **far}, abs=1e-3) and min(far.values()) > 0.1
    assert loss.item() == pytest.approx(tecoa + 0.08 * far["attacked"] + 0.05 * far["clean"], abs=1e-3)
    _, logs = call("tga_zsr", tiny, tiny, batch)  # a model that is still its own guide
    assert logs["clean"] == pytest.approx(0, abs=1e-4) and logs["attacked"] > 0.1


def test_tga_zsr_does_not_follow_rounding():
    """At the guide itself, where two ways of computing the same map differ by rounding alone, there is no slope to speak of."""
    maps = torch.rand(2, 64, 64, generator=torch.Generator().manual_seed(0))
    near = (maps + 1e-6 * torch.sign(maps - 0.5)).requires_grad_()
    tga_zsr.apart(near, maps).backward()
    far = (maps + 0.1).requires_grad_()
    tga_zsr.apart(far, maps).backward()
    assert near.grad.norm() < 0.03 * far.grad.norm() and far.grad.norm(dim=(1, 2)).mean() == pytest.approx(0.5, rel=1e-3)


def test_tga_zsr_needs_patch_tokens(batch, frozen):
    resnet = mmcoa.load_model("openmoji-resnet")
    with pytest.raises(UserError, match="patch tokens, which the image tower of 'openmoji-resnet' does not give"):
        call("tga_zsr", resnet, frozen, batch)


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
