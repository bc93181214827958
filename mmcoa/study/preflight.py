"""What would fail hours into a run, found before it starts: data sets that are not here, models that cannot be loaded, no room to write."""

import importlib.util
import os
import shutil
from pathlib import Path

from mmcoa.datasets.place import data_root, locate
from mmcoa.datasets.records import records
from mmcoa.errors import UserError
from mmcoa.study.sources import asset

ROOM = 200e6  # bytes that results, logs and checkpoints of a study need at the least


def problems(plan):
    """[text, ...], one for each thing that the pending cells need and do not have. Imports neither torch nor open_clip."""
    found = [missing_model(plan.profile.base_model)] if plan.pending and plan.profile.pretrain is None else []
    found += [missing_data(name) for name in data_of(plan)]
    found += [no_room(folder) for folder in (plan.results, plan.runs)] if plan.pending else []
    return [text for text in found if text]


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
    """Why a data set cannot be read, empty where it is there. What is in it `mmcoa data check` says."""
    if name.startswith("wds:"):
        place = name.removeprefix("wds:")
        return "" if place.startswith(("http://", "https://")) or Path(place).is_dir() else f"data set '{name}': no folder {place}"
    record = records()[name]
    try:
        if record.reader == "merged":
            return missing_data(record.options["of"])
        locate(record)
    except UserError as error:
        return f"data set {error}"
    return ""


def missing_model(name):
    """Why a base model cannot be loaded, as far as that is known without loading it."""
    folder = next((path for path in (asset(name), Path(name)) if path.is_dir()), None)
    if folder is not None:
        lacks = [file for file in ("model.safetensors", "open_clip_config.json") if not (folder / file).is_file()]
        return f"model '{name}': {folder} lacks {' and '.join(lacks)}" if lacks else ""
    if name.startswith("hf-hub:"):
        return ""
    spec = importlib.util.find_spec("open_clip")
    architecture = name.rpartition("/")[0]
    configs = Path(spec.origin).parent / "model_configs"
    return "" if (configs / f"{architecture}.json").is_file() else f"model '{name}': open_clip has no architecture '{architecture}'"


def no_room(folder):
    """Why nothing can be written into a folder that may not exist yet."""
    place = Path(folder)
    while not place.exists():
        place = place.parent
    if not place.is_dir() or not os.access(place, os.W_OK):
        return f"{folder}: {place} cannot be written to"
    free = shutil.disk_usage(place).free
    return f"{folder}: {free / 1e6:.0f} MB free, {ROOM / 1e6:.0f} MB are needed at the least" if free < ROOM else ""


def check(plan):
    """`UserError` that lists all problems of a plan."""
    if found := problems(plan):
        raise UserError(f"nothing was started: {len(found)} problem{'s' * (len(found) > 1)}: {'; '.join(found)} (data root: {data_root()})")
