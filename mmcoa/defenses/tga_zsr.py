"""`tga_zsr`: the image tower keeps looking where the frozen one looks for the class (TGA-ZSR, Yu et al., NeurIPS 2024).

    loss = CE(z(x'), y) + a |A(x') - A0(x)| + b |A(x) - A0(x)|,  x' = PGD on the cross-entropy over all class prompts

A: text-guided attention of the trained model, A0: of the frozen one: patch tokens times the text embedding of the true class,
scaled to [0, 1] over the picture and enlarged to the model's input; |.|: Euclidean length over that map, mean over the batch;
a, b: `lambda_attacked`, `lambda_clean`. For ViTs that are read at a class token. Public versions differ: one exchanges the two
weights and takes the length over an axis of one entry; the authors' divides each channel of the tokens by its length over the
picture, which the equation does not.
"""

import torch
import torch.nn.functional as F

from mmcoa.attacks.pgd import pgd
from mmcoa.defenses._features import class_features
from mmcoa.errors import UserError
from mmcoa.model import towers

TRAINS = ("image",)
INNER = ("image",)
VERSION = 2
ROUNDING = 0.01  # a length that no two maps in [0, 1] are apart by unless they are the same: others are by whole units
SETTINGS = {"lambda_attacked": 0.08, "lambda_clean": 0.05}
LEAST = {"lambda_attacked": 0, "lambda_clean": 0}


def objective(model, frozen, batch, threat, settings):
    """Loss of one batch (scalar) and what to log. Raises `UserError` for an image tower without patch tokens."""
    if not towers.image_is_plain(model.clip.visual):
        raise UserError(f"tga_zsr compares patch tokens, which the image tower of '{model.name}' does not give; it needs a ViT")
    text = class_features(model, batch.prompts)
    adversarial = pgd(model, batch.images, batch.labels, text, batch.threat(threat), batch.sample_ids())
    with torch.no_grad():
        guide, _ = look(frozen, batch.images, class_features(frozen, batch.prompts)[batch.labels])
    attacked, features = look(model, adversarial, text[batch.labels])
    clean, _ = look(model, batch.images, text[batch.labels])
    terms = {
        "tecoa": F.cross_entropy(model.scale * features @ text.T, batch.labels),
        "attacked": apart(attacked, guide),
        "clean": apart(clean, guide),
    }
    loss = terms["tecoa"] + settings.lambda_attacked * terms["attacked"] + settings.lambda_clean * terms["clean"]
    return loss, {name: term.item() for name, term in terms.items()}


def look(model, images, text):
    """(attention [B, H, W] in [0, 1] at the model's input size, unit embeddings [B, D]) of pictures, one pass of the tower.

    text: unit embedding [B, D] of each picture's class.
    """
    visual = model.clip.visual
    pixels = (model.resized(images) - model.mean) / model.std
    with torch.autocast(model.device.type, torch.bfloat16, enabled=model.precision == "bf16"):
        tokens = visual.ln_post(visual.transformer(visual._embeds(pixels)))
        tokens = (tokens if visual.proj is None else tokens @ visual.proj).float()
    maps = (tokens[:, 1:] @ text[:, :, None])[..., 0]
    low, high = maps.amin(dim=1, keepdim=True), maps.amax(dim=1, keepdim=True)
    maps = ((maps - low) / (high - low).clamp_min(1e-12)).unflatten(1, visual.grid_size)
    large = F.interpolate(maps[:, None], size=model.image_size, mode="bilinear", align_corners=False)[:, 0]
    return large, F.normalize(tokens[:, 0], dim=-1)


def apart(first, second):
    """Mean Euclidean distance of maps [B, H, W].

    Below `ROUNDING` it fades as its square: a model that is still its own guide is apart from it by rounding errors, and the
    plain length would follow their direction at full slope.
    """
    squares = (first - second).flatten(1).square().sum(dim=1)
    return (squares / (squares + ROUNDING**2).sqrt()).mean()
