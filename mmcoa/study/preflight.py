"""What a plan needs before any of its cells has run: data sets, models and room that would lack hours into a run, and work.

The work is counted in floating-point operations from the cells' settings, hours follow at measured rates. It is an upper bound
in one respect: a sample that an attack has broken is not attacked again, which nobody knows beforehand.
"""

import csv
import importlib.util
import json
import os
import shutil
from pathlib import Path

from safetensors import SafetensorError, safe_open

from mmcoa import defenses
from mmcoa.attacks.catalog import find, usable_parts
from mmcoa.console import duration
from mmcoa.datasets.place import NO_ROOT, data_root, locate
from mmcoa.datasets.records import is_path, records
from mmcoa.errors import UserError, storage_problem, unknown
from mmcoa.identity import asset
from mmcoa.model import lite
from mmcoa.model.paths import folder_files, parted

ROOM = 200e6  # bytes that results, logs and checkpoints of a study need at the least
FILES = ("model.safetensors", "open_clip_config.json")  # of a checkpoint folder of ours

# Achieved operations a second in fp32, from results/speed (AMD EPYC, AVX-512, 2 cores): PGD step, ViT-B-32, batch 64:
# 64 pictures there and back in 6.55 s; PGD of the embedded model: 414 pictures a second there and back.
CPU = {"large": 0.17e12, "small": 0.09e12}
SMALL = 1e9  # operations of an image tower, forward, below which the second rate holds
ASSUMED_GPU = 10e12  # half of the 19.5 TFLOP/s that an A100 is published with in fp32; results/speed/GPU.csv goes before it
THERE_AND_BACK = 2  # forward, and gradients of the activations alone
UPDATE = 3  # forward, gradients of activations and of weights
WORDS, CANDIDATES, TOKENS = 2, 10, 16  # words of a prompt that may change, candidates each; tokens of a prompt as it is encoded
CHECKS = 6  # searches of the self-checks for one image attack
ROUNDS = 3  # of the joint attack's alternation, typically


def check(plan):
    """`UserError` that lists all problems of a plan."""
    if found := problems(plan):
        many = f"{len(found)} problem{'s' * (len(found) > 1)}"
        raise UserError(f"nothing was started: {many}: {'; '.join(found)} (data root: {data_root()})")


def problems(plan):
    """[text, ...], one for each thing that the pending cells need and do not have.

    Imports torch for `lite-clip` and models of open_clip alone.
    """
    found = [missing_model(plan.profile.base_model)] if plan.pending and plan.profile.pretrain is None else []
    found += [missing_model(name) for name in dict.fromkeys(cell.parameters.get("craft_on") for cell in plan.todo) if name]
    lacking = [text for name in data_of(plan) if (text := missing_data(name))]
    if any(NO_ROOT in text for text in lacking):  # said once, not with each data set
        found.append(f"no data folder {data_root()}{NO_ROOT}")
    found += [text.replace(f": no data folder {data_root()}{NO_ROOT}", " is not here") for text in lacking]
    return [text for text in found if text] + (crowded(plan.results, plan.runs) if plan.pending else [])


def data_of(plan):
    """Names of the data sets that the cells to do read, each once."""
    parameters = [cell.parameters for cell in plan.todo]
    names = [settings.get(key) for settings in parameters for key in ("dataset", "check_dataset")]
    names += [name for settings in parameters if settings.get("data", "openmoji") != "openmoji" for name in settings["data"]]
    return list(dict.fromkeys(name for name in names if name))


def gigabytes(plan):
    """What the data sets of the pending cells take on disk, unpacked, as their records say; embedded ones take nothing."""
    return sum(records()[name].disk or 0 for name in data_of(plan) if name in records())


def missing_data(name):
    """Why a data set cannot be read, and how large it is; empty where it is there. What is in it `mmcoa data check` says."""
    if name.startswith("wds:"):
        place = name.removeprefix("wds:")
        there = place.startswith(("http://", "https://")) or Path(place).is_dir()
        return "" if there else f"data set '{name}': no folder {place}"
    if is_path(name):
        return ""
    record = records()[name]
    if record.reader == "merged":
        return missing_data(record.options["of"])
    try:
        locate(record)
    except UserError as error:
        return f"data set {error}" + (f" ({record.disk:g} GB on disk)" if record.disk else "")
    return ""


def missing_model(name):
    """Why a base model cannot be loaded, as far as that is known without loading it."""
    if name == lite.NAME:
        return missing_packages()
    folder = next((path for path in (asset(name), Path(name)) if path.is_dir()), None)
    if folder is not None:
        lacks = [file for file in FILES if not (folder / file).is_file()]
        if lacks and folder_files(folder):
            return ""  # somebody else's, which is read whole to be judged
        return f"model '{name}': {folder} lacks {' and '.join(lacks)}" if lacks else damaged(name, folder)
    if name.startswith("hf-hub:") or parted(name) is not None:
        return ""
    architecture, _, tag = name.rpartition("/")
    if not published(name).is_file():
        return f"model '{name}': open_clip has no architecture '{architecture}'"
    from open_clip import list_pretrained_tags_by_model

    tags = list_pretrained_tags_by_model(architecture)
    return "" if tag in tags else f"model '{name}': {unknown('weights', tag, tags)}"


def missing_packages():
    """What `lite-clip` is made of and is not installed, with the command that installs it."""
    from mmcoa.model.lite import packages

    try:
        for weights in (packages.IMAGE, packages.TEXT):
            packages.path_of(weights)
    except UserError as error:
        return str(error)
    return ""


def damaged(name, folder):
    """Why a checkpoint folder cannot be read, from its configuration and the table of contents of its weights."""
    try:
        json.loads((folder / "open_clip_config.json").read_text())["model_cfg"]["vision_cfg"]
        with safe_open(folder / "model.safetensors", framework="numpy") as weights:
            weights.keys()
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        what = f"{type(error).__name__}: {str(error)[:80]}"
        return f"model '{name}': {folder} is damaged ({what}); write it again or fetch it again"
    return ""


def crowded(*folders):
    """[why nothing can be written into one of the folders, which may not exist yet, ...]"""
    found = []
    for folder in folders:
        place = Path(folder)
        try:
            while not place.exists():
                place = place.parent
            free = shutil.disk_usage(place).free
            if not place.is_dir() or not os.access(place, os.W_OK):
                found.append(f"{folder}: {place} cannot be written to; make it writable for this user")
            elif free < ROOM:
                needed = f"{free / 1e6:.0f} MB free, {ROOM / 1e6:.0f} MB are needed at the least"
                found.append(f"{folder}: {needed}; free some space")
        except OSError as error:  # a mount that is lost
            found.append(storage_problem(error) or f"{folder}: {error}")
    return found


def published(name):
    """Where open_clip keeps the configuration of `ARCHITECTURE/TAG`."""
    configs = Path(importlib.util.find_spec("open_clip").origin).parent / "model_configs"
    return configs / f"{name.rpartition('/')[0]}.json"


def transformers(name):
    """open_clip's configuration of a model whose towers are both transformers; None for a ResNet or a model of the hub."""
    folder = next((path for path in (asset(name), Path(name)) if (path / "open_clip_config.json").is_file()), None)
    if folder:
        config = json.loads((folder / "open_clip_config.json").read_text())["model_cfg"]
    elif published(name).is_file():
        config = json.loads(published(name).read_text())
    else:
        return None
    image, text = config["vision_cfg"], config["text_cfg"]
    return config if isinstance(image.get("layers"), int) and "patch_size" in image and "width" in text else None


def weights(name):
    """What the first use of a base model fetches, empty where nothing is; with its size in fp32 where it is known."""
    if asset(name).is_dir() or parted(name) is not None:
        return ""
    if name.startswith("hf-hub:"):
        return f"weights of {name}, from the hub"
    if (config := transformers(name)) is None:
        return f"weights of {name}, by open_clip" if published(name).is_file() else ""
    image, text = config["vision_cfg"], config["text_cfg"]
    numbers = sum(12 * tower["layers"] * tower["width"] ** 2 for tower in (image, text))
    numbers += 3 * image["patch_size"] ** 2 * image["width"] + text["vocab_size"] * text["width"]
    numbers += config["embed_dim"] * (image["width"] + text["width"])
    return f"weights of {name}, by open_clip, about {4 * numbers / 1e9:.1f} GB"


def towers(name):
    """(operations of the image tower, of the text tower), forward, one picture and one prompt; None for what has no
    formula here.
    """
    if (config := transformers(name)) is None:
        return None
    image, text = config["vision_cfg"], config["text_cfg"]
    tokens = (image["image_size"] // image["patch_size"]) ** 2 + 1, min(TOKENS, text.get("context_length", 77))
    # Twice a transformer's products: 12 width^2 of weights a layer and token, and the attention.
    return tuple(
        tower["layers"] * (24 * n * tower["width"] ** 2 + 4 * n**2 * tower["width"])
        for n, tower in zip(tokens, (image, text), strict=True)
    )


def samples_of(name, split, samples=None, shots=None):
    """(pictures, classes) that settings choose, as far as the record says; a folder's are taken for 1,000 of 100 classes."""
    record = records().get(name)
    if record is None:
        return samples or 1000, 100
    there = record.splits.get(split) or (record.total or 0) // 5 * (4 if split == "train" else 1) or 1000
    return min(there, samples or there, (shots or there) * record.classes), record.classes


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
    defaults = {"batch_size": 64, "steps": 100, "inner_steps": 3}
    batch, steps, inner = (settings[key] or default for key, default in defaults.items())
    chosen, classes = samples_of(settings["dataset"], settings["split"], settings["samples"], settings["shots"])
    steps = -(-settings["epochs"] * chosen // batch) if settings["epochs"] else steps
    attacks = defenses.record(settings["defense"]).inner
    pictures = 2 * UPDATE + THERE_AND_BACK * inner * ("image" in attacks)
    prompts = 2 * UPDATE + WORDS * CANDIDATES * ("text" in attacks)
    return steps * (batch * pictures * image + min(batch, classes) * prompts * text)


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
    learnt = sum(find(leaf).image == leaf and find(leaf).train_pictures for leaf in leaves)
    total += learnt * image * settings["attacker_images"] * (THERE_AND_BACK + 1) * settings["steps"]
    if "joint" in judged:
        total += image * ROUNDS * settings["attacker_images"] * THERE_AND_BACK * settings["steps"]
    return total


def _search(attack, settings, classes):
    """Passes of the image tower, forward, for one picture under one attack."""
    if attack.image is None or find(attack.image).train_pictures:
        return 0
    if attack.image == "square":
        return settings["queries"]
    steps = 1 if attack.budget is None else settings[attack.budget]
    always = attack.default.get("targets")  # of those that aim whatever the settings say
    targets = min(always, classes - 1) if always else max(1, settings["targets"])
    targets = 1 if settings["target"] is not None and "target" in attack.uses else targets
    return THERE_AND_BACK * steps * targets * (settings["restarts"] if "restarts" in attack.uses else 1)


def _like(profile):
    """A model of the size of the base model: what a study trains from scratch has the embedded model's towers, or is a
    ResNet.
    """
    if profile.pretrain is None:
        return profile.base_model
    return "openmoji-clip" if profile.pretrain.architecture == "vit" else "resnet/none"


def work(profile, cells):
    """{kind of cell: operations} of some cells of a profile; None for a model without a formula."""
    if (sizes := towers(_like(profile))) is None:
        return None
    made, checked = {}, set()
    for cell in cells:
        key = (cell.model, cell.sweep, cell.sweep_value)  # a model's attacks are checked once, not on each data set
        made[cell.kind] = made.get(cell.kind, 0) + operations(cell, *sizes, checks=key not in checked)
        checked.add(key)
    return made


def is_small(profile):
    """Whether the base model is so small that it waits for other things than arithmetic."""
    return towers(_like(profile))[0] < SMALL


def seconds(profile, cells):
    """Of two CPU cores for some cells of a profile, at the measured rate for models of its size; None without a formula."""
    made = work(profile, cells)
    return None if made is None else sum(made.values()) / CPU["small" if is_small(profile) else "large"]


def measured_gpu(results=Path("results")):
    """(operations a second, name of the GPU) from results/speed, where the benchmark was run on one; else None."""
    for path in sorted((Path(results) / "speed").glob("*.csv")):
        with path.open(newline="", encoding="utf8") as file:
            for row in csv.DictReader(file):
                if row["what"] == "rate of an MMCoA step" and row["ours"]:
                    return float(row["ours"]) * 1e12, row["hardware"]
    return None


def estimate(plan):
    """Lines about what the cells to do would cost; none where there are none."""
    if not plan.todo:
        return []
    if (made := work(plan.profile, plan.todo)) is None:
        return [f"work: no estimate for '{plan.profile.base_model}', whose image tower is no vision transformer"]
    total = sum(made.values())
    kinds = ", ".join(f"{kind} {operations_said(count)}" for kind, count in made.items())
    lines = [f"work, at most: {operations_said(total)} ({kinds})"]
    if defended := sum(cell.parameters.get("defense_at_test", "none") != "none" for cell in plan.todo):
        lines.append(
            f"  not counted: passes of test-time defences, in {defended} cells; ten to a hundred times the rest of those"
        )
    lines.append(f"  {duration(seconds(plan.profile, plan.todo))} on two CPU cores, at the rate in results/speed")
    if found := measured_gpu(plan.results.parent):
        lines.append(f"  {duration(total / found[0])} of one GPU at {found[0] / 1e12:.1f} TFLOP/s, measured on {found[1]}")
    elif not is_small(plan.profile):  # a small model waits for the start of kernels
        lines.append(
            f"  {duration(total / ASSUMED_GPU)} of one GPU, assumed to reach {ASSUMED_GPU / 1e12:.0f} TFLOP/s, half of an "
            "A100's published fp32 rate: none is in results/speed; measure yours with: mmcoa bench --only step --device cuda"
        )
    return lines


def operations_said(count):
    """`3.2 PFLOP`."""
    size, name = next(((size, name) for size, name in ((1e18, "E"), (1e15, "P"), (1e12, "T")) if count >= size), (1e9, "G"))
    return f"{count / size:.1f} {name}FLOP"
