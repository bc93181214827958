"""The text attack comes first and the image attack sees its prompts: the adversary knows both hands."""

ATTACK = dict(
    name="sequential",
    summary="text attack, then image attack on its prompts",
    source="protocol, adaptive",
    label="sequential",
    knows="weights, label",
    version=1,
    image="pgd",
    sees="text",
    judged="text",
    order=81,
)
