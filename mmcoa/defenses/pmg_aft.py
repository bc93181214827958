"""`pmg_aft`: adversarial fine-tuning guided by the pre-trained model (Wang et al., CVPR 2024), image tower.

    loss = CE(z(x'), y) + a KL(p0(x') || p(x')) + b KL(p(x) || p(x')),  x' = PGD on the cross-entropy over all class prompts

z, p: logits [B, C] and probabilities of the trained model; p0: of the frozen one, which sees the adversarial picture too. The
three terms weigh the same by default (a, b: `lambda_frozen`, `lambda_clean`) and are means over the batch, so that their
balance does not depend on its size (trap T7).
"""

import torch
import torch.nn.functional as F

from mmcoa.attacks.pgd import pgd
from mmcoa.defenses._features import class_features

TRAINS = ("image",)
INNER = ("image",)
VERSION = 1
SETTINGS = {"lambda_frozen": 1.0, "lambda_clean": 1.0}
LEAST = {"lambda_frozen": 0, "lambda_clean": 0}


def objective(model, frozen, batch, threat, settings):
    """Loss of one batch (scalar) and what to log."""
    text = class_features(model, batch.prompts)
    adversarial = pgd(model, batch.images, batch.labels, text, batch.threat(threat), batch.sample_ids())
    with torch.no_grad():
        guide = frozen.logits(adversarial, class_features(frozen, batch.prompts))
    attacked, clean = model.logits(adversarial, text), model.logits(batch.images, text)
    terms = {
        "tecoa": F.cross_entropy(attacked, batch.labels),
        "to_frozen": divergence(guide, attacked),
        "to_clean": divergence(clean, attacked),
    }
    loss = terms["tecoa"] + settings.lambda_frozen * terms["to_frozen"] + settings.lambda_clean * terms["to_clean"]
    return loss, {name: term.item() for name, term in terms.items()}


def divergence(target, logits):
    """KL(softmax(target) || softmax(logits)), mean over the rows of [B, C]; differentiable in both."""
    return F.kl_div(logits.log_softmax(dim=1), target.log_softmax(dim=1), reduction="batchmean", log_target=True)
