"""APGD-DLR: PGD with adaptive steps on the difference of logits ratio, away from the label (Croce and Hein, ICML 2020)."""

from mmcoa.attacks.apgd import apgd
from mmcoa.attacks.losses import dlr

ATTACK = dict(
    name="apgd-dlr",
    summary="PGD with adaptive steps, difference of logits ratio; 3 classes or more",
    source="Croce and Hein, ICML 2020",
    label="APGD-DLR",
    knows="weights, label",
    version=1,
    uses=("epsilon", "norm", "attacked_space", "apgd_steps", "restarts", "target", "seed"),
    budget="apgd_steps",
    classes=3,
    order=21,
)


def attack(model, images, labels, text_features, threat, sample_ids=None, stop=False):
    """`apgd` with another loss; `UserError` for fewer than 3 classes."""
    return apgd(model, images, labels, text_features, threat, sample_ids, stop, dlr)
