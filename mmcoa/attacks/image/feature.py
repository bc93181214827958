"""Feature attack: PGD away from the clean picture's embedding; knows neither labels nor prompts."""

from mmcoa.attacks.pgd import feature

ATTACK = dict(
    name="feature",
    summary="PGD away from the clean embedding, cosine; label-free",
    source="FARE and Co-Attack family",
    label="feature",
    knows="weights",
    version=1,
    uses=("epsilon", "norm", "attacked_space", "steps", "step_size", "restarts", "keep", "seed"),
    order=30,
)


def attack(model, images, labels, text_features, threat, sample_ids=None, stop=False):
    """`feature` with the cosine distance. The iterate of the largest distance is kept, so `stop` has no effect."""
    return feature(model, images, labels, text_features, threat, sample_ids)
