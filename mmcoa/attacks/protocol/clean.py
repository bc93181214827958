"""No attack: the pictures and the prompts as they are."""

ATTACK = dict(
    name="clean",
    summary="no attack",
    source="zero-shot classification, Radford et al., ICML 2021",
    label="clean",
    knows="–",
    version=1,
    order=0,
)
