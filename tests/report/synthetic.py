"""A clearly synthetic study as packed tables: made-up outcomes. Nothing in it was measured."""

from itertools import product
from zlib import crc32

import numpy as np
import pandas as pd

from mmcoa.evaluation.statistics import wilson
from mmcoa.store import packed

NAMES = ("duck", "red fox", "owl", "tractor", "hand saw", "bus", "hammer", "crow")  # classes of every data set
DATASETS = ("openmoji/birds", "openmoji/land-vehicles", "openmoji/tools")
ATTACKS = ("clean", "image", "text", "sequential")
LEVELS = {  # share right under each of ATTACKS
    "none": (0.93, 0.6, 0.26, 0.12),
    "tecoa": (0.91, 0.7, 0.26, 0.16),
    "image_only": (0.9, 0.72, 0.25, 0.15),
    "mmcoa": (0.87, 0.66, 0.41, 0.25),
}
BOTH, ONE = ("openmoji/birds", "openmoji/tools"), ("openmoji/birds",)
PLAIN = {"none": ((None,), ()), "tecoa": ((0,), ()), "mmcoa": ((0, 1), ())}  # {entry: (seeds, in distribution the data sets)}
RICH = PLAIN | {"image_only": ((0,), ()), "image_only-matched": ((0,), ()), "image_only-in": ((0, 1), ONE)}
RICH |= {"tecoa-in": ((0, 1), BOTH), "mmcoa-in": ((0, 1), BOTH), "tecoa-4shot": ((0,), ONE)}
SWEEPS = {  # {name: (values, attacks, entries)}
    "epsilon": (("1/255", "2/255", "4/255", "8/255"), ("image", "sequential"), ("none", "mmcoa", "image_only")),
    "budget": (("1", "2"), ("text",), ("none",)),
    "auto": (("",), ("image", "auto"), ("none", "mmcoa")),
}


def study(entries=PLAIN, sweeps=None, trained="openmoji/birds", logs=False):
    """The packed tables of a made-up study."""
    made = {name: [] for name in packed.Packed.__dataclass_fields__}
    for entry, (seeds, inside) in entries.items():
        for seed, on in product(seeds, inside or (trained,)):
            model = entry if seed is None else f"{entry}{f'-on-{on[9:]}' if inside else ''}-seed{seed}"
            about = {"model": model, "entry": entry, "defense": entry.partition("-")[0], "base_model": "tiny-clip"}
            about["trained_on"] = on if seed is not None else ""
            if seed is not None:
                add_training(made, about | {"dataset": on, "seed": seed}, logs)
            points = [("", "", ATTACKS, 24)]
            for sweep, (values, attacks, those) in (sweeps or {}).items():
                points += [(sweep, value, attacks, 12) for value in values if entry in those]
            for (sweep, value, attacks, n), dataset in product(points, (on,) if inside else DATASETS):
                add_evaluation(made, about | {"dataset": dataset, "sweep": sweep, "sweep_value": value}, attacks, n)
    return packed.Packed(**{name: pd.DataFrame(rows) for name, rows in made.items()})


def random(*key):
    """A generator that depends on the key alone: two evaluations of a model are about the same pictures."""
    return np.random.default_rng(crc32(repr(key).encode()))


def cell(about, kind):
    keys = ("model", "entry", "defense", "dataset", "sweep", "sweep_value")
    return {key: about.get(key, "") for key in keys} | {"kind": kind, "seconds": 2.0, "notes": ""}


def add_training(made, about, logs):
    row = about | {"steps": 2, "batch_size": 8, "lr": np.nan, "inner_steps": 1, "trains": None, "seconds": 90.0}
    made["trainings"].append(row | {"final_clean": 90.0, "final_image": 60.0 if logs else np.nan})
    made["cells"].append(cell(about, "train"))
    made["logs"] += [{"model": about["model"], "step": step, "loss": 4.0 - step} for step in range(3)] if logs else []


def add_evaluation(made, about, attacks, n):
    """Rows, outcomes, changes and checks of one model on one data set."""
    dataset, model, on = about["dataset"], about["model"], about["trained_on"]
    point, luck = {key: about[key] for key in packed.POINT}, random(dataset).random(24)[:n]
    levels = dict(zip(ATTACKS, LEVELS[about["defense"]], strict=True))
    epsilon = float(about["sweep_value"].partition("/")[0]) if about["sweep"] == "epsilon" else 2
    task = "zero_shot" if not on else "in_distribution" if on == dataset else "out_of_distribution"
    about = about | {"task": task, "classes": len(NAMES), "n": n, "threat_text": "made up"}
    for attack in attacks:
        level = levels.get(attack, levels["image"] - 0.1)
        blur = 0.3 * (random(model, dataset, attack).random(24)[:n] - 0.5)
        right = (luck < levels["clean"]) & ((luck + blur < level) | (attack == "clean"))
        low, high = wilson(right.sum(), n)
        row = about | {"attack": attack, "accuracy": 100 * right.mean(), "correct": right.sum(), "ci_low": low, "ci_high": high}
        made["rows"].append(row | {"epsilon": np.nan if attack in ("clean", "text") else epsilon / 255})
        samples = [{"sample_id": i, "label": i % len(NAMES), "correct": each} for i, each in enumerate(right)]
        made["outcomes"] += [point | {"attack": attack} | one for one in samples]
    if "text" in attacks:
        made["changes"] += [point | change(index, name) for index, name in enumerate(NAMES)]
    if not about["sweep"]:
        checks = {"twice the steps": "-seed1" not in model, "without a bound": True}
        made["checks"] += [point | {"attack": "pgd", "check": name, "passed": passed} for name, passed in checks.items()]
    made["cells"].append(cell(about, "evaluate"))


def change(index, name):
    """The template's word for every other class, a word of the class name for the rest."""
    place, old, new = (6, name.split()[0], "thing") if index % 2 else (3, "photo", "snapshot")
    prompt = f"This is a photo of a {name}"
    own = {"attack": "text", "class_name": name, "prompt": prompt, "adversarial_prompt": prompt.replace(old, new)}
    return own | {"changed": True, "edits": [{"position": place, "old_word": old, "new_word": new, "source": "table:eval"}]}
