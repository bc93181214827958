"""Scores against one picture, one variant, one comparison at a time."""

import pytest
import torch
import torch.nn.functional as F

from mmcoa.attacks.scores import EmbeddingScore, LabelledFeatures, MarginScore, make_score
from mmcoa.errors import UserError
from mmcoa.threat import ThreatModel


def problem(seed, classes=5, pictures=40, variants=30, width=6):
    """Random pictures near their classes' prompts, and variants of the prompts."""
    generator = torch.Generator().manual_seed(seed)
    prompts = F.normalize(torch.randn(classes, width, generator=generator), dim=-1)
    labels = torch.randint(classes, (pictures,), generator=generator)
    features = F.normalize(prompts[labels] + 0.6 * torch.randn(pictures, width, generator=generator), dim=-1)
    owner = torch.randint(classes, (variants,), generator=generator)
    texts = F.normalize(prompts[owner] + 0.5 * torch.randn(variants, width, generator=generator), dim=-1)
    return LabelledFeatures(features, labels), prompts, owner, texts


def slow_score(attacker, prompts, index, text):
    """(wrong pictures, mean margin) with prompt `index` replaced."""
    changed = prompts.clone()
    changed[index] = text
    wrong, margins = 0, 0.0
    for picture, label in zip(attacker.features, attacker.labels.tolist(), strict=True):
        similarities = [float(picture @ prompt) for prompt in changed]
        other = max(s for c, s in enumerate(similarities) if c != label)
        wrong += other > similarities[label]
        margins += similarities[label] - other
    return wrong, margins / len(attacker.labels)


def slow_choice(attacker, prompts, clean, owner, texts, index):
    """(best option of a prompt, -1: clean; wrong pictures) as everything else stands in `prompts`."""
    options = [(-1, clean[index]), *((v, texts[v]) for v in range(len(texts)) if owner[v] == index)]
    scored = [(*slow_score(attacker, prompts, index, text), v) for v, text in options]
    wrong, _, v = max(scored, key=lambda s: (s[0], -s[1]))
    return v, wrong


@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize("seed", range(3))
def test_margin_ranks_as_a_loop_does(seed, classes):
    attacker, prompts, owner, texts = problem(seed, classes)
    score = MarginScore(attacker, prompts, prompts, torch.arange(classes))
    ranked = score.rank(score.measure(texts), owner)
    slow = [slow_score(attacker, prompts, owner[v], texts[v]) for v in range(len(texts))]
    order = sorted(range(len(texts)), key=lambda v: (-slow[v][0], slow[v][1]))
    assert ranked.argsort(descending=True).tolist() == order
    pictures = len(attacker.labels)
    assert (ranked * pictures).floor().tolist() == [wrong for wrong, _ in slow]  # a small margin never outweighs a picture
    assert len({wrong for wrong, _ in slow}) > 3


@pytest.mark.parametrize("seed", range(3))
def test_all_at_once_is_the_best_answer_to_the_prompts_as_they_are(seed):
    attacker, clean, owner, texts = problem(seed)
    current = F.normalize(clean + 0.3 * torch.randn(clean.shape, generator=torch.Generator().manual_seed(9)), dim=-1)
    score = MarginScore(attacker, current, clean, torch.arange(5), greedy=False)
    chosen, shares = score.choose(score.measure(texts), owner, torch.ones_like(owner))
    expected = [slow_choice(attacker, current, clean, owner, texts, index) for index in range(5)]
    assert chosen == [v for v, _ in expected]
    assert [int(share * len(attacker.labels)) for share in shares] == [wrong for _, wrong in expected]


@pytest.mark.parametrize("seed", range(3))
def test_greedy_sweeps_are_those_of_a_loop_and_lose_no_picture(seed):
    attacker, clean, owner, texts = problem(seed)
    score = MarginScore(attacker, clean, clean, torch.arange(5))
    chosen, shares = score.choose(score.measure(texts), owner, torch.ones_like(owner))
    prompts, expected, trace = clean.clone(), [-1] * 5, [slow_score(attacker, clean, 0, clean[0])[0]]
    for _ in range(5):
        before = list(expected)
        for index in range(5):
            expected[index], wrong = slow_choice(attacker, prompts, clean, owner, texts, index)
            prompts[index] = clean[index] if expected[index] < 0 else texts[expected[index]]
            trace.append(wrong)
        if expected == before:
            break
    assert chosen == expected and any(v >= 0 for v in chosen)
    assert trace == sorted(trace) and trace[-1] > trace[0]
    assert int(max(shares) * len(attacker.labels)) == trace[-1]


def test_two_words_break_no_fewer_pictures_than_one():
    for seed in range(10):
        attacker, clean, owner, texts = problem(seed)
        words, shares = 1 + torch.arange(len(owner)) % 2, []
        for some in (words == 1, words <= 2):
            score = MarginScore(attacker, clean, clean, torch.arange(5))
            _, found = score.choose(score.measure(texts[some]), owner[some], words[some])
            shares.append(max(found))
        assert shares[1] >= shares[0]


def test_a_picture_outweighs_every_margin():
    """One variant breaks a picture by a hair, the other pulls all margins down and breaks none."""
    prompts = torch.eye(3)
    features = F.normalize(torch.tensor([[1.0, 0.98, 0.0], *[[1.0, 0.0, 0.0]] * 9]), dim=-1)
    attacker = LabelledFeatures(features, torch.zeros(10, dtype=torch.int64))
    score = MarginScore(attacker, prompts, prompts, torch.arange(3))
    breaks, lowers = F.normalize(torch.tensor([[1.0, -0.03, 0.0], [0.9, 0.9, 0.5]]), dim=-1)
    ranked = score.rank(score.measure(torch.stack([breaks, lowers])), torch.tensor([0, 0]))
    assert 0.1 < ranked[0] < 0.2 and 0 < ranked[1] < 0.1
    assert slow_score(attacker, prompts, 0, breaks)[1] > slow_score(attacker, prompts, 0, lowers)[1]


def test_embedding_chooses_the_farthest_and_leaves_what_does_not_move():
    clean = torch.eye(3)
    texts = torch.stack([clean[0], F.normalize(torch.tensor([1.0, 1.0, 0.0]), dim=0), clean[2], clean[1]])
    score = EmbeddingScore(clean)
    owner = torch.tensor([0, 0, 2, 0])
    chosen, distances = score.choose(score.measure(texts, owner), owner, torch.ones(4))
    assert chosen == [3, -1, -1] and distances == pytest.approx([1, 0, 0])


def test_margin_says_what_it_needs():
    threat = ThreatModel(text_score="margin")
    with pytest.raises(UserError, match="needs labelled pictures"):
        make_score(threat, torch.eye(3))
    with pytest.raises(UserError, match=r"must lie in \[0, 2\]"):
        make_score(threat, torch.eye(3), LabelledFeatures(torch.eye(3), torch.tensor([0, 1, 3])))
