"""APGD-DLR targeted: the same loss, aimed at the likeliest wrong classes one after the other (Croce and Hein, ICML 2020)."""

from mmcoa.attacks.apgd import apgd
from mmcoa.attacks.losses import dlr

ATTACK = dict(
    name="apgd-dlr-t",
    summary="the same, aimed at the likeliest wrong classes; 4 classes or more",
    source="Croce and Hein, ICML 2020",
    label="APGD-DLR targeted",
    knows="weights, label",
    version=1,
    uses=("epsilon", "norm", "attacked_space", "apgd_steps", "restarts", "targets", "target", "seed"),
    default={"targets": 9},
    budget="apgd_steps",
    classes=4,
    stand_in="apgd-dlr",
    order=22,
)


def attack(model, images, labels, text_features, threat, sample_ids=None, stop=False):
    """`apgd`, one run for each of `threat.targets` classes: at all wrong ones where there are fewer, at 9 (AutoAttack) for 0.

    `UserError` for fewer than 4 classes.
    """
    return apgd(
        model, images, labels, text_features, threat, sample_ids, stop, dlr, threat.targets or ATTACK["default"]["targets"]
    )
