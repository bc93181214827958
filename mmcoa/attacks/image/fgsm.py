"""FGSM: one step of size epsilon from the clean image (Goodfellow et al., ICLR 2015)."""

import torch

from mmcoa.attacks.ball import project, step_direction
from mmcoa.attacks.losses import cross_entropy
from mmcoa.model.clip import check_pixels

ATTACK = dict(
    name="fgsm",
    summary="one step of size epsilon",
    source="Goodfellow et al., ICLR 2015",
    label="FGSM",
    knows="weights, label",
    version=1,
    uses=("epsilon", "norm", "attacked_space", "steps", "step_size"),
    fixed={"steps": 1, "step_size": "epsilon"},
    budget=None,
    order=13,
)


def attack(model, images, labels, text_features, threat, sample_ids=None, stop=False):
    """Up the cross-entropy against the label; nothing is random."""
    check_pixels(images)
    adversarial = images.clone().requires_grad_()
    with torch.enable_grad():
        loss = cross_entropy(model.logits(adversarial, text_features.detach()).float(), labels).sum()
    (gradient,) = torch.autograd.grad(loss, adversarial)
    delta = project(threat.epsilon * step_direction(gradient, threat.norm), images, threat)
    return (images + delta).clamp(0, 1)  # the sum may leave [0,1] by a rounding error
