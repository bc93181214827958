"""`agft`: alignment-guided fine-tuning of the image tower without labels (AGFT, CVPR 2026).

    loss = KL(q || softmax(a s z(x'))),  q = softmax(b a s z0(x)),  x' = PGD on the same loss

z, z0: cosines [B, C] of the picture with all class prompts, of the trained and of the frozen model; s: the model's logit scale;
a: `temperature` (the paper trains at 180 where CLIP's scale is 100), b: `softness` of the target. The target is what the frozen
model says of the clean picture, so that wrong labels and prompts that do not fit are kept as they are. (The paper writes a
cross-entropy: the same but for the entropy of q, which has no gradient, so that here 0 is agreement.)
"""

import torch
import torch.nn.functional as F

from mmcoa.attacks.pgd import ascend
from mmcoa.defenses._features import class_features

TRAINS = ("image",)
INNER = ("image",)
VERSION = 1
SETTINGS = {"temperature": 1.8, "softness": 0.4}
LEAST = {"temperature": 0.01, "softness": 0}


def objective(model, frozen, batch, threat, settings):
    """Loss of one batch (scalar) and what to log."""
    text = class_features(model, batch.prompts)
    with torch.no_grad():
        guide = frozen.logits(batch.images, class_features(frozen, batch.prompts))
        target = (settings.softness * settings.temperature * guide).softmax(dim=1)

    def each(images, rows):
        logits = settings.temperature * model.logits(images, text)
        return F.kl_div(logits.log_softmax(dim=1), target[rows], reduction="none").sum(dim=1)

    def loss_and_score(images, rows):
        loss = each(images, rows)
        return loss, loss.detach()

    with model.fixed():
        adversarial = ascend([loss_and_score], batch.images, batch.threat(threat), batch.sample_ids())
    loss = each(adversarial, slice(None)).mean()
    return loss, {"agft": loss.item()}
