"""What a plan costs before any of its cells has run: floating-point operations from its settings, hours at measured rates.

An upper bound in one respect: a sample that an attack has broken is not attacked again, which nobody knows beforehand.
"""

import csv
import importlib.util
import json
from pathlib import Path

from mmcoa import defenses
from mmcoa.attacks.catalog import find, usable_parts
from mmcoa.datasets.records import records
from mmcoa.identity import asset

# Achieved operations a second in fp32, from results/speed (AMD EPYC, 2 cores): PGD step, ViT-B-32, batch 64: 64 pictures
# there and
# back in 6.55 s; PGD of the embedded model: 414 pictures a second there and back.
CPU = {"large": 0.17e12, "small": 0.09e12}
SMALL = 1e9  # operations of an image tower, forward, below which the second rate holds
ASSUMED_GPU = 10e12  # half of the 19.5 TFLOP/s that an A100 is published with in fp32; results/speed/GPU.csv goes before it
THERE_AND_BACK = 2  # forward, and gradients of the activations alone
UPDATE = 3  # forward, gradients of activations and of weights
WORDS, CANDIDATES, TOKENS = 2, 10, 16  # words of a prompt that may change, candidates each; tokens of a prompt as it is encoded
CHECKS = 6  # searches of the self-checks for one image attack
ROUNDS = 3  # of the joint attack's alternation, typically


def towers(name):
    """(operations of the image tower, of the text tower), forward, one picture and one prompt; None for what has no
    formula here.
    """
    spec = importlib.util.find_spec("open_clip")
    folder = next((path for path in (asset(name), Path(name)) if (path / "open_clip_config.json").is_file()), None)
    if folder:
        config = json.loads((folder / "open_clip_config.json").read_text())["model_cfg"]
    else:
        path = Path(spec.origin).parent / "model_configs" / f"{name.rpartition('/')[0]}.json"
        if not path.is_file():
            return None
        config = json.loads(path.read_text())
    image, text = config["vision_cfg"], config["text_cfg"]
    if not isinstance(image.get("layers"), int) or "patch_size" not in image or "width" not in text:
        return None  # a ResNet, a model of the hub
    tokens = (image["image_size"] // image["patch_size"]) ** 2 + 1
    return transformer(tokens, image["width"], image["layers"]), transformer(
        min(TOKENS, text.get("context_length", 77)), text["width"], text["layers"]
    )


def transformer(tokens, width, layers):
    """Operations of a transformer, forward: twice its products, 12 width^2 of weights a layer and token, and the attention."""
    return layers * (24 * tokens * width**2 + 4 * tokens**2 * width)


def samples_of(name, split, samples=None, shots=None):
    """(pictures, classes) that settings choose, as far as the record says; a folder's are taken for 1,000 of 100 classes."""
    record = records().get(name)
    if record is None:
        return samples or 1000, 100
    there = record.splits.get(split) or (record.total or 0) // 5 * (4 if split == "train" else 1) or 1000
    chosen = min(there, samples or there, (shots or there) * record.classes)
    return chosen, record.classes


def operations(cell, image, text, checks=True):
    """Floating-point operations of a cell; `image`, `text`: those of a tower, forward.

    checks: with the self-checks of its attacks.
    """
    settings = cell.parameters if checks else {**cell.parameters, "check_dataset": None}
    return {"pretrain": _pretrain, "train": _train, "evaluate": _evaluate}[cell.kind](settings, image, text)


def _pretrain(settings, image, text):
    chosen = [] if settings["data"] == "openmoji" else [samples_of(name, "train") for name in settings["data"]]
    pictures, classes = sum(n for n, _ in chosen), sum(c for _, c in chosen) or settings["batch_size"]
    steps = settings["steps"] or -(-settings["epochs"] * pictures // settings["batch_size"])
    return steps * UPDATE * (settings["batch_size"] * image + min(classes, settings["batch_size"]) * text)


def _train(settings, image, text):
    batch, steps, inner = (
        settings[key] or default for key, default in (("batch_size", 64), ("steps", 100), ("inner_steps", 3))
    )
    chosen, classes = samples_of(settings["dataset"], settings["split"], settings["samples"], settings["shots"])
    steps = -(-settings["epochs"] * chosen // batch) if settings["epochs"] else steps
    present = min(batch, classes)
    attacks = defenses.record(settings["defense"]).inner
    pictures = 2 * UPDATE + THERE_AND_BACK * inner * ("image" in attacks)
    prompts = 2 * UPDATE + WORDS * CANDIDATES * ("text" in attacks)
    return steps * (batch * pictures * image + present * prompts * text)


def _evaluate(settings, image, text):
    n, classes = samples_of(settings["dataset"], settings["split"], settings["samples"])
    leaves = {leaf for name in settings["attacks"] for leaf in usable_parts(find(name), classes)}
    leaves = {"image" if leaf == "pgd" else leaf for leaf in leaves}
    searches = sum(_search(find(leaf), settings, classes) for leaf in leaves)
    checked = min(settings["check_samples"], 200) if settings["check_dataset"] else 0
    total = image * (n * (len(leaves) + searches) + checked * CHECKS * searches)
    judged = {find(leaf).judged for leaf in leaves} - {"clean"}
    if judged:
        variants = classes * WORDS * CANDIDATES * (1 + settings["beam"] * (settings["text_budget"] - 1))
        total += text * variants * (1 + ROUNDS * ("joint" in judged))
    if "joint" in judged:
        total += image * ROUNDS * settings["attacker_images"] * THERE_AND_BACK * settings["steps"]
    return total


def _search(attack, settings, classes):
    """Passes of the image tower, forward, for one picture under one attack."""
    if attack.image is None:
        return 0
    if attack.image == "square":
        return settings["queries"]
    steps = 1 if attack.budget is None else settings[attack.budget]
    always = attack.default.get("targets")  # of those that aim whatever the settings say
    targets = min(always, classes - 1) if always else max(1, settings["targets"])
    return THERE_AND_BACK * steps * targets * (settings["restarts"] if "restarts" in attack.uses else 1)


def measured_gpu(results=Path("results")):
    """(operations a second, name of the GPU) from results/speed, where the benchmark was run on one; else None."""
    for path in sorted((Path(results) / "speed").glob("*.csv")):
        with path.open(newline="", encoding="utf8") as file:
            for row in csv.DictReader(file):
                if row["what"] == "rate of an MMCoA step" and row["ours"]:
                    return float(row["ours"]) * 1e12, row["hardware"]
    return None


def _like(profile):
    """A model of the size of the base model: what a study trains from scratch has the embedded model's towers, or is a
    ResNet.
    """
    if profile.pretrain is None:
        return profile.base_model
    return "openmoji-clip" if profile.pretrain.architecture == "vit" else "resnet/none"


def work(profile, cells):
    """{kind of cell: operations} of some cells of a profile; None for a model without a formula."""
    sizes = towers(_like(profile))
    if sizes is None:
        return None
    made, checked = {}, set()
    for cell in cells:
        key = (cell.model, cell.sweep, cell.sweep_value)  # a model's attacks are checked once, not on each data set
        made[cell.kind] = made.get(cell.kind, 0) + operations(cell, *sizes, checks=key not in checked)
        checked.add(key)
    return made


def seconds(profile, cells):
    """Of two CPU cores for some cells of a profile, at the measured rate for models of its size; None without a formula."""
    made = work(profile, cells)
    return None if made is None else sum(made.values()) / CPU["small" if is_small(profile) else "large"]


def is_small(profile):
    """Whether the base model is so small that it waits for other things than arithmetic."""
    return towers(_like(profile))[0] < SMALL


def estimate(plan, cells=None):
    """Lines about what some cells would cost, by default those to do; none where there are none."""
    cells = plan.todo if cells is None else cells
    if not cells:
        return []
    made = work(plan.profile, cells)
    if made is None:
        return [f"work: no estimate for '{plan.profile.base_model}', whose image tower is no vision transformer"]
    total = sum(made.values())
    kinds = ", ".join(f"{kind} {operations_said(count)}" for kind, count in made.items())
    lines = [f"work, at most: {operations_said(total)} ({kinds})"]
    lines.append(f"  {hours(seconds(plan.profile, cells))} on two CPU cores, at the rate in results/speed")
    if found := measured_gpu(plan.results.parent):
        lines.append(f"  {hours(total / found[0])} of one GPU at {found[0] / 1e12:.1f} TFLOP/s, measured on {found[1]}")
    elif not is_small(plan.profile):  # a small model waits for the start of kernels
        lines.append(
            f"  {hours(total / ASSUMED_GPU)} of one GPU, assumed to reach {ASSUMED_GPU / 1e12:.0f} TFLOP/s, half of an "
            "A100's published fp32 rate: "
            "none is in results/speed; measure yours with: mmcoa bench --only step --device cuda"
        )
    return lines


def operations_said(count):
    """`3.2 PFLOP`."""
    for size, name in ((1e18, "EFLOP"), (1e15, "PFLOP"), (1e12, "TFLOP")):
        if count >= size:
            return f"{count / size:.1f} {name}"
    return f"{count / 1e9:.1f} GFLOP"


def hours(seconds):
    """Hours with as many digits as they deserve."""
    value = seconds / 3600
    return f"{value:,.0f} hours" if value >= 10 else f"{value:.1f} hours" if value >= 0.1 else f"{seconds / 60:.1f} minutes"
