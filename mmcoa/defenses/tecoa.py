"""`tecoa`: text-guided contrastive adversarial training of the image tower (Mao et al., ICLR 2023).

loss = CE(logits(x'), y),  x' = PGD on the same cross-entropy over all class prompts, text features frozen
"""

import torch.nn.functional as F

from mmcoa.attacks.pgd import pgd
from mmcoa.defenses._features import class_features

TRAINS = ("image",)
INNER = ("image",)
VERSION = 1


def objective(model, frozen, batch, threat, settings):
    """Loss of one batch (scalar) and what to log."""
    text = class_features(model, batch.prompts)
    adversarial = pgd(model, batch.images, batch.labels, text, batch.threat(threat), batch.sample_ids())
    loss = F.cross_entropy(model.logits(adversarial, text), batch.labels)
    return loss, {"tecoa": loss.item()}
