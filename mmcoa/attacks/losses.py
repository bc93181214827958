"""What image attacks maximise: one number a sample. Sums, not means, are differentiated: neighbours in a batch do not count.

All take logits [N, C] and labels int64 [N]; with `targets` int64 [N], the loss grows as the target class wins.
"""

import torch
import torch.nn.functional as F

from mmcoa.errors import UserError


def cross_entropy(logits, labels, targets=None):
    """CE against the label; with targets minus CE against the target, [N]."""
    if targets is None:
        return F.cross_entropy(logits, labels, reduction="none")
    return -F.cross_entropy(logits, targets, reduction="none")


def margin(logits, labels, targets=None):
    """Largest wrong logit (or the target's) minus the right one, [N]: positive where the prediction is wrong.

    The loss of Carlini and Wagner (S&P 2017) without its cut at confidence. One class: there is no wrong one, -inf.
    """
    right = logits.gather(1, labels[:, None])[:, 0]
    if targets is not None:
        return logits.gather(1, targets[:, None])[:, 0] - right
    wrong = logits.scatter(1, labels[:, None], -float("inf")).amax(dim=1)
    return wrong - right


def aimed(loss, labels, target):
    """(loss, labels) for an adversary who leads every picture to one class: minus the loss against that class.

    With `margin` it is the targeted loss of Carlini and Wagner (S&P 2017, equation f6). target: number of the class; None: away
    from the labels, as it was.
    """
    if target is None:
        return loss, labels
    return lambda *arguments: -loss(*arguments), torch.full_like(labels, target)


def dlr(logits, labels, targets=None):
    """Difference of logits ratio, [N] (Croce and Hein, ICML 2020, equations 6 and 7): margin over a spread of the logits.

    Raises `UserError` for fewer than 3 classes (targeted: 4): its denominator does not exist there (trap I6).
    """
    needed = 3 if targets is None else 4
    if logits.shape[1] < needed:
        raise UserError(
            f"the {'targeted ' * (needed == 4)}DLR loss needs {needed} classes, the data set has {logits.shape[1]}; use apgd-ce"
        )
    ordered = logits.sort(dim=1, descending=True).values
    third = ordered[:, 2] if targets is None else (ordered[:, 2] + ordered[:, 3]) / 2
    spread = ordered[:, 0] - third
    return margin(logits, labels, targets) / (spread + 1e-12)


def likeliest_wrong(logits, labels, count):
    """The `count` likeliest wrong classes of each sample, likeliest first, int64 [N, min(count, C - 1)]."""
    wrong = logits.scatter(1, labels[:, None], -float("inf"))
    return wrong.topk(min(count, logits.shape[1] - 1), dim=1).indices
