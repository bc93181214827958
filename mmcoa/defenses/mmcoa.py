"""`mmcoa`: multimodal contrastive adversarial training of both towers (arXiv 2404.19287).

    loss = lambda_i L(f(x'), g(t)) + lambda_t L(f(x), g(t')),  L = CE(image -> text) + CE(text -> image)

x': PGD on the cross-entropy over the class prompts; t': the class prompts after the text attack. Clean text is aligned
with adversarial images, adversarial text with clean images.
"""

import functools

import torch

from mmcoa.attacks.candidates import CandidateTable
from mmcoa.attacks.image import pgd
from mmcoa.attacks.text import enumerate_variants, search
from mmcoa.defenses.losses import contrastive

TRAINS = ("image", "text")


def objective(model, frozen, batch, threat, settings):
    """Loss of one batch (scalar) and what to log."""
    image_term = adversarial_image_term(model, batch, threat, settings.positives)
    text_term = adversarial_text_term(model, frozen, batch, threat, settings.positives)
    loss = settings.lambda_image * image_term + settings.lambda_text * text_term
    return loss, {"adversarial_image": image_term.item(), "adversarial_text": text_term.item()}


def adversarial_image_term(model, batch, threat, positives):
    """L(f(x'), g(t)), scalar; x' against all class prompts of the data set."""
    with torch.no_grad():
        text = model.encode_text(batch.prompts)
    adversarial = pgd(model, batch.images, batch.labels, text, batch.threat(threat), batch.sample_ids())
    prompts, labels = batch.present()
    return contrastive(model.encode_image(adversarial), model.encode_text(prompts), labels, model.scale, positives)


def adversarial_text_term(model, frozen, batch, threat, positives):
    """L(f(x), g(t')), scalar; the prompts of the batch's classes are attacked, candidates computed once a run."""
    prompts, labels = batch.present()
    variants = _variants(tuple(batch.prompts), threat.candidate_source, frozen).of(prompts)
    adversarial = search(model, variants).prompts
    return contrastive(model.encode_image(batch.images), model.encode_text(adversarial), labels, model.scale, positives)


@functools.lru_cache(maxsize=8)
def _variants(prompts, source, frozen):
    return enumerate_variants(list(prompts), CandidateTable(source, (lambda: frozen) if frozen is not None else None))
