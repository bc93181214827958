"""`mmcoa`: multimodal contrastive adversarial training of both towers (arXiv 2404.19287).

    loss = lambda_i L(f(x'), g(t)) + lambda_t L(f(x), g(t')),  L = CE(image -> text) + CE(text -> image)

x': PGD on the cross-entropy over the class prompts; t': the class prompts after the text attack. Clean text is aligned
with adversarial images, adversarial text with clean images.
"""

import functools
from dataclasses import replace

from mmcoa.attacks.pgd import pgd
from mmcoa.attacks.prefix import encode_texts
from mmcoa.attacks.scores import LabelledFeatures, make_score
from mmcoa.attacks.text import enumerate_variants, limits, search
from mmcoa.defenses._features import class_features
from mmcoa.defenses._losses import alignment
from mmcoa.distributed import gather

TRAINS = ("image", "text")
INNER = ("image", "text")
VERSION = 1
SETTINGS = {"lambda_image": 0.5, "lambda_text": 0.5, "positives": "class", "loss": "softmax"}  # weights of the two terms
CHOICES = {"positives": ("class", "index"), "loss": ("softmax", "sigmoid")}  # see _losses.py
LEAST = {"lambda_image": 0, "lambda_text": 0}


def objective(model, frozen, batch, threat, settings):
    """Loss of one batch (scalar) and what to log."""
    image_term = adversarial_image_term(model, batch, threat, settings)
    text_term = adversarial_text_term(model, frozen, batch, threat, settings)
    loss = settings.lambda_image * image_term + settings.lambda_text * text_term
    return loss, {"adversarial_image": image_term.item(), "adversarial_text": text_term.item()}


def adversarial_image_term(model, batch, threat, settings):
    """L(f(x'), g(t)), scalar."""
    adversarial = adversarial_images(model, batch, threat)
    prompts, labels = batch.present()
    return alignment(model, model.encode_image(adversarial), model.encode_text(prompts), labels, settings)


def adversarial_images(model, batch, threat):
    """x', float [B, 3, H, W]: PGD against all class prompts of the data set."""
    text = class_features(model, batch.prompts)
    return pgd(model, batch.images, batch.labels, text, batch.threat(threat), batch.sample_ids())


def adversarial_text_term(model, frozen, batch, threat, settings):
    """L(f(x), g(t')), scalar."""
    _, labels = batch.present()
    images = model.encode_image(batch.images)
    adversarial = adversarial_prompts(model, frozen, batch, threat, images)
    return alignment(model, images, model.encode_text(adversarial), labels, settings)


def adversarial_prompts(model, frozen, batch, threat, images):
    """t', the attacked prompts of the batch's classes; their candidates are computed once a run.

    images: unit embeddings [B, D] of the clean pictures, which are the attacker's for the score `margin`.
    """
    prompts, labels = batch.present()
    variants = prompt_variants(tuple(batch.prompts), threat, frozen, model.tokenizer).of(prompts)
    score = make_score(threat, encode_texts(model, prompts), LabelledFeatures(gather(images.detach()), labels))
    return search(model, variants, threat, score).prompts


@functools.lru_cache(maxsize=32)  # of an ensemble each template has its own
def prompt_variants(prompts, threat, frozen, tokenizer):
    prompts, get_frozen = list(prompts), None if frozen is None else lambda: frozen
    table, positions, floor = limits(prompts, threat, get_frozen)
    variants = enumerate_variants(prompts, table, positions, floor=floor)
    return replace(variants, tokens=tokenizer(variants.texts)) if variants.texts else variants
