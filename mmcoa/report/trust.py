"""How far to trust the attacks: beside other people's implementations, and beside stronger attacks.

From results/strength/*.csv, which the scripts in benchmarks/ write.
"""

import re
from operator import sub

import pandas as pd

from mmcoa.errors import UserError
from mmcoa.report import statistics, tables
from mmcoa.report.names import METHODS, attack_label, dataset_label, method_label, ordered, typeset
from mmcoa.report.said import points

KEYS = ["model", "dataset", "norm", "implementation", "version"]  # of the comparisons in one row


def read(folder, name):
    """One table of benchmarks as numbers. Raises `UserError` where it is missing or damaged."""
    path = folder / name
    try:
        return pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise UserError(f"no readable table {path} ({type(error).__name__}); make it: see benchmarks/") from error


def beside_others(results):
    """(shown, numbers): robust accuracy by our attacks and by other people's, same model, pictures and settings.

    shown: one row a model, data set and code: the differences, ours minus theirs, in points; numbers: one row a comparison.
    """
    names = [path.name for path in sorted((results / "strength").glob("pairs*.csv"))]  # models of a study, where measured
    numbers = pd.concat([read(results / "strength", name) for name in (*names, "image.csv")], ignore_index=True)
    rows = []
    for (model, data, norm, code, version), part in numbers.groupby(KEYS, sort=False):
        most = part.loc[part.difference_points.idxmax()]
        rows.append({"model": method_label(re.sub(r"-seed\d+$", "", model)), "data set": dataset_label(data)})
        rows[-1] |= {"ball": f"{typeset(norm)} {part.epsilon.iloc[0]}", "n": str(most.n), "runs": str(most.runs)}
        rows[-1] |= {"their code": f"{code} {version}", "attacks": str(len(part)), "agree": str(part.agrees.sum())}
        rows[-1] |= {"mean difference": points(part.difference_points.mean()), "most": points(most.difference_points)}
        rows[-1]["under"] = attack_label(most.attack) if most.difference_points > 0 else tables.DASH
    return pd.DataFrame(rows), numbers


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
