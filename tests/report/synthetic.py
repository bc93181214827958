"""A clearly synthetic study: real cells and hashes, made-up outcomes. Nothing in it was measured."""

import numpy as np
import pandas as pd

from mmcoa.datasets import openmoji
from mmcoa.prompts import class_prompts
from mmcoa.statistics import wilson
from mmcoa.study.cells import expand
from mmcoa.study.profiles import load_profile
from mmcoa.study.records import write_record

PROFILE = """
name: synthetic
base_model: {base_model}
device: cpu
train: {{dataset: openmoji/birds, steps: 2, batch_size: 8, inner_steps: 1, epsilon: 2/255}}
models:
  - {{defense: none}}
  - {{defense: tecoa, seeds: [0]}}
  - {{defense: mmcoa, seeds: [0, 1]}}
evaluate: {{datasets: [{datasets}], split: test, samples: {samples}, attacks: [{attacks}], epsilon: 2/255}}
"""
DATASETS = ("openmoji/birds", "openmoji/land-vehicles", "openmoji/tools")
ATTACKS = ("clean", "image", "text", "sequential")
CHANCE = {  # made up: chance of a right prediction
    "none": (0.93, 0.6, 0.26, 0.12),
    "tecoa": (0.91, 0.7, 0.26, 0.16),
    "mmcoa": (0.87, 0.66, 0.41, 0.25),
}
IMAGE_ATTACK = dict(norm="linf", step_size=0.5 / 255, steps=10, restarts=1, attacked_space="native")


def write_profile(folder, base_model="openmoji-clip", datasets=DATASETS, attacks=ATTACKS, samples=24):
    """Write the profile and return its path; `base_model` may be a checkpoint folder."""
    path = folder / "synthetic.yaml"
    lists = {"datasets": ", ".join(datasets), "attacks": ", ".join(attacks)}
    path.write_text(PROFILE.format(base_model=base_model, samples=samples, **lists))
    return path


def write_results(profile, results):
    """Write made-up records and outcomes for every cell of a profile; returns the results folder of the profile."""
    folder = results / "synthetic"
    for number, cell in enumerate(expand(profile, results=results)):
        made = {"device": "cpu", "threads": 1, "seconds": 2.0, "seed": 0, "synthetic": True}
        if cell.kind == "train":
            write_record(folder, cell, made, training={"seconds": 1.5, "images": 16})
        else:
            write_evaluation(folder, cell, made, load_profile(profile).base_model, np.random.default_rng(number))
    return folder


def write_evaluation(folder, cell, made, base_model, rng):
    """One made-up evaluate record with its outcomes."""
    settings, defense = cell.parameters, cell.model.split("-")[0]
    records = openmoji.glyph_records()
    names = [records[i]["name"] for i in openmoji.glyph_indices(settings["dataset"].removeprefix("openmoji/"))]
    n = settings["samples"]
    outcomes = pd.DataFrame({"sample_id": np.arange(n), "label": np.arange(n) % len(names)})
    rows = []
    luck = rng.random(n)
    for attack, chance in zip(settings["attacks"], CHANCE[defense], strict=False):
        outcomes[f"{attack}_correct"] = luck < chance
        outcomes[f"{attack}_prediction"] = outcomes.label
        rows.append(make_row(cell, base_model, defense, attack, int((luck < chance).sum()), n, len(names)))
    (folder / "outcomes").mkdir(parents=True, exist_ok=True)
    outcomes.to_parquet(folder / "outcomes" / f"{cell.id}.parquet")
    write_record(folder, cell, made, rows, [make_change(name) for name in names])


def make_row(cell, base_model, defense, attack, correct, n, classes):
    low, high = wilson(correct, n)
    image = attack in ("image", "sequential")
    trained_on = "" if defense == "none" else "openmoji/birds"
    dataset = cell.parameters["dataset"]
    task = "zero_shot" if not trained_on else "in_distribution" if trained_on == dataset else "out_of_distribution"
    row = dict(model=cell.model, defense=defense, base_model=base_model, trained_on=trained_on, task=task, dataset=dataset)
    row |= dict(split="test", classes=classes, attack=attack, accuracy=100 * correct / n, correct=correct, n=n)
    row |= dict(ci_low=low, ci_high=high)
    row |= dict(epsilon=2 / 255 if image else 0.0, **(IMAGE_ATTACK if image else dict.fromkeys(IMAGE_ATTACK, 0)))
    row |= dict(candidate_source="table:eval" if attack in ("text", "sequential") else "", text_budget=1, share_changed=100.0)
    row |= dict(resize="openclip", train_seed=0, attack_seed=0, seed=0, config_hash="synthetic", device="cpu", seconds=0.1)
    return row | {"schema_version": 1}


def make_change(name):
    prompt = class_prompts([name], "This is a photo of a {}")[0]
    change = dict(class_name=name, prompt=prompt, adversarial_prompt=prompt.replace("photo", "snapshot"), position=3)
    return change | dict(old_word="photo", new_word="snapshot", score=0.5, source="table:eval", changed=True)
