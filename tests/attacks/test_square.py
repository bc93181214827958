import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmcoa.attacks.ball import project, sample_generator
from mmcoa.attacks.image import square as module
from mmcoa.attacks.image.square import attack as square
from mmcoa.attacks.image.square import bump, square_side
from mmcoa.attacks.losses import margin
from mmcoa.threat import ThreatModel


@pytest.fixture
def case(tiny, small_birds):
    """(model, images, labels, text features) in double precision; no sample is wrong yet."""
    model = tiny.double().requires_grad_(False)
    images, text = small_birds.images.double() / 255, model.encode_text(small_birds.prompts)
    return model, images, model.logits(images, text).argmax(1), text


class BlackBox:
    """Answers with logits alone: no graph leads back to the pixels. Counts batches and samples."""

    def __init__(self, model):
        self.model, self.batches, self.samples = model, 0, 0

    def logits(self, pixels, text_features):
        self.batches, self.samples = self.batches + 1, self.samples + len(pixels)
        with torch.no_grad():
            return torch.from_numpy(self.model.logits(pixels, text_features).numpy().copy())


@pytest.mark.parametrize("norm,epsilon", [("linf", 4 / 255), ("l2", 0.3)])
def test_logits_are_all_it_needs_and_queries_are_counted(case, norm, epsilon):
    model, images, labels, text = case
    box = BlackBox(model)
    threat = ThreatModel(epsilon=epsilon, norm=norm, queries=40, restarts=2)
    adversarial = square(box, images, labels, text, threat)
    assert box.batches == 2 * 40 and box.samples == 2 * 40 * len(images)
    before, after = (margin(model.logits(x, text), labels) for x in (images, adversarial))
    assert (after > before).all() and (after > 0).any()
    stopped = BlackBox(model)
    square(stopped, images, labels, text, threat, stop=True)
    assert stopped.samples < box.samples


def test_schedule_of_the_side():
    """Section 5: the share is 0.8 at first and halves at 10, 50, 200, 1000, ... of 10,000 queries; other budgets rescale."""
    assert [square_side(q, 10_000, 64, 64, 1) for q in (1, 10)] == [57, 57]  # round(sqrt(0.8 * 4096))
    after_halving = [square_side(at + 1, 10_000, 64, 64, 1) for at in (10, 50, 200, 1000, 2000, 4000, 6000, 8000)]
    assert after_halving == [40, 29, 20, 14, 10, 7, 5, 4]
    assert square_side(100, 500, 64, 64, 1) == square_side(2000, 10_000, 64, 64, 1)
    assert square_side(9_999, 10_000, 8, 8, 1) == 1
    assert [square_side(9_999, 10_000, 16, 16, 3), square_side(11, 10_000, 64, 64, 3)] == [3, 41]  # odd in l_2
    assert square_side(1, 1000, 4, 64, 1) == 4  # never larger than the picture


@pytest.mark.parametrize("side", [1, 2, 3, 6, 7])
def test_bump_is_that_of_the_paper(side):
    """Equation 2, one pixel at a time: indices from 1, the long side first."""

    def rectangle(long, short):
        n = long // 2

        def value(r, s):
            reach = n - max(abs(r - long // 2 - 1), abs(s - short // 2 - 1))
            return sum(1 / (n + 1 - k) ** 2 for k in range(reach + 1))

        return [[value(r, s) for s in range(1, short + 1)] for r in range(1, long + 1)]

    half = side // 2
    rows = [a + [-x for x in b] for a, b in zip(rectangle(side, half), rectangle(side, side - half), strict=True)]
    length = math.sqrt(sum(x * x for row in rows for x in row))
    torch.testing.assert_close(bump(side), torch.tensor(rows) / length)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), side=st.integers(1, 9), height=st.integers(9, 12), width=st.integers(9, 12))
def test_l_inf_recolours_one_square(seed, side, height, width):
    generator = torch.Generator().manual_seed(seed)
    delta = torch.rand(4, 3, height, width, generator=generator) * 1e-3
    changed = module._recolour(delta, torch.rand(4, 5, generator=generator), side, ThreatModel(epsilon=0.1))
    for before, after in zip(delta, changed, strict=True):
        touched = (before != after).any(0)
        assert int(touched.sum()) == side**2
        assert touched.any(0).sum() == side and touched.any(1).sum() == side
        assert torch.equal(after[:, touched].abs(), torch.full((3, side**2), 0.1))
        assert all(len(channel.unique()) == 1 for channel in after[:, touched])


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), side=st.sampled_from([3, 5, 7]), height=st.integers(9, 12), width=st.integers(9, 12))
def test_l_2_moves_the_budget_from_one_square_into_another(seed, side, height, width):
    """Algorithm 3: all of epsilon is used afterwards, and only the two squares change."""
    generator = torch.Generator().manual_seed(seed)
    threat = ThreatModel(epsilon=0.5, norm="l2")
    delta = torch.randn(4, 3, height, width, generator=generator)
    delta = project(delta, torch.full_like(delta, 0.5), threat) * torch.rand(4, generator=generator)[:, None, None, None]
    draw = torch.rand(4, 8, generator=generator)
    changed = module._relocate(delta, draw, side, threat)
    torch.testing.assert_close(changed.flatten(1).norm(dim=1), torch.full((4,), 0.5))
    for i in range(4):
        (top, left), (row, column) = module._corners(draw[i, :4].view(2, 2), side, (height, width)).tolist()
        receives, gives = torch.zeros(2, height, width, dtype=torch.bool)
        receives[top : top + side, left : left + side] = True
        gives[row : row + side, column : column + side] = True
        assert torch.equal(changed[i][:, ~receives & ~gives], delta[i][:, ~receives & ~gives])
        assert (changed[i][:, gives & ~receives] == 0).all()


def test_starts_use_the_whole_ball():
    here = torch.full((3, 3, 16, 18), 0.5)
    generators = [sample_generator(i) for i in range(3)]
    stripes = module._stripes(here, generators, ThreatModel(epsilon=0.1))
    assert torch.equal(stripes.abs(), torch.full_like(here, 0.1))
    assert (stripes == stripes[:, :, :1]).all() and len(stripes[0, 0, 0].unique()) == 2
    assert not torch.equal(stripes[0], stripes[1])
    tiles = module._tiles(here, generators, ThreatModel(epsilon=0.1, norm="l2"))
    torch.testing.assert_close(tiles.flatten(1).norm(dim=1), torch.full((3,), 0.1))
    assert not torch.equal(tiles[0], tiles[1])


def test_squares_fall_everywhere_in_the_picture():
    """Positions reach both edges, and never leave the picture, even for the largest number below 1."""
    draw = torch.tensor([[0.0, 0.0], [1 - 2**-24, 1 - 2**-24], [0.5, 0.5]])
    assert module._corners(draw, 4, (60, 61)).tolist() == [[0, 0], [56, 57], [28, 29]]


def test_more_queries_help_the_attacker(case):
    model, images, labels, text = case
    for norm, epsilon in (("linf", 4 / 255), ("l2", 0.3)):
        threats = [ThreatModel(epsilon=epsilon, norm=norm, queries=queries) for queries in (5, 150)]
        few, many = (margin(model.logits(square(model, images, labels, text, threat), text), labels) for threat in threats)
        assert many.mean() > few.mean()
        assert (many > 0).sum() >= (few > 0).sum()
