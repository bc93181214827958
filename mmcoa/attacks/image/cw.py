"""CW: PGD on the margin, the loss of Carlini and Wagner (S&P 2017), inside the ball."""

from mmcoa.attacks.losses import margin
from mmcoa.attacks.pgd import pgd

ATTACK = dict(
    name="cw",
    summary="PGD on the margin",
    source="Carlini and Wagner, S&P 2017",
    label="CW margin",
    knows="weights, label",
    version=1,
    uses=("epsilon", "norm", "attacked_space", "steps", "step_size", "restarts", "keep", "targets", "target", "seed"),
    order=14,
)


def attack(model, images, labels, text_features, threat, sample_ids=None, stop=False):
    """`pgd` with another loss."""
    return pgd(model, images, labels, text_features, threat, sample_ids, stop, loss=margin)
