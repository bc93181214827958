"""The one style of all figures: colour-blind safe, told apart without colour, sharp on screen and in print."""

from pathlib import Path

import matplotlib

matplotlib.use("svg")  # figures go to files; no display is needed

import matplotlib.pyplot as plt
import seaborn as sns

# Okabe and Ito's palette; each attack and method also has a marker of its own.
BLACK, GREY, BLUE, SKY, GREEN = "#222222", "#7a7a7a", "#0072b2", "#56b4e9", "#009e73"
ORANGE, RED, PINK = "#e69f00", "#d55e00", "#cc79a7"
ATTACKS = {
    "clean": (BLACK, "o"),
    "image": (BLUE, "s"),
    "text": (ORANGE, "^"),
    "independent": (GREEN, "P"),
    "sequential": (RED, "v"),
    "joint": (SKY, "D"),
    "multimodal": (PINK, "X"),
}
METHODS = {
    "none": (GREY, "o"),
    "clean": (BLACK, "P"),
    "tecoa": (BLUE, "s"),
    "fare": (GREEN, "D"),
    "pmg_aft": (PINK, "X"),
    "leaf": (ORANGE, "p"),
    "agft": (BLUE, "d"),
    "image_only": (SKY, "<"),
    "text_only": (ORANGE, "^"),
    "mmcoa": (RED, "v"),
    "mat": (RED, "*"),
}
OTHER = (GREEN, "h")
WIDTH = 7.2  # inches; the book's text column

_RULES = {
    "font.family": "DejaVu Sans",  # ships with matplotlib: same figure on every machine
    "font.size": 8.5,
    "axes.titlesize": 9,
    "axes.titleweight": "bold",
    "axes.labelsize": 8.5,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8.5,
    "legend.fontsize": 8.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#555555",
    "axes.grid": True,
    "grid.color": "#e3e3e3",
    "grid.linewidth": 0.7,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "figure.facecolor": "white",
    "svg.fonttype": "path",  # text as outlines: no font is fetched and none is missing
    "svg.hashsalt": "mmcoa",  # same figure, same bytes
    "savefig.bbox": "tight",
    "savefig.pad_inches": 0.05,
}


def method(name):
    """(colour, marker) of a method; a variant has the colour of the method that it is one of."""
    base = name.partition("-")[0]
    return METHODS.get(name) or (METHODS.get(base, OTHER)[0], OTHER[1])


def grid(count):
    """(rows, columns) for some panels, at most three a row: as few rows as it takes, and as few empty places."""
    rows = -(-count // 3)
    return rows, -(-count // rows)


def finish(panels, count):
    """Blank the empty places of a grid with shared axes; the panels above them get numbers of their own."""
    for axes in panels.flat[count:]:
        axes.axis("off")
    for axes in panels.flat[max(0, count - panels.shape[1]) : count]:
        axes.tick_params(axis="x", labelbottom=True)


def use():
    """Set the house style for figures made from here on."""
    sns.set_theme(style="white", rc=_RULES)


def save(figure, path):
    """Write a figure as SVG (same figure, same bytes), close it and return the path."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="svg", metadata={"Date": None})
    plt.close(figure)
    return path
