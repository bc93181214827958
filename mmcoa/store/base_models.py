"""Weights of a base model that a study trained from scratch, kept beside its results where they are small.

results/STUDY/models/NAME/    the checkpoint folder, in git: hours of training that nobody has to repeat
"""

import shutil
from pathlib import Path

LARGEST = 10e6  # bytes that a repository of results should hold of one model


def place(results: str | Path, name: str):
    """Where the checkpoint of a base model is kept; `results` is results/STUDY."""
    return Path(results) / "models" / name


def keep(folder: str | Path, results: str | Path, name: str):
    """Copy a base model's checkpoint folder to its place, if it is small. Returns whether it was."""
    target = place(results, name)
    shutil.rmtree(target, ignore_errors=True)  # of an outdated cell
    if sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file()) > LARGEST:
        return False
    unfinished = target.with_name(f".{target.name}")
    shutil.rmtree(unfinished, ignore_errors=True)
    shutil.copytree(folder, unfinished)
    unfinished.rename(target)
    return True
