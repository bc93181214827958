"""PGD: projected gradient ascent on the cross-entropy over all class prompts, best iterate (Madry et al., ICLR 2018)."""

from mmcoa.attacks.pgd import pgd

ATTACK = dict(
    name="pgd",
    summary="another name of `image`",
    source="Madry et al., ICLR 2018",
    label="PGD",
    knows="weights, label",
    version=1,
    uses=("epsilon", "norm", "attacked_space", "steps", "step_size", "restarts", "keep", "targets", "target", "seed"),
    order=11,
)


def attack(model, images, labels, text_features, threat, sample_ids=None, stop=False):
    """`pgd`, as it stands."""
    return pgd(model, images, labels, text_features, threat, sample_ids, stop)
