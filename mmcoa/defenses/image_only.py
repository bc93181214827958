"""`image_only`: MMCoA without its text term; clean text is aligned with adversarial images (arXiv 2404.19287, ablation).

loss = lambda_i L(f(x'), g(t)),  L = CE(image -> text) + CE(text -> image)
"""

from mmcoa.defenses.mmcoa import adversarial_image_term

TRAINS = ("image", "text")
INNER = ("image",)
VERSION = 1
SETTINGS = {"lambda_image": 0.5, "positives": "class", "loss": "softmax"}
CHOICES = {"positives": ("class", "index"), "loss": ("softmax", "sigmoid")}  # see _losses.py
LEAST = {"lambda_image": 0}


def objective(model, frozen, batch, threat, settings):
    """Loss of one batch (scalar) and what to log."""
    loss = adversarial_image_term(model, batch, threat, settings)
    return settings.lambda_image * loss, {"adversarial_image": loss.item()}
