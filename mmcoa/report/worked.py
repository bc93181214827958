"""Single pictures of a study's gallery (gallery.py) as figures: some that the image attack broke, and one through all
attacks."""

import textwrap
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from PIL import Image

from mmcoa.report import style
from mmcoa.report.names import attack_label, dataset_label, listed
from mmcoa.report.words import marked

BROKEN = ("image", "text", "sequential")  # what the picture of the worked example falls to
ABOUT = {  # what was done to picture and prompts, in the notation of book/threat.md
    "clean": "clean: $x$, $t$",
    "image": "image: $x'$, $t$",
    "text": "text: $x$, $t'$",
    "sequential": "sequential: $x''$, $t'$",
}


def undefended(content):
    """Name of the gallery's undefended model."""
    return next(model["name"] for model in content["models"] if model["defense"] == "none")


def choose(content):
    """The picture of the worked example: the first that the undefended model gets right and each of BROKEN breaks, or None."""
    name = undefended(content)
    for one in content["examples"]:
        made = one["models"][name]["attacks"]
        if made["clean"]["correct"] and not any(made[attack]["correct"] for attack in BROKEN):
            return one | one["models"][name]
    return None


def crop(content, folder, name, box):
    """A window [left, top, width, height] of the sheet of a model (or `clean`): array [H, W, 3] in [0, 1]."""
    left, top, width, height = box
    with Image.open(Path(folder) / content["sheets"][name]["file"]) as sheet:
        window = sheet.convert("RGB").crop((left, top, left + width, top + height))
        return np.asarray(window) / 255


def facts(content, one):
    """Phrases for the page, {key: text}; one: what `choose` gave."""
    model = next(model for model in content["models"] if model["defense"] == "none")
    found = {
        "dataset": dataset_label(one["dataset"]),
        "class": one["class_name"],
        "sample": str(one["sample_id"]),
        "split": one["split"],
        "base_model": model["base_model"],
        "threat": model["description"],
        "edits": listed(f"replaces “{edit['old_word']}” by “{edit['new_word']}”" for edit in one["edits"]),
        "amplified": f"{content['amplified']:g}",
    }
    for name, made in one["attacks"].items():
        found[f"says_{name}"] = f"“{made['top'][0][0]}” ({percent(made['top'][0][1])} %)"
        found[f"right_{name}"] = f"{percent(made['label']['probability'])} %, rank {made['label']['rank']}"
    return found


def percent(probability):
    return f"{100 * probability:.0f}"


def probabilities_table(one):
    """One row a class, one column an attack: probability in percent where the class is among the five likeliest, else a
    dash."""
    names = dict.fromkeys([one["class_name"], *(name for made in one["attacks"].values() for name, _ in made["top"])])
    rows = []
    for name in names:
        row = {"class": name + (" ✓" if name == one["class_name"] else "")}
        for attack, made in one["attacks"].items():
            said = dict(made["top"]) | {one["class_name"]: made["label"]["probability"]}
            row[attack_label(attack)] = percent(said[name]) if name in said else "–"
        rows.append(row)
    return pd.DataFrame(rows)


def prompts_table(one):
    """The prompt of the picture's class before and after the text attack, changed words marked for MyST."""
    row = {"class": one["class_name"], "prompt $t_y$": marked(one["prompt"], one["edits"], ".was")}
    return pd.DataFrame([row | {"adversarial prompt $t'_y$": marked(one["adversarial_prompt"], one["edits"], ".now")}])


def bars_figure(content, one, folder):
    """One row an attack: the picture, and the likeliest classes with their probabilities."""
    style.use()
    names = [name for name in ABOUT if name in one["attacks"]]
    figure, panels = plt.subplots(len(names), 2, figsize=(style.WIDTH, 1.15 * len(names)), width_ratios=[1, 3.4])
    for (left, right), name in zip(panels, names, strict=True):
        made = one["attacks"][name]
        sheet, box = (undefended(content), made["picture"]) if "picture" in made else ("clean", one["clean"])
        left.imshow(crop(content, folder, sheet, box), interpolation="none")
        left.axis("off")
        classes, values = zip(*made["top"], strict=True)
        colors = [style.BLUE if each == one["class_name"] else style.RED for each in classes]
        bars = right.barh(range(len(classes)), 100 * np.array(values), color=colors, height=0.7)
        for bar, each, value in zip(bars, classes, values, strict=True):
            bar.set_hatch("" if each == one["class_name"] else "///")
            bar.set_edgecolor("white")
            right.text(bar.get_width() + 1, bar.get_y() + 0.35, percent(value), va="center", size=7)
        right.set_yticks(range(len(classes)), [textwrap.shorten(each, 44, placeholder=" …") for each in classes])
        right.tick_params(axis="both", labelsize=7, labelbottom=right is panels[-1][1])
        right.set(xlim=(0, 108), ylim=(len(classes) - 0.4, -0.6))
        right.set_title(ABOUT[name], loc="left")
        right.grid(axis="y", visible=False)
    panels[-1][1].set_xlabel("probability (%) over all class prompts")
    figure.tight_layout(h_pad=0.7)
    return figure


def broken(content, count=5):
    """At most `count` pictures that the undefended model gets right and the image attack breaks, one a data set."""
    name, found = undefended(content), {}
    for one in content["examples"]:
        made = one["models"][name]["attacks"]
        if made["clean"]["correct"] and not made["image"]["correct"]:
            found.setdefault(one["dataset"], one | one["models"][name])
    return list(found.values())[:count]


def images_figure(content, examples, folder):
    """One column a picture of `broken`: clean, its perturbation amplified, adversarial, and the predictions."""
    style.use()
    figure, panels = plt.subplots(3, max(1, len(examples)), figsize=(style.WIDTH, 4.5), squeeze=False)
    for axes in panels.flat:
        axes.axis("off")
    for column, one in zip(panels.T, examples, strict=True):
        name, made = undefended(content), one["attacks"]["image"]
        boxes = (("clean", one["clean"]), (name, made["perturbation"]), (name, made["picture"]))
        for axes, (sheet, box) in zip(column, boxes, strict=True):
            axes.imshow(crop(content, folder, sheet, box), interpolation="none")
        _prediction(column[0], one["attacks"]["clean"]["top"][0], one["class_name"], 1.04, "bottom")
        _prediction(column[2], made["top"][0], one["class_name"], -0.04, "top")
    for axes, text in zip(panels[:, 0], ("clean", f"perturbation × {content['amplified']:g}", "adversarial"), strict=True):
        axes.text(-0.06, 0.5, text, transform=axes.transAxes, ha="right", va="center", rotation=90, size=8, weight="bold")
    figure.subplots_adjust(wspace=0.1, hspace=0.06)
    return figure


def _prediction(axes, top, truth, height, align):
    """What the model says, and whether it is right: by sign and colour."""
    name, probability = top
    sign, color = ("✓", style.BLUE) if name == truth else ("✗", style.RED)
    text = "\n".join(textwrap.wrap(f"{sign} {name}", 19)) + f"\n{percent(probability)} %"
    axes.text(0.5, height, text, transform=axes.transAxes, ha="center", va=align, size=7.5, color=color)
