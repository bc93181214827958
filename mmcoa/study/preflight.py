"""What would fail hours into a run, found before it starts: data sets that are not here, models that cannot be loaded, no
room to write.
"""

import importlib.util
import json
import os
import shutil
from pathlib import Path

from safetensors import SafetensorError, safe_open

from mmcoa.datasets.place import NO_ROOT, data_root, locate
from mmcoa.datasets.records import is_path, records
from mmcoa.errors import UserError, storage_problem, unknown
from mmcoa.identity import asset
from mmcoa.model import lite
from mmcoa.model.paths import folder_files, parted

ROOM = 200e6  # bytes that results, logs and checkpoints of a study need at the least


def problems(plan):
    """[text, ...], one for each thing that the pending cells need and do not have.

    Imports torch for models of open_clip alone.
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
        return (
            "" if place.startswith(("http://", "https://")) or Path(place).is_dir() else f"data set '{name}': no folder {place}"
        )
    if is_path(name):
        return ""
    record = records()[name]
    try:
        if record.reader == "merged":
            return missing_data(record.options["of"])
        locate(record)
    except UserError as error:
        return f"data set {error}" + (f" ({record.disk:g} GB on disk)" if record.disk else "")
    return ""


def weights(name):
    """What the first use of a base model fetches, empty where nothing is."""
    if asset(name).is_dir() or parted(name) is not None:
        return ""
    if name.startswith("hf-hub:"):
        return f"weights of {name}, from the hub"
    path = Path(importlib.util.find_spec("open_clip").origin).parent / "model_configs" / f"{name.rpartition('/')[0]}.json"
    if not path.is_file():
        return ""
    size = gigabytes_of(json.loads(path.read_text()))
    return f"weights of {name}, by open_clip" + (f", about {size:.1f} GB" if size else "")


def gigabytes_of(config):
    """Weights of an open_clip configuration in fp32; None for other towers than transformers."""
    image, text, joined = config["vision_cfg"], config["text_cfg"], config["embed_dim"]
    if not isinstance(image.get("layers"), int) or "patch_size" not in image or "width" not in text:
        return None
    blocks = sum(12 * tower["layers"] * tower["width"] ** 2 for tower in (image, text))
    ends = (
        3 * image["patch_size"] ** 2 * image["width"]
        + text["vocab_size"] * text["width"]
        + joined * (image["width"] + text["width"])
    )
    return 4 * (blocks + ends) / 1e9


def missing_model(name):
    """Why a base model cannot be loaded, as far as that is known without loading it."""
    if name == lite.NAME:
        return ""
    folder = next((path for path in (asset(name), Path(name)) if path.is_dir()), None)
    if _foreign(name, folder):
        return ""  # read whole, to be judged
    if folder is not None:
        lacks = [file for file in ("model.safetensors", "open_clip_config.json") if not (folder / file).is_file()]
        return f"model '{name}': {folder} lacks {' and '.join(lacks)}" if lacks else damaged(name, folder)
    if name.startswith("hf-hub:"):
        return ""
    spec = importlib.util.find_spec("open_clip")
    architecture = name.rpartition("/")[0]
    configs = Path(spec.origin).parent / "model_configs"
    if not (configs / f"{architecture}.json").is_file():
        return f"model '{name}': open_clip has no architecture '{architecture}'"
    from open_clip import list_pretrained_tags_by_model

    tag = name.rpartition("/")[2]
    tags = list_pretrained_tags_by_model(architecture)
    return "" if tag in tags else f"model '{name}': {unknown('weights', tag, tags)}"


def _foreign(name, folder):
    """Whether a model is by path, and no checkpoint folder of ours."""
    if folder is None:
        return parted(name) is not None
    ours = all((folder / file).is_file() for file in ("model.safetensors", "open_clip_config.json"))
    return not ours and bool(folder_files(folder))


def damaged(name, folder):
    """Why a checkpoint folder cannot be read, from its configuration and the table of contents of its weights."""
    try:
        json.loads((folder / "open_clip_config.json").read_text())["model_cfg"]["vision_cfg"]
        with safe_open(folder / "model.safetensors", framework="numpy") as weights:
            weights.keys()
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        return (
            f"model '{name}': {folder} is damaged ({type(error).__name__}: {str(error)[:80]}); write it again or fetch it again"
        )
    return ""


def crowded(*folders):
    """[why nothing can be written into one of the folders, ...]"""
    return [text for folder in folders if (text := no_room(folder))]


def no_room(folder):
    """Why nothing can be written into a folder that may not exist yet."""
    place = Path(folder)
    try:
        while not place.exists():
            place = place.parent
        if not place.is_dir() or not os.access(place, os.W_OK):
            return f"{folder}: {place} cannot be written to; make it writable for this user"
        free = shutil.disk_usage(place).free
    except OSError as error:  # a mount that is lost
        return storage_problem(error) or f"{folder}: {error}"
    return (
        f"{folder}: {free / 1e6:.0f} MB free, {ROOM / 1e6:.0f} MB are needed at the least; free some space"
        if free < ROOM
        else ""
    )


def check(plan):
    """`UserError` that lists all problems of a plan."""
    if found := problems(plan):
        raise UserError(
            f"nothing was started: {len(found)} problem{'s' * (len(found) > 1)}: {'; '.join(found)} (data root: {data_root()})"
        )
