"""Projected gradient ascent on images: the search behind PGD, CW and the feature attacks, here and inside training.

All take the text features as given: text does not depend on the image, so prompts are encoded once (trap I1). Losses are
summed, not averaged, and random starts are drawn for each sample, so that the batch size does not change the outcome
(trap I3). Gradients are taken with respect to the image alone (trap T1).
"""

import contextlib
import functools

import torch
import torch.nn.functional as F

from mmcoa.attacks.ball import project, random_start, step_direction
from mmcoa.attacks.losses import aimed, cross_entropy, likeliest_wrong, margin
from mmcoa.model.clip import check_pixels

BROKEN = 1e-3  # margin, in logits, from which a sample counts as broken during the search: clear of rounding


def on_fixed_weights(attack):
    """Run `attack(model, ...)` while the model knows that no gradients of its weights are wanted, which is faster."""

    @functools.wraps(attack)
    def run(model, *arguments, **named):
        with getattr(model, "fixed", contextlib.nullcontext)():  # anything with `logits` can be attacked
            return attack(model, *arguments, **named)

    return run


def sparing(attack):
    """Run `attack(model, images, labels, ...)` on pictures whose label is not `threat.target`; the others stay as they are."""

    @functools.wraps(attack)
    def run(model, images, labels, text_features, threat, sample_ids=None, *arguments, **named):
        if threat.target is None:
            return attack(model, images, labels, text_features, threat, sample_ids, *arguments, **named)
        check_pixels(images)
        ids = torch.arange(len(images)) if sample_ids is None else torch.as_tensor(sample_ids)
        others, result = (labels != threat.target).nonzero()[:, 0], images.clone()
        if len(others):
            some = images[others], labels[others], text_features, threat, ids[others.cpu()]
            result[others] = attack(model, *some, *arguments, **named)
        return result

    return run


@on_fixed_weights
@sparing
def pgd(model, images, labels, text_features, threat, sample_ids=None, stop=False, loss=cross_entropy):
    """Projected gradient ascent on a loss over all class prompts (Madry et al., ICLR 2018).

    Arguments:
        images: float [N, 3, H, W] in [0, 1].
        labels: int64 [N] into the rows of `text_features`.
        text_features: unit embeddings [C, D] of the prompts that the attacker sees.
        threat: `ThreatModel`; step size, steps, restarts, targets and `keep` are its own. With `target`, the number of a class,
            the margin is that of the class over all others, and pictures of the class itself stay as they are.
        sample_ids: integers [N] that name the samples, for the random starts; default 0..N-1.
        stop: leave a sample alone as soon as it is broken. Which samples break is the same, only not by how much.
        loss: a function of attacks/losses.py.

    Returns the adversarial images, float [N, 3, H, W] in [0, 1]: of all iterates of all restarts the one with the largest
    margin of a wrong class (trap I2), or with `keep="last"` the last one. A sample that is wrong already is attacked too.
    """
    check_pixels(images)
    text_features = text_features.detach()
    aims = [None]
    (loss, own), (score, _) = (aimed(each, labels, threat.target) for each in (loss, margin))
    if threat.target is None and threat.targets:
        with torch.no_grad():
            aims = likeliest_wrong(model.logits(images, text_features), labels, threat.targets).unbind(dim=1)

    def objective(aim):
        def loss_and_score(adversarial, rows):
            logits = model.logits(adversarial, text_features).float()
            target = None if aim is None else aim[rows]
            return loss(logits, own[rows], target), score(logits.detach(), own[rows])

        return loss_and_score

    return ascend([objective(aim) for aim in aims], images, threat, sample_ids, stop)


@on_fixed_weights
def feature(
    model, images, labels, text_features, threat, sample_ids=None, stop=False, distance="cosine", own_text=None, clean=None
):
    """Push the embedding away from the clean picture's; knows neither labels nor prompts. Arguments as `pgd`.

    `cosine`: 1 - <f(x'), f(x)>; `l2`: squared distance before normalisation (FARE, Schlarmann et al., ICML 2024). The start
    is random: at x itself the gradient is zero. The iterate of the largest distance is kept, so `stop` has no effect.
    `own_text`: unit embeddings [N, D] to move away from too (Co-Attack, Zhang et al., MM 2022). `clean`: embeddings [N, D]
    before normalisation to move away from, where they are another model's.
    """
    check_pixels(images)
    if clean is None:
        with torch.no_grad():
            clean = model.encode_image_raw(images).float()

    def loss_and_score(adversarial, rows):
        raw = model.encode_image_raw(adversarial).float()
        near = F.cosine_similarity(raw, clean[rows], dim=1)
        loss = (raw - clean[rows]).square().sum(dim=1) if distance == "l2" else 1 - near
        if own_text is not None:
            loss = loss + 1 - (F.normalize(raw, dim=1) * own_text[rows].float()).sum(dim=1)
        return loss, loss.detach()

    return ascend([loss_and_score], images, threat, sample_ids, stop=False)


def ascend(objectives, images, threat, sample_ids=None, stop=False):
    """Projected gradient ascent from `threat.restarts` random starts for each objective; the best iterate of all, [N, 3, H, W].

    An objective maps (adversarial images of some rows, these rows) to (loss [n], differentiated; score [n], by which the
    best iterate is kept). With `stop`, rows whose score passes `BROKEN` leave the batch.
    """
    sample_ids = torch.arange(len(images)) if sample_ids is None else torch.as_tensor(sample_ids)
    best, best_score = images.clone(), torch.full((len(images),), -torch.inf, device=images.device)
    stop = stop and threat.keep == "best"
    for objective in objectives:
        for restart in range(threat.restarts):
            rows = (best_score <= BROKEN).nonzero()[:, 0] if stop else torch.arange(len(images), device=images.device)
            if not len(rows):
                return best
            here = images[rows]
            delta = random_start(images.shape[1:], threat, sample_ids[rows.cpu()], restart).to(images.device, images.dtype)
            delta = project(delta, here, threat)
            finals = _climb(objective, rows, here, delta, threat, best, best_score, stop)
            if threat.keep == "last":
                keep_better(best, best_score, rows, *finals)
    return best


def _climb(objective, rows, here, delta, threat, best, best_score, stop):
    """One run; updates `best` and `best_score` unless the last iterate is wanted. Returns (last iterate, its score)."""
    for step in range(threat.steps + 1):
        last = step == threat.steps
        adversarial = (here + delta).clamp(0, 1).requires_grad_(not last)
        with torch.set_grad_enabled(not last):  # a caller may have switched gradients off
            loss, score = objective(adversarial, rows)
            total = loss.sum()
        if threat.keep == "best":
            keep_better(best, best_score, rows, adversarial.detach(), score)
        if last:
            break
        (gradient,) = torch.autograd.grad(total, adversarial)
        delta = project(delta + threat.step_size * step_direction(gradient, threat.norm), here, threat)
        if stop and (best_score[rows] > BROKEN).any():
            standing = best_score[rows] <= BROKEN
            rows, here, delta = rows[standing], here[standing], delta[standing]
            if not len(rows):
                break
    return adversarial.detach(), score


def keep_better(best, best_score, rows, candidates, scores):
    """Put candidates of some rows, [n, 3, H, W], into `best` where they score more, their scores [n] into `best_score`."""
    better = scores > best_score[rows]
    best[rows[better]] = candidates[better]
    best_score[rows[better]] = scores[better]
