"""Figures of the losses: what TeCoA and MMCoA train and which pairs they align, and the same in short for every shipped
defence."""

import textwrap

import matplotlib.pyplot as plt
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from mmcoa.report import style
from mmcoa.report.names import method_label

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
    _side(axes, LOWER, "$x'$", "$f(x')$", IMAGE)
    _encoder(axes, 3.1, LOWER, LOWER, "image\nencoder\n$f$", TRAINED)
    _side(axes, LOWER, "$t$", "$g(t)$", TEXT)
    _encoder(axes, 10.1, LOWER, LOWER, "text\nencoder\n$g$", FROZEN)
    _loss(axes, LOWER, r"$\mathrm{CE}\,(s\,\langle f(x'),\, g(t_c)\rangle,\; y)$")
    _box(axes, -0.6, LOWER, 0.8, "$x$", IMAGE)
    _arrow(axes, (-0.2, LOWER), (0.8, LOWER), "PGD")


def _mmcoa(axes):
    _panel(axes, "MMCoA: trains both encoders, aligns each clean modality with the other one attacked", 0.0, 2.55)
    _side(axes, UPPER, "$x$", "$f(x)$", IMAGE)
    _side(axes, LOWER, "$x'$", "$f(x')$", IMAGE)
    _encoder(axes, 3.1, LOWER, UPPER, "image\nencoder\n$f$", TRAINED)
    _side(axes, UPPER, "$t'$", "$g(t')$", TEXT)
    _side(axes, LOWER, "$t$", "$g(t)$", TEXT)
    _encoder(axes, 10.1, LOWER, UPPER, "text\nencoder\n$g$", TRAINED)
    _loss(axes, UPPER, r"$\lambda_t\; L\,(f(x),\; g(t'))$")
    _loss(axes, LOWER, r"$\lambda_i\; L\,(f(x'),\; g(t))$")
    _arrow(axes, (1.2, UPPER - 0.28), (1.2, LOWER + 0.28), "PGD", side="left")
    _arrow(axes, (12.0, LOWER + 0.28), (12.0, UPPER - 0.28), "one word\nreplaced", side="right")


def _panel(axes, title, low, high):
    axes.set(xlim=(-1.1, 13.7), ylim=(low, high))
    axes.axis("off")
    axes.set_title(title, loc="left")


def _side(axes, y, given, feature, color):
    """From what an encoder is given to its feature: pictures from the left, prompts as in a mirror from the right."""

    def at(x):
        return x if color == IMAGE else 13.2 - x

    _box(axes, at(1.2), y, 0.8, given, color)
    _arrow(axes, (at(1.6), y), (at(2.45), y))
    _box(axes, at(4.75), y, 1.05, feature, color)
    _arrow(axes, (at(3.75), y), (at(4.22), y))


def _encoder(axes, x, low, high, name, color):
    _box(axes, x, (low + high) / 2, 1.3, name, color, height=high - low + 0.9, edge="--" if color == FROZEN else "-")
    axes.text(x, low - 0.42, "frozen" if color == FROZEN else "trained", ha="center", va="bottom", size=6.5, color="#444444")


def _loss(axes, y, formula):
    _both_ways(axes, 5.28, 7.92, y, 9)
    axes.text(6.6, y + 0.08, formula, ha="center", va="bottom", size=8.5)


def _box(axes, x, y, width, text, color, height=0.5, edge="-"):
    corner = (x - width / 2, y - height / 2)
    look = {"boxstyle": "round,pad=0,rounding_size=0.08", "fc": color, "ec": "#555555", "lw": 0.9, "ls": edge}
    axes.add_patch(FancyBboxPatch(corner, width, height, **look))
    axes.text(x, y, text, ha="center", va="center", size=9)


def _both_ways(axes, start, end, y, size):
    axes.add_patch(FancyArrowPatch((start, y), (end, y), arrowstyle="<->", mutation_scale=size, color="#555555", lw=1))


def _arrow(axes, start, end, label=None, side=None):
    axes.add_patch(FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=9, color="#555555", lw=1, shrinkA=1, shrinkB=1))
    if label:
        x, y = (start[0] + end[0]) / 2, (start[1] + end[1]) / 2
        offset, align = {"left": ((-0.12, 0), "right"), "right": ((0.12, 0), "left"), None: ((0, 0.08), "center")}[side]
        axes.text(x + offset[0], y + offset[1], label, ha=align, va="center" if side else "bottom", size=7.5, style="italic")


# Each shipped defence: trained encoders, and the pairs that its loss pulls together. `0`: of the model before any training.
DEFENCES = {
    "clean": ("fg", (("f(x)", "g(t)"),)),
    "tecoa": ("f", (("f(x')", "g(t)"),)),
    "fare": ("f", (("f(x')", "f_0(x)"),)),
    "pmg_aft": ("f", (("f(x')", "g(t)"), ("p(x')", "p_0(x')"), ("p(x')", "p(x)"))),
    "tga_zsr": ("f", (("f(x')", "g(t)"), ("A(x')", "A_0(x)"), ("A(x)", "A_0(x)"))),
    "agft": ("f", (("p(x')", "p_0(x)"),)),
    "advflyp": ("f", (("f(x')", "g(t)"), ("f(x')", "f_0(x')"), ("f(x')", "f(x)"))),  # and p as f: five are too many to draw
    "image_only": ("fg", (("f(x')", "g(t)"),)),
    "text_only": ("fg", (("f(x)", "g(t')"),)),
    "mmcoa": ("fg", (("f(x')", "g(t)"), ("f(x)", "g(t')"))),
    "mat": ("fg", (("f(x')", "g(t')"), ("f(x')", "g(t)"), ("f(x)", "g(t')"))),
    "leaf": ("g", (("g(t')", "g_0(t)"),)),
}


def defences():
    """Figure with one row a shipped defence: which encoders it trains, and what its loss pulls together."""
    style.use()
    figure, axes = plt.subplots(figsize=(style.WIDTH, 0.36 * len(DEFENCES) + 0.5))
    axes.set(xlim=(0, 14.2), ylim=(-0.6, len(DEFENCES) + 0.4))
    axes.axis("off")
    heads = ((0, "left", "method"), (2.95, "center", "image\nencoder"), (4.45, "center", "text\nencoder"))
    for x, align, text in (*heads, (5.6, "left", "pulled together")):
        axes.text(x, len(DEFENCES) - 0.25, text, size=7.5, style="italic", va="bottom", ha=align)
    for row, (name, (trained, pulled)) in enumerate(DEFENCES.items()):
        y, label = len(DEFENCES) - 1 - row, textwrap.fill(method_label(name), 12, break_on_hyphens=False)
        axes.text(0, y, label, va="center", size=8.5, weight="bold", linespacing=0.95)
        for x, encoder in ((2.95, "f"), (4.45, "g")):
            used = encoder in trained or any(encoder in side or "p" in side for pair in pulled for side in pair)
            color, edge = (TRAINED, "-") if encoder in trained else (FROZEN, "--")
            text = "trained" if encoder in trained else "frozen" if used else "not used"
            _box(axes, x, y, 1.25, "", color, height=0.62, edge=edge)
            axes.text(x, y, text, ha="center", va="center", size=7)
        for place, (left, right) in enumerate(pulled):
            x = 6.25 + 2.8 * place
            for at, side in ((x, left), (x + 1.6, right)):
                _box(axes, at, y, 1.0, f"${side}$", _side_color(side), height=0.62, edge="--" if "0" in side else "-")
            _both_ways(axes, x + 0.5, x + 1.1, y, 8)
    return figure


def _side_color(side):
    """By modality; grey for what a frozen model says."""
    return FROZEN if "0" in side else TEXT if side.startswith("g") else IMAGE
