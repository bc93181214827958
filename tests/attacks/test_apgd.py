import math

import pytest
import torch

from mmcoa.attacks.apgd import _judge, checkpoints
from mmcoa.attacks.ball import project, random_start, step_direction
from mmcoa.attacks.image.apgd_ce import attack as apgd_ce
from mmcoa.attacks.image.apgd_dlr import attack as apgd_dlr
from mmcoa.attacks.image.apgd_dlr_t import attack as apgd_dlr_targeted
from mmcoa.attacks.losses import cross_entropy, dlr, likeliest_wrong, margin
from mmcoa.attacks.pgd import pgd
from mmcoa.errors import UserError
from mmcoa.threat import ThreatModel


@pytest.fixture
def case(tiny, small_birds):
    """(model, images, labels, text features) in double precision, so that rounding decides nothing; no sample is wrong yet."""
    model = tiny.double().requires_grad_(False)
    images, text = small_birds.images.double() / 255, model.encode_text(small_birds.prompts)
    return model, images, model.logits(images, text).argmax(1), text


def after(case, adversarial):
    """Logits of adversarial images."""
    model, _, _, text = case
    with torch.no_grad():
        return model.logits(adversarial, text)


def test_checkpoints_are_those_of_the_paper():
    """Section 3.2: p = 0, 0.22, then gaps that shrink by 0.03 to 0.06; ceil(p N)."""
    assert checkpoints(100) == [22, 41, 57, 70, 80, 87, 93, 99]
    assert checkpoints(50) == [11, 21, 29, 35, 40, 44, 47, 50]
    assert checkpoints(1) == [1]


def one_by_one(objective, image, start, threat):
    """Algorithm 1 of the paper for one sample, as plainly as possible. Returns all points that it visits."""

    def value(x):
        x = x.clone().requires_grad_()
        f = objective(x)
        return f.item(), torch.autograd.grad(f, x)[0]

    def into_ball(x):
        return image + project(x - image, image, threat)

    n, eta = threat.apgd_steps, 2 * threat.epsilon
    p = [0, 0.22]
    while p[-1] < 1:
        p.append(p[-1] + max(p[-1] - p[-2] - 0.03, 0.06))
    w = [math.ceil(round(share * n, 9)) for share in p]
    x = [into_ball(image + start)]
    f, g = zip(*[value(x[0])], strict=True)
    f, g = list(f), list(g)
    f_max, x_max, g_max = f[0], x[0], g[0]
    visited, eta_at, f_max_at = [x[0]], {0: eta}, {0: f_max}
    rose = []
    for k in range(n):
        z = into_ball(x[-1] + eta * step_direction(g[-1], threat.norm))
        new = z if k == 0 else into_ball(x[-1] + 0.75 * (z - x[-1]) + 0.25 * (x[-1] - x[-2]))
        f_new, g_new = value(new)
        visited.append(new)
        rose.append(f_new > f[-1])
        x, f, g = [x[-1], new], [f_new], [g_new]
        if f_new > f_max:
            f_max, x_max, g_max = f_new, new, g_new
        if k + 1 in w:
            j = w.index(k + 1)
            few = sum(rose[w[j - 1] : w[j]]) < 0.75 * (w[j] - w[j - 1])
            still = eta_at[w[j - 1]] == eta and f_max_at[w[j - 1]] == f_max
            eta_at[w[j]], f_max_at[w[j]] = eta, f_max
            if few or still:
                eta = eta / 2
                x, f, g = [x[-2], x_max], [f_max], [g_max]
    return visited


class Rugged:
    """A "model" of five classes with many local maxima, so that steps are halved at all times. Records what it is asked."""

    def __init__(self):
        generator = torch.Generator().manual_seed(0)
        self.waves = torch.randn(3 * 6 * 6, 40, generator=generator).double()
        self.mix = torch.randn(40, 5, generator=generator).double()
        self.asked = []

    def logits(self, pixels, text_features):
        self.asked.append(pixels.detach())
        return (pixels.flatten(1) @ self.waves).sin() @ self.mix


@pytest.mark.parametrize(
    "function,loss,targets", [(apgd_ce, cross_entropy, 0), (apgd_dlr, dlr, 0), (apgd_dlr_targeted, dlr, 1)]
)
@pytest.mark.parametrize("norm,epsilon", [("linf", 0.1), ("l2", 1.0)])
def test_each_sample_goes_the_way_of_the_algorithm(function, loss, targets, norm, epsilon):
    """All points that a batch of six visits are those that the paper's algorithm visits, run for each sample alone."""
    model, threat = Rugged(), ThreatModel(epsilon=epsilon, norm=norm, apgd_steps=60, targets=targets, restarts=2)
    images = torch.rand(6, 3, 6, 6, generator=torch.Generator().manual_seed(1)).double()
    logits = model.logits(images, None)
    labels = logits.argmax(1)
    aims = likeliest_wrong(logits, labels, 1)[:, 0] if targets else None
    model.asked.clear()
    adversarial = function(model, images, labels, torch.zeros(5, 1), threat)
    batch = torch.stack(model.asked[-2 * 61 :], dim=1)  # [6, 2 * 61, ...]; the targeted attack asks once more, before
    for i in range(len(images)):
        label, aim = labels[i : i + 1], aims[i : i + 1] if targets else None
        alone = []
        for restart in range(2):
            start = random_start(images.shape[1:], threat, [i], restart).double()
            objective = lambda x: loss(model.logits(x, None).float(), label, aim).sum()  # noqa: E731
            alone += one_by_one(objective, images[i : i + 1], start, threat)
        alone = torch.cat(alone).clamp(0, 1)
        torch.testing.assert_close(batch[i], alone, atol=1e-6, rtol=0)
        best = margin(model.logits(alone, None).float(), label.expand(len(alone))).argmax()
        torch.testing.assert_close(adversarial[i], alone[best], atol=1e-6, rtol=0)


def test_both_conditions_of_a_checkpoint():
    """Of samples: progress; too few rises; no new maximum at an unchanged size; none, but the size was just halved."""
    zeros, ones = torch.zeros(4, 3, 2, 2), torch.ones(4, 3, 2, 2)
    state = {
        "rises": torch.tensor([8.0, 7.0, 8.0, 8.0]),
        "halved": torch.tensor([False, False, False, True]),
        "top_loss": torch.tensor([2.0, 2.0, 1.0, 1.0]),
        "loss_then": torch.ones(4),
        "loss": torch.zeros(4),
        "size": torch.ones(4),
        "delta": zeros,
        "top_delta": ones,
        "gradient": zeros,
        "top_gradient": ones,
    }
    _judge(state, 10)
    assert state["halved"].tolist() == [False, True, True, False]
    assert state["size"].tolist() == [1, 0.5, 0.5, 1]
    assert state["loss"].tolist() == [0, 2, 1, 0] and state["rises"].tolist() == [0, 0, 0, 0]
    assert state["loss_then"].tolist() == [2, 2, 1, 1]
    for name in ("delta", "gradient"):  # back to the best point
        assert state[name].flatten(1).mean(1).tolist() == [0, 1, 1, 0]


class Bowl:
    """A "model" of three classes whose margin at class 0 falls with the distance from one point near grey pictures."""

    def __init__(self, shape):
        offset = torch.rand(shape, generator=torch.Generator().manual_seed(1)).double()
        self.top = 0.5 + 0.3 * offset / offset.norm()

    def logits(self, pixels, text_features):
        away = (pixels - self.top).flatten(1).norm(dim=1)
        return torch.stack([away, torch.zeros_like(away), away - 9], dim=1)


def test_steps_shrink_until_the_top_is_reached():
    """Twice the ball's radius overshoots: with steps of that size for good, PGD stays far away from the top."""
    grey, labels = torch.full((5, 3, 8, 8), 0.5).double(), torch.zeros(5, dtype=torch.long)
    bowl = Bowl((3, 8, 8))
    threat = ThreatModel(epsilon=0.5, norm="l2", steps=60, apgd_steps=60, step_size=1.0)
    away = [bowl.logits(f(bowl, grey, labels, torch.zeros(3, 1), threat), None)[:, 0] for f in (apgd_ce, apgd_dlr, pgd)]
    assert away[0].max() < 0.02 and away[1].max() < 0.02
    assert away[2].min() > 0.1


@pytest.mark.parametrize("function,needed", [(apgd_dlr, 3), (apgd_dlr_targeted, 4)])
def test_too_few_classes_for_dlr_are_refused(case, function, needed):
    """Trap I6."""
    model, images, labels, text = case
    threat = ThreatModel(apgd_steps=2)
    few = torch.zeros_like(labels)
    with pytest.raises(UserError, match=rf"needs {needed} classes, the data set has {needed - 1}; use apgd-ce"):
        function(model, images, few, text[: needed - 1], threat)
    assert function(model, images, few, text[:needed], threat).shape == images.shape
    assert apgd_ce(model, images, few, text[: needed - 1], threat).shape == images.shape


@pytest.mark.parametrize("function", [apgd_ce, apgd_dlr_targeted])
def test_one_target_is_the_likeliest_wrong_class(case, function):
    model, images, labels, text = case
    aim = likeliest_wrong(after(case, images), labels, 1)[:, 0]
    adversarial = function(model, images, labels, text, ThreatModel(epsilon=3 / 255, apgd_steps=15, targets=1))
    predicted = after(case, adversarial).argmax(1)
    assert (predicted != labels).sum() > 5
    assert (predicted == aim)[predicted != labels].all()


def test_more_targets_are_never_weaker(case):
    model, images, labels, text = case
    images, labels = images[:10], labels[:10]
    threats = [ThreatModel(epsilon=6 / 255, apgd_steps=4, targets=k) for k in (1, 4, 0, 9, 50)]
    found = [after(case, apgd_dlr_targeted(model, images, labels, text, threat)) for threat in threats]
    one, four, default, nine, all_twenty = (margin(logits, labels) for logits in found)
    assert (four >= one - 1e-6).all() and (nine > one + 1e-6).any()
    assert (nine >= four - 1e-6).all() and (all_twenty >= nine - 1e-6).all()
    assert torch.equal(default, nine)


def test_apgd_returns_the_best_iterate_even_where_pgd_is_to_return_the_last(case):
    model, images, labels, text = case
    threat = ThreatModel(epsilon=2 / 255, apgd_steps=10)
    best, last = (apgd_ce(model, images, labels, text, threat.changed(keep=keep), stop=True) for keep in ("best", "last"))
    assert torch.equal(best, last)
