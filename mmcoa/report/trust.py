"""How far to trust the attacks: beside other people's implementations, and beside stronger attacks.

From results/strength/*.csv, which the scripts in benchmarks/ write.
"""

import re
from operator import sub

import pandas as pd

from mmcoa.errors import UserError
from mmcoa.report import statistics, tables
from mmcoa.report.names import METHODS, attack_label, dataset_label, method_label, ordered, typeset

COLUMNS = {"ours_robust": "ours", "theirs_robust": "theirs", "implementation": "their code"}
LABELS = {
    "model": lambda name: method_label(re.sub(r"-seed\d+$", "", name)),
    "dataset": dataset_label,
    "attack": attack_label,
    "norm": typeset,
    "ours": tables.percent,
    "theirs": tables.percent,
}  # of a table's columns


def read(folder, name):
    """One table of benchmarks as numbers. Raises `UserError` where it is missing or damaged."""
    path = folder / name
    try:
        return pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise UserError(f"no readable table {path} ({type(error).__name__}); make it: see benchmarks/") from error


def beside_others(results):
    """(shown, numbers): robust accuracy (%) by our attacks and by other people's, same model, pictures and settings."""
    names = [path.name for path in sorted((results / "strength").glob("pairs*.csv"))]  # models of a study, where measured
    numbers = pd.concat([read(results / "strength", name) for name in (*names, "image.csv")], ignore_index=True)
    shown = numbers.rename(columns=COLUMNS)
    shown = shown[["model", "dataset", "attack", "norm", "epsilon", "steps", "n", "runs", *COLUMNS.values()]]
    for name, label in LABELS.items():
        shown[name] = shown[name].map(label)
    luck = ["" if pd.isna(half) else f" ±{half:.1f}" for half in numbers.luck_points]  # of one run it is not known
    shown.insert(len(shown.columns) - 1, "difference", numbers.difference_points.map(tables.points) + luck)
    shown["their code"] = shown["their code"] + " " + numbers.version.astype(str)
    return shown.rename(columns={"dataset": "data set"}), numbers


def predictions(results):
    """(shown, numbers): clean accuracy (%) beside clip-benchmark's, and on how many pictures both predict the same class."""
    numbers = read(results / "strength", "clean.csv")
    shown = numbers.assign(
        dataset=numbers.dataset.map(dataset_label), implementation=numbers.implementation + " " + numbers.version
    )
    names = {"dataset": "data set", "agree": "same prediction", "implementation": "their code"}
    return shown.rename(columns=names).drop(columns="version"), numbers


def stronger(study):
    """(shown, numbers): accuracy under the usual attack and under a stronger one, same pictures: the sweep `auto`."""
    (part,) = study.sweep("auto").values()
    attacks, rows = ["image", "auto"], []
    numbers = statistics.levels(part, attacks=attacks)
    for method in ordered(part.methods, METHODS):
        before, after = (statistics.right(part, method, attack) for attack in attacks)
        taken = statistics.known(statistics.together(sub, before, after), over_sets=False)
        own = numbers[numbers.method == method].set_index("attack")
        row = {"method": method_label(method), "n": str(taken.n)}
        row |= {attack_label(attack): tables.percent(own.value[attack]) for attack in attacks}
        rows.append(row | {"taken more": tables.gain(taken)})
    return pd.DataFrame(rows), numbers
