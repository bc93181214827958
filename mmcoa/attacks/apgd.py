"""Auto-PGD: projected gradient ascent whose step sizes follow the progress of each sample (Croce and Hein, ICML 2020).

Algorithm 1 of the paper: momentum, a first step of twice the ball's radius, and checkpoints at which a sample that makes no
progress halves its step and goes back to the best point found. The loss steers this search; what is returned is the
iterate of the largest margin. All state is kept sample by sample, so that neighbours in a batch do not count.
"""

from math import ceil

import torch

from mmcoa.attacks.ball import project, random_start, step_direction
from mmcoa.attacks.losses import aimed, likeliest_wrong, margin
from mmcoa.attacks.pgd import BROKEN, keep_better, on_fixed_weights, sparing
from mmcoa.model.clip import check_pixels

MOMENTUM = 0.75  # share of the new step in a move; the rest is the last move again
PROGRESS = 0.75  # share of steps that must raise the loss for a step size to stay


@on_fixed_weights
@sparing
def apgd(model, images, labels, text_features, threat, sample_ids, stop, loss, targets=0):
    """APGD on a loss of losses.py, `threat.apgd_steps` steps from each of `threat.restarts` random starts.

    Arguments as `pgd`. targets: k > 0: one run aims at each of the k likeliest wrong classes; 0: away from the label.

    Returns the adversarial images [N, 3, H, W]: of all iterates of all runs the one with the largest margin.
    """
    check_pixels(images)
    text_features = text_features.detach()
    sample_ids = torch.arange(len(images)) if sample_ids is None else torch.as_tensor(sample_ids)
    best, best_score = images.clone(), torch.full((len(images),), -torch.inf, device=images.device)
    aims = [None]
    (loss, own), (score, _) = (aimed(each, labels, threat.target) for each in (loss, margin))
    if threat.target is None and targets:
        with torch.no_grad():
            aims = likeliest_wrong(model.logits(images, text_features).float(), labels, targets).unbind(dim=1)
    for aim in aims:

        def objective(adversarial, rows):
            """Loss [n] and margin [n]; with `threat.target` the margin of that class over all others."""
            logits = model.logits(adversarial, text_features).float()
            return loss(logits, own[rows], None if aim is None else aim[rows]), score(logits.detach(), own[rows])

        for restart in range(threat.restarts):
            rows = torch.arange(len(images), device=images.device)
            rows = rows[best_score <= BROKEN] if stop else rows
            if not len(rows):
                return best
            start = random_start(images.shape[1:], threat, sample_ids[rows.cpu()], restart).to(images.device, images.dtype)
            _climb(objective, rows, images[rows], start, threat, best, best_score, stop)
    return best


def checkpoints(steps):
    """Steps after which step sizes are judged: the first after 22 % of the steps, gaps shrinking by 3 % down to 6 %."""
    share, gap, result = 0, 22, []  # in percent: whole numbers, so that 70 % of 50 steps is 35
    while share + gap <= 100:
        share, gap = share + gap, max(gap - 3, 6)
        result.append(ceil(share * steps / 100))
    return sorted(set(result))


def _climb(objective, rows, here, start, threat, best, best_score, stop):
    """One run from `start`; updates `best` and `best_score` [N], the images and margins to return, at `rows`."""

    def look(delta, rows, here, differentiate):
        """Loss [n] and its gradient [n, 3, H, W] (None unless `differentiate`) at here + delta; keeps what is best so far."""
        adversarial = (here + delta).clamp(0, 1).requires_grad_(differentiate)
        with torch.set_grad_enabled(differentiate):
            loss, score = objective(adversarial, rows)
            gradient = torch.autograd.grad(loss.sum(), adversarial)[0] if differentiate else None
        keep_better(best, best_score, rows, adversarial.detach(), score)
        return loss.detach(), gradient

    delta = project(start, here, threat)
    loss, gradient = look(delta, rows, here, True)
    s = {  # of each sample that is still attacked; index 0 is the sample
        "rows": rows,
        "here": here,
        "delta": delta,
        "before": delta,  # the point one step earlier, for the momentum
        "gradient": gradient,
        "loss": loss,
        "top_delta": delta,  # the point of the largest loss, its gradient and its loss
        "top_gradient": gradient,
        "top_loss": loss,
        "size": here.new_full((len(here),), 2 * threat.epsilon),  # of a step
        "rises": torch.zeros_like(loss),  # steps since the last checkpoint that raised the loss
        "halved": torch.zeros_like(loss, dtype=torch.bool),  # whether the size was halved at the last checkpoint
        "loss_then": loss,  # top_loss at the last checkpoint
    }
    at, last_check = checkpoints(threat.apgd_steps), 0
    for step in range(1, threat.apgd_steps + 1):
        if stop and (broken := best_score[s["rows"]] > BROKEN).any():
            s = {name: value[~broken] for name, value in s.items()}
            if not len(s["rows"]):
                return
        moved = _move(s, threat, first=step == 1)
        last = step == threat.apgd_steps
        loss, gradient = look(moved, s["rows"], s["here"], not last)
        if last:
            return
        s["rises"] = s["rises"] + (loss > s["loss"])
        s |= {"before": s["delta"], "delta": moved, "gradient": gradient, "loss": loss}
        higher = loss > s["top_loss"]
        for top, now in (("top_delta", moved), ("top_gradient", gradient), ("top_loss", loss)):
            s[top] = _where(higher, now, s[top])
        if step in at:
            _judge(s, step - last_check)
            last_check = step


def _move(s, threat, first):
    """The next point, [n, 3, H, W]: a projected step and the last move, mixed, projected again."""
    step = s["size"][:, None, None, None] * step_direction(s["gradient"], threat.norm)
    stepped = project(s["delta"] + step, s["here"], threat)
    if first:
        return stepped
    mixed = s["delta"] + MOMENTUM * (stepped - s["delta"]) + (1 - MOMENTUM) * (s["delta"] - s["before"])
    return project(mixed, s["here"], threat)


def _judge(s, gap):
    """At a checkpoint, `gap` steps after the last: halve the step and go back to the best point where the search is stuck.

    Stuck: too few steps raised the loss (condition 1 of the paper), or the size stayed at the checkpoint before and the
    largest loss has not grown since (condition 2).
    """
    stuck = (s["rises"] < PROGRESS * gap) | (~s["halved"] & (s["top_loss"] <= s["loss_then"]))
    s["size"] = torch.where(stuck, s["size"] / 2, s["size"])
    for now, top in (("delta", "top_delta"), ("gradient", "top_gradient"), ("loss", "top_loss")):
        s[now] = _where(stuck, s[top], s[now])
    s |= {"rises": torch.zeros_like(s["rises"]), "halved": stuck, "loss_then": s["top_loss"]}


def _where(choice, yes, no):
    """`torch.where` with one choice a sample, for tensors of any shape [n, ...]."""
    return torch.where(choice.view(-1, *[1] * (yes.ndim - 1)), yes, no)
