"""`fare`: fine-tuning of the image tower without labels or prompts (Schlarmann et al., ICML 2024, eq. 3).

    loss = mean ||f(x') - f0(x)||^2,  x' = PGD on the same distance

f: image embedding before normalisation, [B, D]; f0: that of the frozen model, so that whatever was built on it stays usable.
"""

import torch

from mmcoa.attacks.pgd import feature

TRAINS = ("image",)
INNER = ("image",)
VERSION = 1


def objective(model, frozen, batch, threat, settings):
    """Loss of one batch (scalar) and what to log."""
    with torch.no_grad():
        clean = frozen.encode_image_raw(batch.images)
    adversarial = feature(model, batch.images, None, None, batch.threat(threat), batch.sample_ids(), distance="l2", clean=clean)
    loss = (model.encode_image_raw(adversarial) - clean).square().sum(dim=1).mean()
    return loss, {"fare": loss.item()}
