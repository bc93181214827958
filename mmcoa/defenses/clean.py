"""`clean`: contrastive fine-tuning on clean pairs, the control of every adversarial defence.

loss = L(f(x), g(t)),  L = CE(image -> text) + CE(text -> image)
"""

from mmcoa.defenses._losses import alignment

TRAINS = ("image", "text")
INNER = ()
VERSION = 1
SETTINGS = {"positives": "class", "loss": "softmax"}
CHOICES = {"positives": ("class", "index"), "loss": ("softmax", "sigmoid")}  # see _losses.py


def objective(model, frozen, batch, threat, settings):
    """Loss of one batch (scalar) and what to log."""
    prompts, labels = batch.present()
    loss = alignment(model, model.encode_image(batch.images), model.encode_text(prompts), labels, settings)
    return loss, {"clean": loss.item()}
