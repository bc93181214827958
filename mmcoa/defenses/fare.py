"""`fare`: fine-tuning of the image tower without labels or prompts (Schlarmann et al., ICML 2024, eq. 3).

    loss = mean ||f(x') - f0(x)||^2,  x' = PGD on the same distance

f: image embedding before normalisation, [B, D]; f0: that of the frozen model, so that whatever was built on it stays usable.
With `distance=cosine` it is 1 - cos(f(x'), f0(x)) in the loss and in the attack: Sim-CLIP (Hossain and Imteaj, 2024), of whose
symmetric loss one half has no gradient, since the frozen model's side is detached.
"""

import torch
import torch.nn.functional as F

from mmcoa.attacks.pgd import feature

TRAINS = ("image",)
INNER = ("image",)
VERSION = 1
SETTINGS = {"distance": "l2"}
CHOICES = {"distance": ("l2", "cosine")}


def objective(model, frozen, batch, threat, settings):
    """Loss of one batch (scalar) and what to log."""
    with torch.no_grad():
        clean = frozen.encode_image_raw(batch.images)
    distance, inner = settings.distance, batch.threat(threat)
    adversarial = feature(model, batch.images, None, None, inner, batch.sample_ids(), distance=distance, clean=clean)
    raw = model.encode_image_raw(adversarial)
    each = (raw - clean).square().sum(dim=1) if distance == "l2" else 1 - F.cosine_similarity(raw, clean, dim=1)
    loss = each.mean()
    return loss, {"fare": loss.item()}
