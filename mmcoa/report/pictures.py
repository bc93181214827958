"""Attacked pictures: what `mmcoa gallery STUDY` has kept of single pictures, drawn as they and their perturbations look.

A picture of a data set whose licence does not allow it is never in the gallery (mmcoa/gallery/showable.py).
"""

import json
import textwrap

import matplotlib.pyplot as plt
import pandas as pd
from PIL import Image

from mmcoa.errors import UserError
from mmcoa.report import style
from mmcoa.report.names import dataset_label, method_label

SIDE = 128  # pixels that a picture of few is enlarged to


def load(study, results="results"):
    """(content of gallery.json, its folder) of results/STUDY/gallery. Raises `UserError` where it is missing or damaged."""
    path = results / study / "gallery" / "gallery.json"
    try:
        content = json.loads(path.read_text(encoding="utf8"))
        absent = [sheet["file"] for sheet in content["sheets"].values() if not (path.parent / sheet["file"]).is_file()]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"no readable gallery {path} ({type(error).__name__}); make it: mmcoa gallery {study}") from error
    if absent:
        raise UserError(f"{path.parent} lacks {absent[0]}; make the gallery again: mmcoa gallery {study}")
    return content, path.parent


def credits(content):
    """Who made the pictures that are shown, under which licence."""
    by = {one["name"]: one["attribution"] for one in content["datasets"]}
    return "; ".join(dict.fromkeys(by[one["dataset"]] for one in content["examples"]))


def cut(content, folder, name, box):
    """One picture of a sheet, as PIL's; small ones enlarged, pixel by pixel."""
    left, top, width, height = box
    with Image.open(folder / content["sheets"][name]["file"]) as sheet:
        picture = sheet.convert("RGB").crop((left, top, left + width, top + height))
    times = max(1, SIDE // width)
    return picture.resize((width * times, height * times), Image.Resampling.NEAREST)


def says(found):
    """`goose, 69 %`: the likeliest class and its probability."""
    name, probability = found["top"][0]
    return f"{name}, {100 * probability:.0f} %"


def strip(content, folder, one, model="none"):
    """Figure of one picture and one model: before, perturbation, after; under each what the model says; below, the prompts."""
    style.use()
    made = one["models"][model]
    attacks = made["attacks"]
    image, both = attacks["image"], attacks["sequential"]
    panels = (
        ("before", cut(content, folder, "clean", one["clean"]), says(attacks["clean"]), attacks["clean"]["correct"]),
        (f"perturbation, x{content['amplified']:g}", cut(content, folder, model, image["perturbation"]), "", None),
        ("image attacked", cut(content, folder, model, image["picture"]), says(image), image["correct"]),
        ("prompts attacked", cut(content, folder, "clean", one["clean"]), says(attacks["text"]), attacks["text"]["correct"]),
        ("both attacked", cut(content, folder, model, both["picture"]), says(both), both["correct"]),
    )
    figure, axes = plt.subplots(1, len(panels), figsize=(style.WIDTH, 2.05))
    for place, (title, picture, answer, right) in zip(axes, panels, strict=True):
        place.imshow(picture, interpolation="nearest")
        place.set_title(title, fontsize=8)
        place.set(xticks=[], yticks=[])
        color = style.BLACK if right is None else style.GREEN if right else style.RED
        mark = "" if right is None else "right: " if right else "wrong: "
        place.set_xlabel("\n".join(textwrap.wrap(mark + answer, 22)), color=color, fontsize=8)
    figure.tight_layout(w_pad=0.3)
    return figure


def prompts(content):
    """(shown, numbers): the prompt of each picture's class before and after the text attack on the undefended model."""
    rows = []
    for one in content["examples"]:
        made = one["models"]["none"]
        rows.append({"class": one["class_name"], "data set": dataset_label(one["dataset"]), "prompt": made["prompt"]})
        rows[-1]["after the attack"] = made["adversarial_prompt"] if made["edits"] else "as it is"
    shown = pd.DataFrame(rows)
    return shown, shown


def outcomes(content):
    """(shown, numbers): of the pictures shown, how many each model gets right under each attack. Chosen, so no estimate."""
    rows = []
    for model in content["models"]:
        row = {"model": method_label(model["name"].partition("-seed")[0]), "n": len(content["examples"])}
        for attack in content["attacks"]:
            row[attack] = sum(one["models"][model["name"]]["attacks"][attack]["correct"] for one in content["examples"])
        rows.append(row)
    shown = pd.DataFrame(rows)
    return shown, shown


def broken_by_all(content):
    """The first picture that the undefended model gets right and that each attack breaks, else the first."""
    for one in content["examples"]:
        attacks = one["models"]["none"]["attacks"]
        if attacks["clean"]["correct"] and not any(attacks[name]["correct"] for name in ("image", "text", "sequential")):
            return one
    return content["examples"][0]
