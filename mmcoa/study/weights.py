"""Weights of a base model that a study trained from scratch, kept beside its results where they are small.

results/PROFILE/models/NAME/    the checkpoint folder, committed with the records: hours of training that nobody has to repeat
"""

import shutil
from pathlib import Path

from mmcoa.study.sources import checkpoint_cell

LARGEST = 10e6  # bytes that a repository of results should hold of one model


def kept(results, cell):
    """The checkpoint folder of a pretrain cell in `results` (results/PROFILE), None where that is not there or another cell's."""
    folder = Path(results) / "models" / cell.model
    return folder if checkpoint_cell(folder) == cell.hash else None


def keep(folder, results, cell):
    """Copy the checkpoint of a pretrain cell to where `kept` finds it, if it is small. Returns whether it was."""
    place = Path(results) / "models" / cell.model
    shutil.rmtree(place, ignore_errors=True)  # of an outdated cell
    if sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file()) > LARGEST:
        return False
    unfinished = place.with_name(f".{place.name}")
    shutil.rmtree(unfinished, ignore_errors=True)
    shutil.copytree(folder, unfinished)
    unfinished.rename(place)
    return True
