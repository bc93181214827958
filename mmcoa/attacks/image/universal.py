"""Universal perturbation: one for all pictures of a data set (Moosavi-Dezfooli et al., CVPR 2017).

Learnt by projected gradient ascent over batches of labelled pictures of the train split, on a cross-entropy that is cut off, so
that no single picture steers it (Shafahi et al., AAAI 2020, equation 5). Then it is added to test pictures it has never seen.
"""

import torch

from mmcoa.attacks.ball import random_start, sample_generator, step_direction
from mmcoa.attacks.losses import cross_entropy, margin
from mmcoa.attacks.pgd import on_fixed_weights
from mmcoa.errors import UserError
from mmcoa.model.clip import check_pixels

ATTACK = dict(
    name="universal",
    summary="one perturbation for all pictures, learnt on labelled train pictures",
    source="Moosavi-Dezfooli et al., CVPR 2017; Shafahi et al., AAAI 2020",
    label="universal",
    knows="weights, labelled train pictures",
    version=1,
    uses=("epsilon", "norm", "attacked_space", "steps", "step_size", "attacker_images", "seed"),
    train_pictures=True,
    order=35,
)
BATCH = 32  # pictures a step; never that of an evaluation
CUT = 9.0  # nats; a picture whose cross-entropy is above steers no more (beta of Shafahi et al.)


def attack(model, images, labels, text_features, threat, sample_ids=None, stop=False, learned=None):
    """`learned` [1, 3, H, W] added to every picture, inside [0, 1]; other arguments as `pgd`. `UserError` without it."""
    check_pixels(images)
    if learned is None:
        raise UserError("the universal attack adds what `learn` has made of train pictures: hand it `learned`")
    if learned.shape[1:] != images.shape[1:]:
        raise UserError(
            f"a perturbation of {tuple(learned.shape[2:])} pixels does not fit pictures of {tuple(images.shape[2:])}"
        )
    return (images + learned.to(images)).clamp(0, 1)


@on_fixed_weights
def learn(model, text_features, threat, attacker):
    """The perturbation, float [1, 3, H, W] in the ball: of all passes the one that leaves fewest of its own pictures right.

    `threat.steps` passes over `threat.attacker_images` pictures of `attacker` (`Dataset`), in an order drawn by (seed, pass);
    after each batch one step. Among equals the larger mean margin decides.
    """
    images = attacker.images[: threat.attacker_images].to(model.device).float() / 255
    labels, text_features = attacker.labels[: len(images)].to(model.device), text_features.detach()
    if threat.attacked_space == "model":
        images = model.resized(images)
    delta = random_start(images.shape[1:], threat, [-1]).to(images)  # no sample has this number
    best, reached = delta, (-1.0, 0.0)
    for done in range(threat.steps):
        for part in torch.randperm(len(images), generator=sample_generator(threat.seed, "universal", done)).split(BATCH):
            rows = part.to(images.device)
            shift = delta.clone().requires_grad_()
            with torch.enable_grad():
                logits = model.logits((images[rows] + shift).clamp(0, 1), text_features).float()
                loss = cross_entropy(logits, labels[rows]).clamp(max=CUT).sum()
            (gradient,) = torch.autograd.grad(loss, shift)
            delta = into_ball(delta + threat.step_size * step_direction(gradient, threat.norm), threat)
        with torch.no_grad():
            parts = [model.logits((some + delta).clamp(0, 1), text_features).float() for some in images.split(BATCH)]
            margins = margin(torch.cat(parts), labels)
        now = float((margins > 0).float().mean()), float(margins.mean())
        if now > reached:
            best, reached = delta, now
    return best


def into_ball(delta, threat):
    """The point of the ball around zero next to `delta` [1, 3, H, W], whatever the pictures."""
    if threat.norm == "linf":
        return delta.clamp(-threat.epsilon, threat.epsilon)
    return delta * (threat.epsilon / delta.norm().clamp_min(1e-12)).clamp(max=1)
