"""FAB-T: the nearest picture beyond the boundary to each likely wrong class (Croce and Hein, ICML 2020, twice).

Algorithm 1 of "Minimally distorted adversarial examples with a fast adaptive boundary attack", in its targeted form, the third
part of AutoAttack. Each step takes the boundary between label and target for flat, goes to the point of it next to where it
is, drawn towards the one next to the picture, and a little beyond. From a point past the boundary it goes back towards the
picture. No radius steers this search: what it meets inside the ball counts, and at last the point of the ball next to where
it ends. Nothing is random.
"""

import torch

from mmcoa.attacks.ball import project
from mmcoa.attacks.losses import likeliest_wrong, margin
from mmcoa.attacks.pgd import BROKEN, keep_better, on_fixed_weights
from mmcoa.model.clip import check_pixels

ATTACK = dict(
    name="fab-t",
    summary="nearest point beyond the boundary to each of the likeliest wrong classes",
    source="Croce and Hein, ICML 2020 (FAB)",
    label="FAB targeted",
    knows="weights, label",
    version=1,
    uses=("epsilon", "norm", "attacked_space", "apgd_steps", "targets"),
    default={"targets": 9},
    budget="apgd_steps",
    order=23,
)
DRAW = 0.1  # largest share of the step that is taken from the picture itself (alpha_max of the paper)
BEYOND = 1.05  # overshoot (eta)
BACK = 0.9  # share of the way from the picture that is kept after a success (beta)
ROUNDS = 50  # of Newton's method at most; three or four are usual


@on_fixed_weights
def attack(model, images, labels, text_features, threat, sample_ids=None, stop=False):
    """`threat.apgd_steps` steps towards each of `threat.targets` classes (9, as in AutoAttack, for 0); arguments as `pgd`.

    Returns the adversarial images [N, 3, H, W]: of all points inside the ball the one with the largest margin.
    """
    check_pixels(images)
    text_features = text_features.detach()
    with torch.no_grad():
        logits = model.logits(images, text_features).float()
    best, score = images.clone(), margin(logits, labels)
    for aim in likeliest_wrong(logits, labels, threat.targets or ATTACK["default"]["targets"]).unbind(dim=1):
        rows = torch.arange(len(images), device=images.device)
        rows = rows[score <= BROKEN] if stop else rows
        here = images[rows]
        _approach(model, labels, text_features, threat, rows, here, aim, best, score, stop)
    return best


def _approach(model, labels, text_features, threat, rows, here, aim, best, score, stop):
    """One run towards the classes `aim` [N]; updates `best` and `score` [N], the images and margins to return, at `rows`."""
    x, norm = here.clone(), threat.norm
    for _ in range(threat.apgd_steps):
        if not len(rows):
            return
        with torch.enable_grad():
            x.requires_grad_()
            logits = model.logits(x, text_features).float()
            gap = margin(logits, labels[rows], aim[rows])
            (gradient,) = torch.autograd.grad(gap.sum(), x)
        x, gap = x.detach(), gap.detach().to(gradient.dtype)
        at_picture = gap + (gradient * (here - x)).flatten(1).sum(dim=1)
        step, of_picture = onto_plane(x, gradient, gap, norm), onto_plane(here, gradient, at_picture, norm)
        one, two = _size(step, norm), _size(of_picture, norm)
        share = (one / (one + two).clamp_min(1e-12)).clamp(max=DRAW)[:, None, None, None]
        x = ((1 - share) * (x + BEYOND * step) + share * (here + BEYOND * of_picture)).clamp(0, 1)
        with torch.no_grad():
            found = margin(model.logits(x, text_features).float(), labels[rows])
        inside = _size(x - here, norm) <= threat.epsilon
        keep_better(best, score, rows[inside], x[inside], found[inside])
        x = torch.where((found > 0)[:, None, None, None], here + BACK * (x - here), x)
        if stop and (score[rows] > BROKEN).any():
            standing = score[rows] <= BROKEN
            rows, here, x = rows[standing], here[standing], x[standing]
    x = (here + project(x - here, here, threat)).clamp(0, 1)
    with torch.no_grad():
        keep_better(best, score, rows, x, margin(model.logits(x, text_features).float(), labels[rows]))


def onto_plane(x, slope, value, norm):
    """The smallest move d within [0,1] that brings value + <slope, d> to 0, [n, 3, H, W]; as far as the box allows.

    x, slope: float [n, 3, H, W]; value: float [n]; norm: `linf` or `l2`, by which it is smallest. Each pixel goes t (l_inf) or
    t |slope| (l_2) towards 0, or stops at the edge of the box; what is gained is concave and piecewise linear in t, so that
    Newton's method from t = 0 finds it from below.
    """
    steep, needed = slope.abs(), value.abs()
    way = -value.sign()[:, None, None, None] * slope.sign()
    room = torch.where(way > 0, 1 - x, x)
    rate = torch.ones_like(steep) if norm == "linf" else steep
    t = torch.zeros_like(value)
    for _ in range(ROUNDS):
        moved = torch.minimum(t[:, None, None, None] * rate, room)
        lacking = needed - (steep * moved).flatten(1).sum(dim=1)
        gain = (steep * rate * (moved < room)).flatten(1).sum(dim=1)
        going = (lacking > 1e-5 * needed) & (gain > 0)  # sample by sample: neighbours do not count
        if not going.any():
            break
        t = torch.where(going, t + lacking / gain.clamp_min(torch.finfo(gain.dtype).tiny), t)
    return way * torch.minimum(t[:, None, None, None] * rate, room)


def _size(delta, norm):
    """Of each sample's move, [n]."""
    return delta.flatten(1).abs().amax(dim=1) if norm == "linf" else delta.flatten(1).norm(dim=1)
