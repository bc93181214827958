"""Views of a picture, differentiable in its pixels, and the way of a gradient past a step that has none."""

import torch
import torch.nn.functional as F


def straight_through(value, like):
    """`value`, with the gradient of `like` (Athalye et al., ICML 2018, backward pass differentiable approximation)."""
    return like + (value - like).detach()


def crops(image, count, least, generator):
    """Random resized crops, half of them mirrored, of one picture [3, H, W] -> [count, 3, H, W], bilinear.

    A crop has a share of the area drawn from [least, 1] and an aspect ratio between 3:4 and 4:3; sides end at the picture's.
    """
    area, ratio, row, column, mirror = torch.rand(5, count, generator=generator).to(image)
    area, ratio = least + (1 - least) * area, (4 / 3) ** (2 * ratio - 1)
    width, height = ((area * ratio).sqrt().clamp(max=1), (area / ratio).sqrt().clamp(max=1))
    zero, sign = torch.zeros_like(area), torch.where(mirror < 0.5, -1.0, 1.0).to(image)
    across = torch.stack([sign * width, zero, (1 - width) * (2 * column - 1)], dim=1)
    down = torch.stack([zero, height, (1 - height) * (2 * row - 1)], dim=1)
    views = image.expand(count, *image.shape)
    grid = F.affine_grid(torch.stack([across, down], dim=1), list(views.shape), align_corners=False)
    return F.grid_sample(views, grid, mode="bilinear", padding_mode="border", align_corners=False).clamp(0, 1)


def entropy(logits):
    """Entropy of the softmax of each row of [N, C], in nats."""
    return -(logits.softmax(dim=1) * logits.log_softmax(dim=1)).sum(dim=1)
