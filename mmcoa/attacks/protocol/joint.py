"""Text attack by margin and image attack in turn, on labelled train pictures; then the image attack against its prompts.

Each round the text attack takes the prompts that flip most of the attacker's pictures as they are now perturbed, and the
image attack perturbs these pictures against the new prompts; it ends when no prompt changes, or after five rounds.
"""

from dataclasses import replace

import torch

from mmcoa.attacks.pgd import pgd
from mmcoa.attacks.scores import LabelledFeatures
from mmcoa.attacks.text import attack_prompts

ROUNDS = 5  # at most

ATTACK = dict(
    name="joint",
    summary="text attack by margin and image attack alternate, then image attack",
    source="protocol, adaptive",
    label="joint",
    knows="weights, label, labelled train pictures",
    version=1,
    image="pgd",
    sees="joint",
    judged="joint",
    uses=(
        "text_threat", "candidate_source", "words", "text_budget", "beam", "text_score", "attackable", "min_similarity",
        "similarity_encoder", "attacker_images",
    ),
    fixed={"text_score": "margin"},
    train_pictures=True,
    order=82,
)  # fmt: skip


def prompts(model, dataset, threat, frozen, attacker):
    """One list of prompts; its changes say how many `rounds` there were and whether they `converged`."""
    text, ended = alternate(model, dataset, threat, frozen, attacker)
    return [replace(text, changes=[change | ended for change in text.changes])]


def alternate(model, dataset, threat, frozen, attacker):
    """(`TextAttack`, {"rounds": int, "converged": bool}); `threat` with the score that the record fixes."""
    images, labels = attacker.images[: threat.attacker_images].to(model.device).float() / 255, attacker.labels.to(model.device)
    labels = labels[: len(images)]
    if threat.attacked_space == "model":
        images = model.resized(images)
    perturbed, before = images, None
    for done in range(1, ROUNDS + 1):
        with torch.no_grad():
            seen = LabelledFeatures(model.encode_image(perturbed), labels)
        text = attack_prompts(model, dataset.prompts, threat, frozen, dataset.class_names, seen)
        if text.prompts == before:
            return text, {"rounds": done, "converged": True}
        before = text.prompts
        with torch.no_grad():
            features = model.encode_text(text.prompts)
        perturbed = pgd(model, images, labels, features, threat, attacker.ids[: len(images)], stop=True)
    return text, {"rounds": ROUNDS, "converged": False}
