import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmcoa.attacks.image import fgsm, margin, pgd, project, random_start
from mmcoa.errors import UserError
from mmcoa.threat import ThreatModel


def batch(dataset, n=21):
    return dataset.images[:n].float() / 255, dataset.labels[:n]


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


@pytest.mark.parametrize("norm,epsilon", [("linf", 4 / 255), ("l2", 0.5)])
def test_pgd_moves_inside_the_ball_and_raises_the_margin(tiny, small_birds, norm, epsilon):
    images, labels = batch(small_birds)
    text = tiny.encode_text(small_birds.prompts)
    threat = ThreatModel(epsilon=epsilon, norm=norm, steps=5)
    adversarial = pgd(tiny, images, labels, text, threat)
    delta = adversarial - images
    size = delta.abs().amax() if norm == "linf" else delta.flatten(1).norm(dim=1).max()
    assert 0 < size <= epsilon + 1e-6
    assert adversarial.min() >= 0 and adversarial.max() <= 1
    with torch.no_grad():
        before, after = (margin(tiny.logits(x, text), labels) for x in (images, adversarial))
    assert (after > before).all()


def test_no_gradient_leaks_into_the_weights(tiny, small_birds):
    """Trap T1: the public code adds the attack's gradients to the weight update."""
    images, labels = batch(small_birds)
    tiny.requires_grad_(True)
    text = tiny.encode_text(small_birds.prompts)
    for attack in (pgd, fgsm):
        attack(tiny, images, labels, text, ThreatModel(steps=2))
    assert all(parameter.grad is None for parameter in tiny.parameters())


@pytest.mark.parametrize("size", [1, 5, 21])
def test_batch_size_does_not_change_the_attack(tiny, small_birds, size):
    """Trap I3: with mean-reduced losses or shared random starts, neighbours would change a sample's attack."""
    images, labels = batch(small_birds)
    text = tiny.encode_text(small_birds.prompts).detach()
    threat = ThreatModel(epsilon=4 / 255, steps=4)
    whole = pgd(tiny, images, labels, text, threat, small_birds.ids)
    ids = small_birds.ids
    parts = [pgd(tiny, images[i : i + size], labels[i : i + size], text, threat, ids[i : i + size]) for i in range(0, 21, size)]
    with torch.no_grad():
        outcomes = [tiny.logits(x, text).argmax(1) for x in (whole, torch.cat(parts))]
        margins = [margin(tiny.logits(x, text), labels) for x in (whole, torch.cat(parts))]
    assert torch.equal(*outcomes)
    torch.testing.assert_close(*margins, atol=5e-3, rtol=0)


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


def test_best_iterate_is_no_worse_than_the_last(tiny, small_birds):
    """With a step of the size of the ball, iterates jump from corner to corner (trap I2); the best one must be kept."""
    images, labels = batch(small_birds)
    text = tiny.encode_text(small_birds.prompts).detach()
    wild = ThreatModel(epsilon=8 / 255, step_size=8 / 255, steps=6)
    with torch.no_grad():
        kept = margin(tiny.logits(pgd(tiny, images, labels, text, wild), text), labels)
    delta = project(random_start(images.shape[1:], wild, range(21)), images, wild)
    for _ in range(wild.steps):
        x = (images + delta).requires_grad_()
        loss = torch.nn.functional.cross_entropy(tiny.logits(x, text), labels, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, x)
        delta = project(delta + wild.step_size * gradient.sign(), images, wild)
    with torch.no_grad():
        last = margin(tiny.logits(images + delta, text), labels)
    assert (kept >= last - 1e-4).all() and (kept > last + 1e-4).any()


def test_fgsm_uses_the_whole_budget(tiny, small_birds):
    images, labels = batch(small_birds)
    text = tiny.encode_text(small_birds.prompts)
    threat = ThreatModel(epsilon=2 / 255)
    delta = fgsm(tiny, images, labels, text, threat) - images
    inside = (images > 3 / 255) & (images < 1 - 3 / 255)
    torch.testing.assert_close(delta[inside].abs(), torch.full_like(delta[inside], 2 / 255), atol=1e-6, rtol=0)


def test_pgd_is_as_strong_as_torchattacks(embedded, birds):
    """The same step size, steps and ball in an independent implementation: never more than one sample weaker."""
    torchattacks = pytest.importorskip("torchattacks", reason="installed by `make test`")
    images, labels = batch(birds, 42)
    text = embedded.encode_text(birds.prompts)

    class Classifier(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = embedded

        def forward(self, x):
            return embedded.logits(x, text)

    threat = ThreatModel(epsilon=2 / 255, steps=10)
    ours = pgd(embedded, images, labels, text, threat)
    torch.manual_seed(0)
    theirs = torchattacks.PGD(Classifier(), eps=threat.epsilon, alpha=threat.step_size, steps=threat.steps)(images, labels)
    with torch.no_grad():
        robust_ours, robust_theirs = (int((embedded.logits(x, text).argmax(1) == labels).sum()) for x in (ours, theirs.detach()))
    assert robust_ours <= robust_theirs + 1
    assert robust_ours < 42


@pytest.mark.parametrize("images", [torch.rand(2, 3, 4, 4) * 255, torch.rand(2, 3, 4, 4) - 0.5, torch.zeros(2, 4, 4)])
def test_pixels_outside_the_range_are_refused(tiny, images):
    with pytest.raises(UserError, match="images"):
        pgd(tiny, images, torch.zeros(2, dtype=torch.long), torch.rand(3, 16), ThreatModel())
