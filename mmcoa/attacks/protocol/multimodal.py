"""Worst case of all that the protocol has against both modalities: a sample is robust only if it survives every part."""

ATTACK = dict(
    name="multimodal",
    summary="per-sample worst case of its parts",
    source="protocol",
    label="worst case",
    knows="weights, label",
    version=1,
    parts=("clean", "text", "image", "sequential", "joint", "independent"),
    order=90,
)
