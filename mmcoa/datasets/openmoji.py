"""The embedded data: OpenMoji glyphs drawn as seeded views, 64 x 64 pixels.

A view is a glyph at a random place, scale and rotation before a random background, with random brightness and contrast.
Styles: `color` (splits `train` and `test`: the same glyphs, other views) and `faded` (split `unseen-style`: 30 to 70 % of the
colours' saturation, before a texture; never seen in pre-training). Outlines alone leave the embedded model near chance:
too far to compare anything.
Each glyph's views come from a generator of its own, keyed by (seed, split, glyph): same seed, same pixels, whatever else
is drawn beside them.
"""

import functools
import json
from importlib.resources import files

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

SIZE, TILE, COLUMNS = 64, 72, 32
SPLITS = {"train": "color", "test": "color", "unseen-style": "faded"}
VIEWS = {"train": 32, "test": 10, "unseen-style": 10}
CHUNK = 512  # views drawn at once: a whole split of float pictures would take gigabytes
HELD_OUT = "office"  # never shown in pre-training


@functools.cache
def glyph_records():
    """[{"name", "group", "code"}, ...] of all glyphs, in sheet order."""
    return json.loads((files("mmcoa.assets") / "openmoji.json").read_text(encoding="utf8"))


def glyph_indices(group):
    """Sheet positions of a group's glyphs."""
    return [i for i, record in enumerate(glyph_records()) if record["group"] == group]


@functools.cache
def glyph_sheet():
    """Glyphs as premultiplied RGBA, float [G, 4, 72, 72] in [0,1]."""
    with (files("mmcoa.assets") / "openmoji_color.png").open("rb") as file:
        pixels = np.array(Image.open(file).convert("RGBA"))
    tiles = pixels.reshape(-1, TILE, COLUMNS, TILE, 4).transpose(0, 2, 4, 1, 3).reshape(-1, 4, TILE, TILE)
    tiles = torch.from_numpy(tiles[: len(glyph_records())].copy()).float() / 255
    tiles[:, :3] *= tiles[:, 3:]
    return tiles


def draw_parameters(rng, count):
    """Random numbers of `count` views, float32 [count, 24] in [0,1): see `render` for what each column decides."""
    return torch.from_numpy(rng.random((count, 24), dtype=np.float32))


def _background(u, style):
    """Two pale colours blended along a random direction; `faded` adds a grid of waves in a random direction."""
    axis = torch.linspace(-1, 1, SIZE)
    y, x = axis[:, None], axis[None, :]
    first, second = (0.35 + 0.65 * u[:, i : i + 3, None, None] for i in (4, 7))
    angle = 2 * np.pi * u[:, 10, None, None]
    along, across = x * angle.cos() + y * angle.sin(), y * angle.cos() - x * angle.sin()
    weight = (along * 0.5 + 0.5).clamp(0, 1)[:, None]
    if style == "faded":
        frequency = 6 + 18 * u[:, 11, None, None]
        waves = (along * frequency).sin() * (across * frequency * (0.3 + u[:, 12, None, None])).cos()
        weight = (0.5 * weight + 0.25 + 0.25 * waves[:, None]).clamp(0, 1)
    return first * weight + second * (1 - weight)


def render(glyphs, parameters, style="color"):
    """Draw views: glyph positions int64 [N], `draw_parameters` [N, 24] -> uint8 [N, 3, 64, 64].

    Columns: 0 scale, 1-2 place, 3 rotation, 4-9 background colours, 10-12 background direction and texture,
    13 saturation (faded only), 16 brightness, 17 contrast; the others are spare.
    """
    u = parameters
    scale = 0.7 + 0.3 * u[:, 0]  # glyph's box over the canvas
    room = (1 - scale) + 0.08
    shift_x, shift_y = (2 * u[:, 1] - 1) * room, (2 * u[:, 2] - 1) * room
    angle = (2 * u[:, 3] - 1) * (np.pi / 12)
    axis = (torch.arange(SIZE, dtype=torch.float32) * 2 + 1) / SIZE - 1
    x, y = axis[None, None, :] - shift_x[:, None, None], axis[None, :, None] - shift_y[:, None, None]
    cos, sin = (angle.cos() / scale)[:, None, None], (angle.sin() / scale)[:, None, None]
    grid = torch.stack([cos * x + sin * y, cos * y - sin * x], dim=-1)
    glyph = F.grid_sample(glyph_sheet()[glyphs], grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    color, alpha = glyph[:, :3], glyph[:, 3:]
    if style == "faded":
        grey = (color * torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(dim=1, keepdim=True)  # ITU-R BT.601 luma
        color = grey + (color - grey) * (0.3 + 0.4 * u[:, 13, None, None, None])
    picture = color + (1 - alpha) * _background(u, style)
    brightness, contrast = 0.75 + 0.5 * u[:, 16], 0.75 + 0.5 * u[:, 17]
    picture = (picture - 0.5) * contrast[:, None, None, None] + 0.5 * brightness[:, None, None, None]
    return (picture.clamp(0, 1) * 255).round().to(torch.uint8)


def group_views(group, split, seed=0, views=None):
    """All views of one group: (images uint8 [C * views, 3, 64, 64], labels int64, class names).

    Sample `v * C + c` is view v of class c, so that every prefix is balanced over classes.
    """
    glyphs = glyph_indices(group)
    views = views or VIEWS[split]
    code = list(SPLITS).index(split)
    draws = torch.stack([draw_parameters(np.random.default_rng([seed, code, glyph]), views) for glyph in glyphs], dim=1)
    labels = torch.arange(len(glyphs)).repeat(views)
    parts = zip(torch.tensor(glyphs)[labels].split(CHUNK), draws.flatten(0, 1).split(CHUNK), strict=True)
    images = torch.cat([render(part, parameters, SPLITS[split]) for part, parameters in parts])
    return images, labels, [glyph_records()[glyph]["name"] for glyph in glyphs]


def read(record, split, folder=None):
    """One split of a group as a `Source`."""
    from mmcoa.datasets.source import Source

    images, labels, names = group_views(record.name.removeprefix("openmoji/"), split, views=record.views)
    keys = [f"{split}/{names[label]}/{i // len(names)}" for i, label in enumerate(labels.tolist())]
    return Source(labels, keys, folder, names, pixels=images)
