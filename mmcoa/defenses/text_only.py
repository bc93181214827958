"""`text_only`: MMCoA without its image term; adversarial text is aligned with clean images (arXiv 2404.19287, ablation).

loss = lambda_t L(f(x), g(t')),  L = CE(image -> text) + CE(text -> image)
"""

from mmcoa.defenses.mmcoa import adversarial_text_term

TRAINS = ("image", "text")
INNER = ("text",)
VERSION = 1
SETTINGS = {"lambda_text": 0.5, "positives": "class", "loss": "softmax"}
CHOICES = {"positives": ("class", "index"), "loss": ("softmax", "sigmoid")}  # see _losses.py
LEAST = {"lambda_text": 0}


def objective(model, frozen, batch, threat, settings):
    """Loss of one batch (scalar) and what to log."""
    loss = adversarial_text_term(model, frozen, batch, threat, settings)
    return settings.lambda_text * loss, {"adversarial_text": loss.item()}
