"""Class prompts of an evaluation and their embeddings, clean and attacked; each is computed once, before the pictures come."""

# pyright: reportMissingParameterType=false

import functools
import time
from collections import defaultdict

import torch
import torch.nn.functional as F

from mmcoa.attacks.catalog import ATTACKS, find
from mmcoa.attacks.text import TextAttack
from mmcoa.model.loading import frozen_model


def prompt_features(model, dataset, leaves, threat, attacker):
    """What some attacks without parts need of the prompts.

    Returns ({"clean" or an attack on prompts: unit embeddings [C, D]}, {attack: TextAttack}, {attack: seconds}).
    """
    with torch.no_grad():
        features = {"clean": class_embeddings(model, dataset.prompt_sets())}
    texts, seconds = {}, defaultdict(float)
    needed = {prompts for leaf in leaves for prompts in (leaf.sees, leaf.judged)} - {"clean"}
    frozen = functools.partial(frozen_model, model)
    for kind in sorted(needed, key=list(ATTACKS).index):
        began = time.monotonic()
        attack = find(kind)
        found = attack.load().prompts(model, dataset, attack.under(threat), frozen, attacker)
        with torch.no_grad():
            features[kind] = class_embeddings(model, [text.prompts for text in found])
        texts[kind] = TextAttack(*([item for text in found for item in getattr(text, name)] for name in ("prompts", "changes")))
        seconds[kind] = time.monotonic() - began
    return features, texts, seconds


def class_embeddings(model, prompt_sets):
    """Unit embeddings [C, D]: of one prompt a class, or the normalised mean over an ensemble, as CLIP's own."""
    if len(prompt_sets) == 1:
        return model.encode_text(prompt_sets[0])
    return F.normalize(torch.stack([model.encode_text(prompts) for prompts in prompt_sets]).mean(dim=0), dim=-1)


def by_template(prompts, dataset):
    """Prompts of all templates, one after the other, as one list a template."""
    return [prompts[start : start + len(dataset.class_names)] for start in range(0, len(prompts), len(dataset.class_names))]
