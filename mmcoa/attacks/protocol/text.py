"""The text attack by itself: words of each class prompt replaced, the pictures as they are."""

import torch

from mmcoa.attacks.scores import LabelledFeatures
from mmcoa.attacks.text import attack_prompts

ATTACK = dict(
    name="text",
    summary="words of each class prompt, largest embedding distance",
    source="arXiv 2404.19287; BERT-Attack",
    label="text",
    knows="weights",
    version=1,
    judged="text",
    uses=(
        "text_threat", "candidate_source", "words", "text_budget", "beam", "text_score", "attackable", "min_similarity",
        "similarity_encoder", "attacker_images",
    ),
    order=70,
)  # fmt: skip


def prompts(model, dataset, threat, frozen, attacker):
    """Each list of prompts attacked by itself; for the score `margin` on the attacker's pictures as they are."""
    pictures = None
    if threat.text_score == "margin" and attacker is not None:
        images = attacker.images[: threat.attacker_images].to(model.device).float() / 255
        with torch.no_grad():
            pictures = LabelledFeatures(model.encode_image(images), attacker.labels[: len(images)].to(model.device))
    return [attack_prompts(model, one, threat, frozen, dataset.class_names, pictures) for one in dataset.prompt_sets()]
