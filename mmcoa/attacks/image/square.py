"""Square Attack: random search over squares of one colour, without gradients (Andriushchenko et al., ECCV 2020).

A black-box attack: it sees logits alone, and so finds what gradient attacks miss where gradients are masked. All random
numbers of a sample are drawn at once from (seed, sample id, restart): neighbours in a batch do not count.
"""

from math import sqrt

import torch

from mmcoa.attacks.ball import project, sample_generator
from mmcoa.attacks.losses import margin
from mmcoa.attacks.pgd import BROKEN, keep_better, on_fixed_weights
from mmcoa.model.clip import check_pixels

ATTACK = dict(
    name="square",
    summary="random search, black box",
    source="Andriushchenko et al., ECCV 2020",
    label="Square",
    knows="logits, label",
    version=1,
    uses=("epsilon", "norm", "attacked_space", "queries", "restarts", "seed"),
    budget="queries",
    order=40,
)
FIRST_SHARE = 0.8  # of the picture that the first square covers, as in AutoAttack
HALVED_AT = (10, 50, 200, 1000, 2000, 4000, 6000, 8000)  # queries after which the share halves, of 10,000 (section 5)


@torch.no_grad()
@on_fixed_weights
def attack(model, images, labels, text_features, threat, sample_ids=None, stop=False):
    """Random search on the margin with `threat.queries` queries from each of `threat.restarts` starts; arguments as `pgd`.

    A query changes one square of the picture (l_inf: to a corner of the ball, algorithm 2 of the paper; l_2: moves the
    perturbation from one square into another, algorithm 3), and the change stays where it raises the margin. Returns the
    adversarial images [N, 3, H, W]: of all restarts the one with the largest margin.
    """
    check_pixels(images)
    text_features = text_features.detach()
    ids = torch.arange(len(images)) if sample_ids is None else torch.as_tensor(sample_ids)
    best, best_score = images.clone(), torch.full((len(images),), -torch.inf, device=images.device)
    least, begin, change, width = (1, _stripes, _recolour, 5) if threat.norm == "linf" else (3, _tiles, _relocate, 8)
    for restart in range(threat.restarts):
        rows = torch.arange(len(images), device=images.device)
        rows = rows[best_score <= BROKEN] if stop else rows
        if not len(rows):
            return best
        here = images[rows]
        generators = [sample_generator(threat.seed, int(sample), restart, "square") for sample in ids[rows.cpu()]]
        delta = project(begin(here, generators, threat), here, threat)
        draws = [torch.rand(threat.queries - 1, width, generator=generator) for generator in generators]
        draws = torch.stack(draws).to(images.device)  # [n, queries - 1, width], uniform in [0, 1)
        score = torch.full((len(rows),), -torch.inf, device=images.device)
        for query in range(threat.queries):
            if query:
                side = square_side(query, threat.queries, *images.shape[2:], least)
                candidate = project(change(delta, draws[:, query - 1], side, threat), here, threat)
            else:
                candidate = delta
            logits = model.logits((here + candidate).clamp(0, 1), text_features).float()
            found = margin(logits, labels[rows])
            delta = torch.where((found > score)[:, None, None, None], candidate, delta)
            score = torch.maximum(score, found)
            broken = score > BROKEN
            if stop and broken.any():
                keep_better(best, best_score, rows[broken], (here + delta).clamp(0, 1)[broken], score[broken])
                rows, here, delta, score, draws = (state[~broken] for state in (rows, here, delta, score, draws))
                if not len(rows):
                    break
        keep_better(best, best_score, rows, (here + delta).clamp(0, 1), score)
    return best


def square_side(query, queries, height, width, least):
    """Side of the square of one query: sqrt(share of the picture), at least `least`, odd for the l_2 attack (least 3)."""
    halvings = sum(query > at * queries / 10_000 for at in HALVED_AT)
    side = max(round(sqrt(FIRST_SHARE / 2**halvings * height * width)), least)
    if least > 1:
        side += 1 - side % 2
    return min(side, height, width)


def _stripes(here, generators, threat):
    """Start for l_inf: vertical stripes one pixel wide, each channel at -epsilon or +epsilon, [n, 3, 1, W]."""
    draws = torch.stack([torch.rand(here.shape[1], 1, here.shape[3], generator=generator) for generator in generators])
    return (_sign(draws) * threat.epsilon).to(here).expand_as(here)


def _recolour(delta, draw, side, threat):
    """One square set to -epsilon or +epsilon in each channel. `draw` [n, 5]: row, column, three signs."""
    inside = _inside(_corners(draw[:, :2], side, delta.shape[2:]), side, delta.shape[2:])
    colour = (_sign(draw[:, 2:]) * threat.epsilon).to(delta)
    return torch.where(inside, colour[:, :, None, None], delta)


def _tiles(here, generators, threat):
    """Start for l_2: about 5 x 5 tiles of `bump`, a random sign in each channel, the whole of length epsilon, [n, 3, H, W]."""
    height, width = here.shape[2:]
    side = max(min(height, width) // 5, 1)
    down, across = height // side, width // side
    draws = torch.stack([torch.rand(here.shape[1], down, across, generator=generator) for generator in generators])
    signs = _sign(draws).to(here).repeat_interleave(side, dim=2).repeat_interleave(side, dim=3)
    top, left = (height - down * side) // 2, (width - across * side) // 2
    delta = torch.zeros_like(here)
    delta[:, :, top : top + down * side, left : left + across * side] = signs * bump(side).to(here).repeat(down, across)
    return delta * (threat.epsilon / delta.flatten(1).norm(dim=1))[:, None, None, None]


def _relocate(delta, draw, side, threat):
    """The perturbation of one square is taken away and, with what is left of the budget, put into another as a `bump`.

    `draw` [n, 8]: row and column of the square that receives and of the one that gives, three signs, orientation.
    """
    size = delta.shape[2:]
    receiving, giving = _corners(draw[:, :2], side, size), _corners(draw[:, 2:4], side, size)
    gives = _inside(giving, side, size)
    both = gives | _inside(receiving, side, size)
    unused = (threat.epsilon**2 - delta.square().sum(dim=(1, 2, 3))).clamp_min(0)[:, None] / delta.shape[1]
    length = ((delta.square() * both).sum(dim=(2, 3)) + unused).sqrt()  # [n, 3]: what the receiving square may hold

    steps = torch.arange(side, device=delta.device)
    sample = torch.arange(len(delta), device=delta.device)[:, None, None, None]
    channel = torch.arange(delta.shape[1], device=delta.device)[None, :, None, None]
    row, column = (receiving[:, axis, None] + steps for axis in (0, 1))
    window = (sample, channel, row[:, None, :, None], column[:, None, None, :])  # indexes [n, 3, side, side]

    shape = bump(side).to(delta)
    shape = torch.where((draw[:, 7] < 0.5)[:, None, None], shape, shape.T)[:, None]
    new = _unit(_sign(draw[:, 4:7]).to(delta)[:, :, None, None] * shape + _unit(delta[window]))
    moved = delta.masked_fill(gives, 0)
    moved[window] = new * length[:, :, None, None]
    return moved


def bump(side):
    """A square of unit length, [side, side]: two halves of opposite sign, each falling from its centre (equation 2)."""
    half = side // 2
    square = torch.cat([_half_bump(side, half), -_half_bump(side, side - half)], dim=1)
    return square / square.norm()


def _half_bump(long, short):
    """[long, short]: the sum of 1 / k^2 for k from 1 + distance from the centre to 1 + long / 2."""
    reach = long // 2
    row, column = ((torch.arange(n) - n // 2).abs() for n in (long, short))
    distance = torch.maximum(row[:, None], column[None, :])
    sums = (1 / torch.arange(1.0, reach + 2).square()).flip(0).cumsum(0).flip(0)
    return sums[distance]


def _sign(draw):
    """Uniform in [0, 1) -> -1 or 1."""
    return (draw < 0.5).to(draw.dtype) * 2 - 1


def _corners(draw, side, size):
    """Uniform [n, 2] -> row and column of the upper left corner of a square inside the picture, int64 [n, 2]."""
    room = torch.tensor([length - side for length in size], device=draw.device)
    return torch.minimum((draw * (room + 1)).long(), room)


def _inside(corners, side, size):
    """Which pixels lie in the square of each sample, bool [n, 1, H, W]."""
    row, column = ((torch.arange(n, device=corners.device) - corners[:, axis, None]) for axis, n in enumerate(size))
    row, column = ((distance >= 0) & (distance < side) for distance in (row, column))
    return (row[:, :, None] & column[:, None, :])[:, None]


def _unit(x):
    """Each channel of each sample at unit length, [n, 3, h, w]."""
    return x / x.flatten(2).norm(dim=2).clamp_min(1e-12)[:, :, None, None]
