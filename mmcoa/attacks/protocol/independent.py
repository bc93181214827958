"""The image attack sees the clean prompts, the prediction takes the adversarial ones: what the paper's public code measures."""

ATTACK = dict(
    name="independent",
    summary="image attack on the clean prompts, and text attack",
    source="arXiv 2404.19287, public code",
    label="independent",
    knows="weights, label",
    version=1,
    image="pgd",
    judged="text",
    order=80,
)
