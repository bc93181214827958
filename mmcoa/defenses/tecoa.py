"""`tecoa`: text-guided contrastive adversarial training of the image tower (Mao et al., ICLR 2023).

loss = CE(logits(x'), y),  x' = PGD on the same cross-entropy over all class prompts, text features frozen

With `loss=sigmoid` each picture with each class prompt is a pair of SigLIP's loss (_losses.py); the attack inside is the same.
"""

import torch.nn.functional as F

from mmcoa.attacks.pgd import pgd
from mmcoa.defenses._features import class_features
from mmcoa.defenses._losses import pairwise

TRAINS = ("image",)
INNER = ("image",)
VERSION = 1
SETTINGS = {"loss": "softmax"}
CHOICES = {"loss": ("softmax", "sigmoid")}  # see _losses.py


def objective(model, frozen, batch, threat, settings):
    """Loss of one batch (scalar) and what to log."""
    text = class_features(model, batch.prompts)
    adversarial = pgd(model, batch.images, batch.labels, text, batch.threat(threat), batch.sample_ids())
    if settings.loss == "sigmoid":
        own = F.one_hot(batch.labels, len(text)).bool()
        loss = pairwise(model, model.encode_image(adversarial), text, own)
    else:
        loss = F.cross_entropy(model.logits(adversarial, text), batch.labels)
    return loss, {"tecoa": loss.item()}
