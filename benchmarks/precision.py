"""Lines of speed.py on one gradient of the image tower with respect to pictures: open_clip's code beside ours in fp32 and bf16.

Weights ask for no gradients on either side, and no prompts are encoded: the tower alone. The baseline is open_clip in fp32.
"""

import torch
import torch.nn.functional as F
from common import line, race, require

LEAST = {"fp32": 0.9999, "bf16": 0.99}  # cosine of the gradient with the baseline's
TARGETS = {"fp32": "1.3x", "bf16": "3x"}  # bf16: on a processor that multiplies it faster


def lines(settings, device, random_model):
    """A line for each batch and precision."""
    model = random_model(settings.architecture, device).requires_grad_(False)
    return [step_line(model, batch, name, settings, device) for batch, _ in settings.batches for name in TARGETS]


def step_line(model, batch, precision, settings, device):
    pixels = torch.rand(batch, 3, *model.image_size, generator=torch.Generator().manual_seed(0)).to(device)

    def gradient(encode):
        x = pixels.clone().requires_grad_()
        return torch.autograd.grad(encode(x).float().square().sum(), x)[0]

    def public():
        return gradient(lambda x: model.clip.encode_image((x - model.mean) / model.std))

    model.precision = precision
    with model.fixed():
        gradient(model.encode_image_raw)  # weights are read and cast once an attack
        seconds, baseline, *found = race(
            lambda: gradient(model.encode_image_raw), public, settings.repeats, settings.baseline_repeats, device
        )
    model.precision = "fp32"
    cosine = F.cosine_similarity(*(one.flatten().double() for one in found), dim=0).item()
    signs = (found[0].sign() == found[1].sign()).float().mean().item()
    require(cosine >= LEAST[precision], f"gradient in {precision}: cosine {cosine}")
    setting = f"{settings.architecture}, {precision}, batch {batch}, {100 * signs:.1f} % of signs as the baseline's"
    return line(f"image gradient, {precision}", setting, seconds, baseline, "s", TARGETS[precision])
