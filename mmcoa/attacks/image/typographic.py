"""Typographic attack: a wrong class name on a white label somewhere in the picture (Goh et al., Distill 2021).

No gradients and no queries: whoever can put a sticker on a thing can do it, and the same pictures meet every model. The wrong
class is drawn at random for each sample, as by Azuma and Matsui (ICCV Workshops 2023), and so is the place. What the label
covers changes without a bound; the rest of the picture stays. Letters that Pillow's own font lacks are drawn as boxes.
"""

import functools

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from mmcoa.attacks.ball import sample_generator
from mmcoa.attacks.pgd import sparing
from mmcoa.errors import UserError
from mmcoa.model.clip import check_pixels

ATTACK = dict(
    name="typographic",
    summary="a wrong class name, drawn at random, written on a label in the picture; no bound but the label's size",
    source="Goh et al., Distill 2021; Azuma and Matsui, ICCVW 2023",
    label="typographic",
    knows="label, class names",
    version=1,
    uses=("attacked_space", "target", "seed"),
    budget=None,
    class_names=True,
    order=42,
)
SHARE = 0.22  # of the picture's height that a line of letters takes at most
ROOM = 0.7  # of its height that the whole label takes at most
LEAST = 8  # px of the smallest letters: below, the font cannot be read


@sparing
def attack(model, images, labels, text_features, threat, sample_ids=None, stop=False, class_names=None):
    """Arguments as `pgd`; class_names: C strings. The model and the prompts are not looked at, so `stop` has no effect.

    Returns float [N, 3, H, W] in [0, 1]: class and place of the label are functions of (threat.seed, sample id); the class is
    `threat.target` where that is set. With one class the pictures stay as they are. `UserError` without names.
    """
    check_pixels(images)
    if class_names is None:
        raise UserError("the typographic attack writes class names: hand it class_names")
    result = images.clone()
    ids = torch.arange(len(images)) if sample_ids is None else torch.as_tensor(sample_ids)
    for row, (own, sample) in enumerate(zip(labels.tolist(), ids.tolist(), strict=True)):
        if len(class_names) == 1:
            break
        generator = sample_generator(threat.seed, int(sample), "typographic")
        wrong = (own + 1 + int(torch.randint(len(class_names) - 1, (), generator=generator))) % len(class_names)
        paper = torch.from_numpy(label(class_names[wrong if threat.target is None else threat.target], *images.shape[2:]))
        room = torch.tensor(images.shape[2:]) - torch.tensor(paper.shape)
        top, left = (torch.rand(2, generator=generator) * (room + 1)).long().tolist()
        result[row, :, top : top + len(paper), left : left + paper.shape[1]] = paper.to(images)
    return result


@functools.lru_cache(maxsize=4096)
def label(text, height, width):
    """Black letters on white, float [h, w] in [0, 1], for a picture of this size, in px: as large as fits into its room.

    A name is broken between words, and in letters of the least size within words; what is then too much is cut off.
    """
    for size in range(max(LEAST, round(SHARE * height)), LEAST - 1, -1):
        font = ImageFont.load_default(size=size)
        margin = max(1, size // 6)
        lines = _lines(text, font, width - 2 * margin, whole=size > LEAST)
        line = sum(font.getmetrics())
        fits = max(1, int((max(ROOM * height, line + 2 * margin) - 2 * margin) // line))
        if lines is not None and (len(lines) <= fits or size == LEAST):
            break
    lines = lines[:fits]
    wide = max(round(font.getlength(one)) for one in lines) + 2 * margin
    paper = Image.new("L", (wide, len(lines) * line + 2 * margin), 255)
    draw = ImageDraw.Draw(paper)
    for number, one in enumerate(lines):
        draw.text((margin, margin + number * line), one, fill=0, font=font)
    return np.asarray(paper, dtype=np.float64)[:height, :width] / 255


def _lines(text, font, room, whole):
    """Lines of at most `room` px, of whole words; where a word is wider, None, or unless `whole` the word in parts."""
    lines = []
    for word in text.split() or ["?"]:
        if lines and font.getlength(f"{lines[-1]} {word}") <= room:
            lines[-1] += f" {word}"
            continue
        if font.getlength(word) > room and whole:
            return None
        lines.append("")
        for letter in word:
            if lines[-1] and font.getlength(lines[-1] + letter) > room:
                lines.append("")
            lines[-1] += letter
    return lines
