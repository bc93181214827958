"""In distribution, by the number of training pictures: a study whose methods are trained on one set and judged on it."""

import pandas as pd

from mmcoa.report import statistics, tables
from mmcoa.report.names import attack_label, dataset_label, method_label

ALL = "all"


def gains(study):
    """Points that each method has over the undefended model on the set that it was trained on, as numbers.

    Columns of `statistics.gains`, and `dataset`, `shots`: pictures of a class that it was trained on, or `ALL`.
    """
    found = []
    for name, rows in study.rows[study.rows.method != "none"].groupby("dataset", sort=False):
        found.append(statistics.gains(study, (name,), methods=list(rows.method.unique())).assign(dataset=name))
    frame = pd.concat(found, ignore_index=True)
    limit = frame.method.str.extract(r"-(\d+)shots?$")[0]
    return frame.assign(shots=limit.fillna(ALL), method=frame.method.str.partition("-")[0])


def table(study):
    """(shown, numbers): one row a data set and number of pictures, one column a method and attack."""
    numbers, rows = gains(study), []
    for (name, shots), part in numbers.groupby(["dataset", "shots"], sort=False):
        row = {"data set": dataset_label(name), "a class": shots, "n": str(int(part.n.max()))}
        own = {
            (each.method, each.attack): tables.gain(each) for each in part.assign(half=(part.high - part.low) / 2).itertuples()
        }
        methods, attacks = dict.fromkeys(part.method), dict.fromkeys(part.attack)
        rows.append(row | {f"{method_label(m)}, {attack_label(a)}": own[m, a] for a in attacks for m in methods})
    return pd.DataFrame(rows), numbers
