"""`clean`: contrastive fine-tuning on clean pairs, the control of every adversarial defence.

loss = L(f(x), g(t)),  L = CE(image -> text) + CE(text -> image)
"""

from mmcoa.defenses._losses import contrastive

TRAINS = ("image", "text")
INNER = ()
VERSION = 1
SETTINGS = {"positives": "class"}
CHOICES = {"positives": ("class", "index")}  # see _losses.py


def objective(model, frozen, batch, threat, settings):
    """Loss of one batch (scalar) and what to log."""
    prompts, labels = batch.present()
    loss = contrastive(model.encode_image(batch.images), model.encode_text(prompts), labels, model.scale, settings.positives)
    return loss, {"clean": loss.item()}
