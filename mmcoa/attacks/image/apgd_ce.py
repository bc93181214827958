"""APGD-CE: PGD with adaptive steps on the cross-entropy (Croce and Hein, ICML 2020)."""

from mmcoa.attacks.apgd import apgd
from mmcoa.attacks.losses import cross_entropy

ATTACK = dict(
    name="apgd-ce",
    summary="PGD with adaptive steps, cross-entropy",
    source="Croce and Hein, ICML 2020",
    label="APGD-CE",
    knows="weights, label",
    version=1,
    uses=("epsilon", "norm", "attacked_space", "apgd_steps", "restarts", "targets", "target", "seed"),
    budget="apgd_steps",
    order=20,
)


def attack(model, images, labels, text_features, threat, sample_ids=None, stop=False):
    """`apgd`; with `threat.targets` k > 0 one run aims at each of the k likeliest wrong classes."""
    return apgd(model, images, labels, text_features, threat, sample_ids, stop, cross_entropy, threat.targets)
