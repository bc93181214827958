"""Feature attack of FARE: PGD away from the clean embedding before normalisation (Schlarmann et al., ICML 2024)."""

from mmcoa.attacks.pgd import feature

ATTACK = dict(
    name="feature-l2",
    summary="the same, l2 before normalisation",
    source="Schlarmann et al., ICML 2024",
    label="feature, l2",
    knows="weights",
    version=1,
    uses=("epsilon", "norm", "attacked_space", "steps", "step_size", "restarts", "keep", "seed"),
    order=31,
)


def attack(model, images, labels, text_features, threat, sample_ids=None, stop=False):
    """`feature` with the squared l2 distance. The iterate of the largest distance is kept, so `stop` has no effect."""
    return feature(model, images, labels, text_features, threat, sample_ids, distance="l2")
