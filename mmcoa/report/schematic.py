"""The figure of the two losses: what TeCoA and MMCoA train, and which pairs they align."""

import matplotlib.pyplot as plt
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from mmcoa.report import style

TRAINED, FROZEN = "#fde3d0", "#ececec"
IMAGE, TEXT = "#dcebf7", "#fdf0cf"
LOWER, UPPER = 0.55, 2.0  # heights of the two rows


def losses():
    """Figure with one panel a method; x', t': adversarial image and prompt."""
    style.use()
    figure, axes = plt.subplots(2, 1, figsize=(style.WIDTH, 4.7), height_ratios=[1.15, 2.6])
    _tecoa(axes[0])
    _mmcoa(axes[1])
    figure.tight_layout(h_pad=1.2)
    return figure


def _tecoa(axes):
    _panel(axes, "TeCoA: trains the image encoder", 0.0, 1.15)
    _image_side(axes, LOWER, "$x'$", "$f(x')$")
    _encoder(axes, 3.1, LOWER, LOWER, "image\nencoder\n$f$", TRAINED)
    _text_side(axes, LOWER, "$t$", "$g(t)$")
    _encoder(axes, 10.1, LOWER, LOWER, "text\nencoder\n$g$", FROZEN)
    _loss(axes, LOWER, r"$\mathrm{CE}\,(s\,\langle f(x'),\, g(t_c)\rangle,\; y)$")
    _box(axes, -0.6, LOWER, 0.8, "$x$", IMAGE)
    _arrow(axes, (-0.2, LOWER), (0.8, LOWER), "PGD")


def _mmcoa(axes):
    _panel(axes, "MMCoA: trains both encoders, aligns each clean modality with the other one attacked", 0.0, 2.55)
    _image_side(axes, UPPER, "$x$", "$f(x)$")
    _image_side(axes, LOWER, "$x'$", "$f(x')$")
    _encoder(axes, 3.1, LOWER, UPPER, "image\nencoder\n$f$", TRAINED)
    _text_side(axes, UPPER, "$t'$", "$g(t')$")
    _text_side(axes, LOWER, "$t$", "$g(t)$")
    _encoder(axes, 10.1, LOWER, UPPER, "text\nencoder\n$g$", TRAINED)
    _loss(axes, UPPER, r"$\lambda_t\; L\,(f(x),\; g(t'))$")
    _loss(axes, LOWER, r"$\lambda_i\; L\,(f(x'),\; g(t))$")
    _arrow(axes, (1.2, UPPER - 0.28), (1.2, LOWER + 0.28), "PGD", side="left")
    _arrow(axes, (12.0, LOWER + 0.28), (12.0, UPPER - 0.28), "one word\nreplaced", side="right")


def _panel(axes, title, low, high):
    axes.set(xlim=(-1.1, 13.7), ylim=(low, high))
    axes.axis("off")
    axes.set_title(title, loc="left")


def _image_side(axes, y, picture, feature):
    _box(axes, 1.2, y, 0.8, picture, IMAGE)
    _arrow(axes, (1.6, y), (2.45, y))
    _box(axes, 4.75, y, 1.05, feature, IMAGE)
    _arrow(axes, (3.75, y), (4.22, y))


def _text_side(axes, y, prompt, feature):
    _box(axes, 12.0, y, 0.8, prompt, TEXT)
    _arrow(axes, (11.6, y), (10.75, y))
    _box(axes, 8.45, y, 1.05, feature, TEXT)
    _arrow(axes, (9.45, y), (8.98, y))


def _encoder(axes, x, low, high, name, color):
    _box(axes, x, (low + high) / 2, 1.3, name, color, height=high - low + 0.9, edge="--" if color == FROZEN else "-")
    axes.text(x, low - 0.42, "frozen" if color == FROZEN else "trained", ha="center", va="bottom", size=6.5, color="#444444")


def _loss(axes, y, formula):
    axes.add_patch(FancyArrowPatch((5.28, y), (7.92, y), arrowstyle="<->", mutation_scale=9, color="#555555", lw=1))
    axes.text(6.6, y + 0.08, formula, ha="center", va="bottom", size=8.5)


def _box(axes, x, y, width, text, color, height=0.5, edge="-"):
    corner = (x - width / 2, y - height / 2)
    look = {"boxstyle": "round,pad=0,rounding_size=0.08", "fc": color, "ec": "#555555", "lw": 0.9, "ls": edge}
    axes.add_patch(FancyBboxPatch(corner, width, height, **look))
    axes.text(x, y, text, ha="center", va="center", size=9)


def _arrow(axes, start, end, label=None, side=None):
    axes.add_patch(FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=9, color="#555555", lw=1, shrinkA=1, shrinkB=1))
    if label:
        x, y = (start[0] + end[0]) / 2, (start[1] + end[1]) / 2
        offset, align = {"left": ((-0.12, 0), "right"), "right": ((0.12, 0), "left"), None: ((0, 0.08), "center")}[side]
        axes.text(x + offset[0], y + offset[1], label, ha=align, va="center" if side else "bottom", size=7.5, style="italic")
