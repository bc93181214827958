"""Co-Attack: away from the clean picture and from its label's changed prompt (Zhang et al., MM 2022)."""

from mmcoa.attacks.pgd import feature

ATTACK = dict(
    name="co_attack",
    summary="text attack, then away from clean picture and changed prompt",
    source="Zhang et al., MM 2022",
    label="Co-Attack",
    knows="weights, label",
    version=1,
    uses=("epsilon", "norm", "attacked_space", "steps", "step_size", "restarts", "keep", "seed"),
    sees="text",
    judged="text",
    order=83,
)


def attack(model, images, labels, text_features, threat, sample_ids=None, stop=False):
    """`feature`, and away from the label's prompt. The iterate of the largest distance is kept, so `stop` has no effect."""
    return feature(model, images, labels, text_features, threat, sample_ids, own_text=text_features[labels])
