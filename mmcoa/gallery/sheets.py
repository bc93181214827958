"""Pictures of the gallery as files: one sheet a model, lossless, and where each picture lies on it."""

import numpy as np
from PIL import Image

AMPLIFIED = 10  # perturbations are shown so many times as large, around middle grey


def pixels(picture):
    """Float [3, H, W] in [0,1] -> uint8 [H, W, 3]."""
    return (255 * picture).round().clamp(0, 255).byte().permute(1, 2, 0).numpy()


def perturbation(adversarial, clean):
    """The difference of two pictures, amplified: grey where there is none.

    Of the pictures themselves, before they are rounded to 8 bits.
    """
    return pixels(128 / 255 + AMPLIFIED * (adversarial - clean))


def sheet(rows):
    """Rows of pictures, uint8 [H, W, 3] each, as one picture; cells are as large as the largest picture.

    Returns (uint8 [H, W, 3], boxes): of each picture [left, top, width, height] in pixels, row by row.
    """
    height = max(picture.shape[0] for row in rows for picture in row)
    width = max(picture.shape[1] for row in rows for picture in row)
    whole = np.full((height * len(rows), width * max(map(len, rows)), 3), 128, np.uint8)
    boxes = []
    for top, row in enumerate(rows):
        boxes.append([])
        for left, picture in enumerate(row):
            box = [left * width, top * height, picture.shape[1], picture.shape[0]]
            whole[box[1] : box[1] + box[3], box[0] : box[0] + box[2]] = picture
            boxes[-1].append(box)
    return whole, boxes


def save(picture, path):
    """Write uint8 [H, W, 3] as lossless WebP: same picture, same bytes."""
    # `quality` is how hard to search for a smaller file: 100 takes twelve times as long as 75, for 4 % fewer bytes.
    Image.fromarray(picture).save(path, "WEBP", lossless=True, quality=75, method=6)
