"""`advflyp`: the contrastive loss of pre-training on adversarial pictures, image tower (AdvFLYP, CVPR Findings 2026).

    loss = L(f(x'), g(t)) + a (|f(x') - f0(x')| + |f(x') - f(x)|) + b (KL(p0(x') || p(x')) + KL(p(x) || p(x')))
    L = CE(image -> text) + CE(text -> image),  x' = PGD on L

f, f0: unit image embeddings [B, D] of the trained and of the frozen model, |.|: Euclidean length, mean over the batch; p, p0:
probabilities over the texts of the batch; a, b: `lambda_feature`, `lambda_logit`. The paper's texts are captions from the web;
here they are the prompts of the batch's classes. Without regularisers it is `image_only` on the image tower, but for the
attack, which maximises the contrastive loss in place of the cross-entropy over all class prompts.
"""

import torch

from mmcoa.attacks.pgd import ascend
from mmcoa.defenses._losses import contrastive
from mmcoa.defenses.pmg_aft import divergence

TRAINS = ("image",)
INNER = ("image",)
VERSION = 2
SETTINGS = {"lambda_feature": 1.0, "lambda_logit": 1.0, "positives": "class"}
CHOICES = {"positives": ("class", "index")}  # see _losses.py
LEAST = {"lambda_feature": 0, "lambda_logit": 0}


def objective(model, frozen, batch, threat, settings):
    """Loss of one batch (scalar) and what to log."""
    prompts, labels = batch.present()
    text = model.encode_text(prompts)
    fixed, count = text.detach(), len(batch)

    def loss_and_score(images, rows):
        loss = contrastive(model.encode_image(images), fixed, labels, model.scale, settings.positives)
        return loss.expand(count), loss.detach().expand(count)  # one loss for the batch: its best iterate is kept whole

    with model.fixed():
        adversarial = ascend([loss_and_score], batch.images, batch.threat(threat), batch.sample_ids())
    attacked, clean = model.encode_image(adversarial), model.encode_image(batch.images)
    with torch.no_grad():
        guide, guide_text = frozen.encode_image(adversarial), frozen.encode_text(prompts)
    logits = model.scale * attacked @ text.T
    terms = {
        "adversarial_image": contrastive(attacked, text, labels, model.scale, settings.positives),
        "feature": length(attacked - guide) + length(attacked - clean),
        "logit": divergence(frozen.scale * guide @ guide_text.T, logits) + divergence(model.scale * clean @ text.T, logits),
    }
    loss = terms["adversarial_image"] + settings.lambda_feature * terms["feature"] + settings.lambda_logit * terms["logit"]
    return loss, {name: term.item() for name, term in terms.items()}


def length(difference):
    """Mean Euclidean length of the rows of [B, D]; its gradient is 0 where a row is."""
    return torch.linalg.vector_norm(difference, dim=1).mean()
