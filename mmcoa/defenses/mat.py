"""`mat`: adversarial pictures against adversarial text, beside MMCoA's two terms (after MAT, Waseda et al., WACV 2026).

    loss = lambda_both L(f(x'), g(t')) + lambda_i L(f(x'), g(t)) + lambda_t L(f(x), g(t'))
    L = CE(image -> text) + CE(text -> image)

x': PGD on the cross-entropy over the clean class prompts; t': the class prompts after the text attack. MAT trains on the first
term alone (and augments texts for retrieval, which is not done here); with `lambda_both=0` this is MMCoA. A term of weight 0
costs nothing.
"""

from mmcoa.defenses._losses import alignment
from mmcoa.defenses.mmcoa import adversarial_images, adversarial_prompts
from mmcoa.errors import UserError

TRAINS = ("image", "text")
INNER = ("image", "text")
VERSION = 1
SETTINGS = {"lambda_both": 0.5, "lambda_image": 0.5, "lambda_text": 0.5, "positives": "class", "loss": "softmax"}
CHOICES = {"positives": ("class", "index"), "loss": ("softmax", "sigmoid")}  # see _losses.py
LEAST = {"lambda_both": 0, "lambda_image": 0, "lambda_text": 0}


def objective(model, frozen, batch, threat, settings):
    """Loss of one batch (scalar) and what to log. Raises `UserError` where all three weights are 0."""
    weights = {"both": settings.lambda_both, "image": settings.lambda_image, "text": settings.lambda_text}
    if not any(weights.values()):
        raise UserError("mat: lambda_both, lambda_image and lambda_text are all 0: there is nothing to train on")
    prompts, labels = batch.present()
    clean = model.encode_image(batch.images) if weights["both"] or weights["text"] else None
    image = text = None
    if weights["both"] or weights["image"]:
        image = model.encode_image(adversarial_images(model, batch, threat))
    if clean is not None:
        text = model.encode_text(adversarial_prompts(model, frozen, batch, threat, clean))
    pairs = {
        "both": lambda: (image, text),
        "image": lambda: (image, model.encode_text(prompts)),
        "text": lambda: (clean, text),
    }
    terms = {name: alignment(model, *pairs[name](), labels, settings) for name in pairs if weights[name]}
    loss = sum(weights[name] * term for name, term in terms.items())
    return loss, {f"adversarial_{name}": term.item() for name, term in terms.items()}
