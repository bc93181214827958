"""The image attack of the protocol: PGD against the clean prompts."""

ATTACK = dict(
    name="image",
    summary="PGD against the clean prompts, best iterate",
    source="Madry et al., ICLR 2018",
    label="image",
    knows="weights, label",
    version=1,
    image="pgd",
    order=10,
)
