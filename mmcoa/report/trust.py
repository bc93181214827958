"""How far to trust the attacks: beside other people's implementations, and beside stronger attacks.

From results/strength/*.csv, which the scripts in benchmarks/ write.
"""

from operator import sub

import pandas as pd

from mmcoa.errors import UserError
from mmcoa.report import statistics, tables
from mmcoa.report.names import METHODS, attack_label, dataset_label, method_label, ordered, typeset

COLUMNS = {"ours_robust": "ours", "theirs_robust": "theirs", "difference_points": "difference", "implementation": "their code"}


def read(folder, name):
    """One table of benchmarks as numbers. Raises `UserError` where it is missing or damaged."""
    path = folder / name
    try:
        return pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise UserError(f"no readable table {path} ({type(error).__name__}); make it: see benchmarks/") from error


def beside_others(results):
    """(shown, numbers): robust accuracy (%) by our attacks and by other people's, same model, pictures and settings."""
    numbers = read(results / "strength", "image.csv")
    shown = numbers.rename(columns=COLUMNS)[["attack", "norm", "epsilon", "steps", "model", "n", *list(COLUMNS.values())]]
    shown = shown.assign(attack=shown.attack.map(attack_label), norm=shown.norm.map(typeset))
    shown["their code"] = shown["their code"] + " " + numbers.version.astype(str)
    shown = shown.assign(ours=shown.ours.map(tables.percent), theirs=shown.theirs.map(tables.percent))
    return shown.assign(difference=shown.difference.map(tables.points)), numbers


def predictions(results):
    """(shown, numbers): clean accuracy (%) beside clip-benchmark's, and on how many pictures both predict the same class."""
    numbers = read(results / "strength", "clean.csv")
    shown = numbers.assign(
        dataset=numbers.dataset.map(dataset_label), implementation=numbers.implementation + " " + numbers.version
    )
    names = {"dataset": "data set", "agree": "same prediction", "implementation": "their code"}
    return shown.rename(columns=names).drop(columns="version"), numbers


def stronger(study, name="auto", usual="image", other="auto"):
    """(shown, numbers): accuracy under the usual attack and under a stronger one, same pictures: a sweep of the study."""
    (part,) = study.sweep(name).values()
    numbers = statistics.levels(part, attacks=[usual, other])
    rows = []
    for method in ordered(part.methods, METHODS):
        before, after = (statistics.right(part, method, attack) for attack in (usual, other))
        taken = statistics.known(statistics.together(sub, before, after), over_sets=False)
        own = numbers[numbers.method == method].set_index("attack")
        row = {"method": method_label(method), "n": str(taken.n)}
        row |= {attack_label(attack): tables.percent(own.value[attack]) for attack in (usual, other)}
        rows.append(row | {"taken more": tables.gain(taken)})
    return pd.DataFrame(rows), numbers
