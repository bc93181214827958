import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from mmcoa.attacks.ball import project, random_start, step_direction
from mmcoa.attacks.image.cw import attack as cw
from mmcoa.attacks.image.feature_l2 import attack as feature_l2
from mmcoa.attacks.image.fgsm import attack as fgsm
from mmcoa.attacks.losses import cross_entropy, dlr, likeliest_wrong, margin
from mmcoa.attacks.pgd import feature, pgd
from mmcoa.errors import UserError
from mmcoa.threat import ThreatModel

LOGITS, LABEL = torch.tensor([[1.0, 5.0, 2.0, 4.0, -3.0]]), torch.tensor([1])


def batch(dataset, n=21):
    return dataset.images[:n].float() / 255, dataset.labels[:n]


# The ball


@settings(max_examples=25, deadline=None)
@given(
    epsilon=st.floats(1 / 255, 1.0),
    norm=st.sampled_from(["linf", "l2"]),
    seed=st.integers(0, 1000),
)
def test_projection_stays_in_ball_and_range(epsilon, norm, seed):
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(3, 3, 5, 5, generator=generator)
    threat = ThreatModel(epsilon=epsilon, norm=norm)
    for delta in (torch.randn(3, 3, 5, 5, generator=generator) * 3, random_start((3, 5, 5), threat, range(3))):
        moved = project(delta, images, threat)
        size = moved.abs().amax() if norm == "linf" else moved.flatten(1).norm(dim=1).max()
        assert size <= epsilon + 1e-5
        assert (images + moved).min() >= -1e-6 and (images + moved).max() <= 1 + 1e-6


def test_projection_leaves_alone_what_lies_inside():
    images, delta = torch.full((2, 3, 5, 5), 0.5), torch.randn(2, 3, 5, 5) * 1e-3
    for norm in ("linf", "l2"):
        torch.testing.assert_close(project(delta, images, ThreatModel(epsilon=0.3, norm=norm)), delta, atol=1e-7, rtol=0)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_random_starts_fill_the_ball(norm):
    """On both sides of zero (trap I7), up to its edge, another one for each sample, restart and seed."""
    threat = ThreatModel(epsilon=0.1, norm=norm)
    starts = random_start((3, 8, 8), threat, range(200))
    sizes = starts.abs().flatten(1).amax(1) if norm == "linf" else starts.flatten(1).norm(dim=1)
    assert sizes.max() <= 0.1 + 1e-6 and sizes.max() > 0.095
    assert abs(starts.mean()) < 0.02 * starts.std()
    again = random_start((3, 8, 8), threat, [7])[0]
    assert torch.equal(again, starts[7])
    others = [random_start((3, 8, 8), *rest)[0] for rest in ((threat, [8]), (threat, [7], 1), (threat.changed(seed=1), [7]))]
    assert not any(torch.equal(again, other) for other in others)


def test_steps_are_steepest_in_their_norm():
    gradient = torch.randn(4, 3, 5, 5)
    gradient[3] = 0
    assert torch.equal(step_direction(gradient, "linf"), gradient.sign())
    length = step_direction(gradient, "l2").flatten(1).norm(dim=1)
    torch.testing.assert_close(length, torch.tensor([1.0, 1.0, 1.0, 0.0]))


# Losses


def test_losses_by_hand():
    """Ordered logits 5 4 2 1 -3, label the largest, targets 3 (logit 4) and 0 (logit 1)."""
    three, zero = torch.tensor([3]), torch.tensor([0])
    assert margin(LOGITS, LABEL).item() == -1
    assert margin(LOGITS, torch.tensor([0])).item() == 4
    assert margin(LOGITS, LABEL, zero).item() == -4
    assert dlr(LOGITS, LABEL).item() == pytest.approx(-1 / (5 - 2))
    assert dlr(LOGITS, LABEL, zero).item() == pytest.approx(-4 / (5 - (2 + 1) / 2))
    assert cross_entropy(LOGITS, LABEL).item() == pytest.approx(-F.log_softmax(LOGITS, 1)[0, 1].item())
    assert cross_entropy(LOGITS, LABEL, three).item() == pytest.approx(F.log_softmax(LOGITS, 1)[0, 3].item())
    assert likeliest_wrong(LOGITS, LABEL, 2).tolist() == [[3, 2]]
    assert likeliest_wrong(LOGITS, LABEL, 99).tolist() == [[3, 2, 0, 4]]
    assert margin(LOGITS[:, :1], torch.tensor([0])).item() == -torch.inf


@pytest.mark.parametrize("targets,classes", [(None, 2), (torch.tensor([0]), 3)])
def test_dlr_needs_classes(targets, classes):
    """Trap I6."""
    with pytest.raises(UserError, match=f"needs {classes + 1} classes, the data set has {classes}"):
        dlr(LOGITS[:, :classes], LABEL, targets)


def test_dlr_does_not_depend_on_the_scale_of_the_logits():
    torch.testing.assert_close(dlr(LOGITS * 100 + 3, LABEL), dlr(LOGITS, LABEL))


# PGD and its kin


@pytest.mark.parametrize("attack", [pgd, cw])
@pytest.mark.parametrize("norm,epsilon", [("linf", 4 / 255), ("l2", 0.5)])
def test_attacks_move_inside_the_ball_and_raise_the_margin(tiny, small_birds, attack, norm, epsilon):
    images, labels = batch(small_birds)
    text = tiny.encode_text(small_birds.prompts)
    threat = ThreatModel(epsilon=epsilon, norm=norm, steps=5)
    adversarial = attack(tiny, images, labels, text, threat)
    delta = adversarial - images
    size = delta.abs().amax() if norm == "linf" else delta.flatten(1).norm(dim=1).max()
    assert 0 < size <= epsilon + 1e-6
    with torch.no_grad():
        before, after = (margin(tiny.logits(x, text), labels) for x in (images, adversarial))
    assert (after > before).all()


def test_batch_size_does_not_change_the_attack_in_single_precision(tiny, small_birds):
    """Trap I3; test_image_properties.py has the strict form of this, in double precision and for all attacks."""
    images, labels = batch(small_birds)
    text, ids = tiny.encode_text(small_birds.prompts).detach(), small_birds.ids
    threat = ThreatModel(epsilon=4 / 255, steps=4)
    whole = pgd(tiny, images, labels, text, threat, ids)
    for size in (1, 5):
        parts = [pgd(tiny, images[i], labels[i], text, threat, ids[i]) for i in torch.arange(21).split(size)]
        with torch.no_grad():
            found = [tiny.logits(x, text) for x in (whole, torch.cat(parts))]
        assert torch.equal(*(logits.argmax(1) for logits in found))
        torch.testing.assert_close(*(margin(logits, labels) for logits in found), atol=5e-3, rtol=0)


def test_more_steps_and_restarts_never_help_the_defender(embedded, birds):
    images, labels = batch(birds)
    text = embedded.encode_text(birds.prompts)

    def worst(**changes):
        adversarial = pgd(embedded, images, labels, text, ThreatModel(epsilon=1 / 255, **changes))
        with torch.no_grad():
            return margin(embedded.logits(adversarial, text), labels)

    few = worst(steps=2)
    assert worst(steps=10).mean() > few.mean()
    assert (worst(steps=2, restarts=3) >= few - 1e-4).all()


def test_best_or_last_iterate(tiny, small_birds):
    """With a step of the size of the ball, iterates jump from corner to corner (trap I2): `best` must be no worse than `last`.

    `last` is what published code returns; stopping early must not turn it into something else.
    """
    images, labels = batch(small_birds)
    text = tiny.encode_text(small_birds.prompts).detach()
    wild = ThreatModel(epsilon=8 / 255, step_size=8 / 255, steps=6)
    delta = project(random_start(images.shape[1:], wild, range(21)), images, wild)
    for _ in range(wild.steps):
        x = (images + delta).requires_grad_()
        loss = F.cross_entropy(tiny.logits(x, text), labels, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, x)
        delta = project(delta + wild.step_size * gradient.sign(), images, wild)
    ours = pgd(tiny, images, labels, text, wild)
    same = [pgd(tiny, images, labels, text, wild.changed(keep="last"), stop=stop) for stop in (False, True)]
    with torch.no_grad():
        kept, last, *same = (margin(tiny.logits(x, text), labels) for x in (ours, (images + delta).clamp(0, 1), *same))
    for margins in same:
        torch.testing.assert_close(margins, last, atol=1e-3, rtol=0)
    assert (kept >= last - 1e-4).all() and (kept > last + 1e-4).any()


def test_targets_are_the_likeliest_wrong_classes(tiny, small_birds):
    """With one target, that class's share of the probability grows; with all, the result is no weaker than with one."""
    images = batch(small_birds)[0]
    text = tiny.encode_text(small_birds.prompts).detach()
    with torch.no_grad():
        clean = tiny.logits(images, text)
        labels = clean.argmax(1)
        aim = likeliest_wrong(clean, labels, 1)
        threats = [ThreatModel(epsilon=4 / 255, steps=5, targets=targets) for targets in (1, 20)]
    one, all_of_them = (pgd(tiny, images, labels, text, threat) for threat in threats)
    with torch.no_grad():
        assert (tiny.logits(one, text).softmax(1).gather(1, aim) > clean.softmax(1).gather(1, aim)).all()
        one, all_of_them = (margin(tiny.logits(x, text), labels) for x in (one, all_of_them))
    assert (all_of_them >= one - 1e-4).all()


@pytest.mark.parametrize("norm,epsilon", [("linf", 2 / 255), ("l2", 0.2)])
def test_fgsm_uses_the_whole_budget(tiny, small_birds, norm, epsilon):
    images, labels = batch(small_birds)
    text = tiny.encode_text(small_birds.prompts)
    delta = fgsm(tiny, images, labels, text, ThreatModel(epsilon=epsilon, norm=norm)) - images
    if norm == "linf":
        inside = (images > 3 / 255) & (images < 1 - 3 / 255)
        torch.testing.assert_close(delta[inside].abs(), torch.full_like(delta[inside], epsilon), atol=1e-6, rtol=0)
    else:
        length = delta.flatten(1).norm(dim=1)  # what would leave [0, 1] is cut
        assert (length <= epsilon + 1e-6).all() and length.max() > 0.9 * epsilon


@pytest.mark.parametrize("attack", [feature, feature_l2])
def test_feature_attacks_need_no_labels_and_move_the_embedding(tiny, small_birds, attack):
    images, labels = batch(small_birds)
    text = tiny.encode_text(small_birds.prompts)
    threat = ThreatModel(epsilon=4 / 255, steps=8)
    adversarial = attack(tiny, images, labels, text, threat)
    assert torch.equal(adversarial, attack(tiny, images, labels.flip(0), text.flip(0), threat))
    noisy = (images + random_start(images.shape[1:], threat, range(21))).clamp(0, 1)
    with torch.no_grad():
        clean, moved, shaken = (tiny.encode_image_raw(x) for x in (images, adversarial, noisy))
    if attack is feature:
        clean, moved, shaken = (F.normalize(x, dim=1) for x in (clean, moved, shaken))
    assert ((moved - clean).norm(dim=1) > 1.5 * (shaken - clean).norm(dim=1)).all()


def test_co_attack_moves_away_from_the_prompt_too(tiny, small_birds):
    images, labels = batch(small_birds)
    text = tiny.encode_text(small_birds.prompts).detach()
    threat = ThreatModel(epsilon=4 / 255, steps=8)
    plain, both = (feature(tiny, images, labels, text, threat, own_text=own) for own in (None, text[labels]))
    with torch.no_grad():
        plain, both = ((tiny.encode_image(x) * text[labels]).sum(1) for x in (plain, both))
    assert both.mean() < plain.mean()
