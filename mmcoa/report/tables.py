"""The report's tables, as data frames of text ready to print, made from result files only.

Accuracy in percent. Two kinds of interval, both 95 %, and each caption says which: Wilson's for one data set (samples taken
as independent), and for a mean over data sets a bootstrap clustered by class within data sets (`statistics.macro_interval`).
"""

from pathlib import Path

import pandas as pd

from mmcoa.errors import UserError
from mmcoa.evaluation.statistics import macro_interval, wilson
from mmcoa.report import results, tasks
from mmcoa.report.names import MACRO, METHODS, attack_label, dataset_label, method_label, ordered, ordered_attacks


def summary(study, folder="results"):
    """Method x attack: macro accuracy in percent and n, as text; what `mmcoa book` prints."""
    return short(methods_table(tasks.out_of_distribution(results.load(study, folder))))


def short(table):
    """`methods_table` without intervals, seeds and training data."""
    table = table.drop(columns=["trained on", "seeds"])
    return table.assign(
        **{column: table[column].str.split(" (", regex=False).str[0] for column in table.columns.drop("method")}
    )


def macro(study, against=None):
    """Macro mean over data sets of each method and attack.

    Returns columns method, attack, accuracy, low, high, n (samples, over all data sets), seeds. Accuracy is the mean over
    training seeds, sample by sample; the interval is `macro_interval`'s. With `against`, the name of a method, accuracy is
    the difference from it on the same samples, in points, and the interval a paired one.

    Raises `ValueError` where the methods were judged on different data sets: choose some with tasks.py.
    """
    judged = tasks.judged(study)
    if len(set(map(frozenset, judged.values()))) > 1:
        raise ValueError(f"no common mean: {', '.join(f'{name} has {len(sets)} data sets' for name, sets in judged.items())}")
    rows = []
    for method in ordered(study.methods, METHODS):
        seeds = study.outcomes[study.outcomes.method == method].model.nunique()
        for attack in ordered_attacks(study.attacks):
            sets = correct_by_sample(study, method, attack)
            if against is not None:
                others = correct_by_sample(study, against, attack)
                sets = difference(sets, others)
            mean, low, high = macro_interval(sets)
            n = sum(len(label) for _, label in sets)
            rows.append(dict(method=method, attack=attack, accuracy=mean, low=low, high=high, n=n, seeds=seeds))
    return pd.DataFrame(rows)


def correct_by_sample(study, method, attack, like=None):
    """For each data set, in alphabetical order: (correct, mean over seeds, in [0,1]; label), arrays by sample id.

    like: another study; only the samples on which it has evaluated that method count.
    """
    sets = study.by_sample[method]
    if like is not None:
        keys = ["dataset", "sample_id", "label"]
        shared = like.outcomes.loc[like.outcomes.method == method, keys].drop_duplicates()
        sets = results.means_by_sample(study.outcomes[study.outcomes.method == method].merge(shared, on=keys))
    return [(part[f"{attack}_correct"].to_numpy(), label) for part, label in sets]


def difference(ours, theirs):
    """Paired differences of two lists of (outcomes, labels), one a data set."""
    return [(a - b, label) for (a, label), (b, _) in zip(ours, theirs, strict=True)]


def by_dataset(study):
    """Accuracy of each method on each data set under each attack, mean over training seeds.

    Returns columns method, dataset, attack, task, classes, n, accuracy, low, high (Wilson at n samples).
    """
    keys = ["method", "dataset", "attack"]
    frame = study.rows.groupby(keys, sort=False).agg(
        correct=("correct", "mean"), n=("n", "first"), classes=("classes", "first"), task=("task", "first")
    )
    frame = frame.reset_index()
    frame["accuracy"] = 100 * frame.correct / frame.n
    intervals = [wilson(correct, n) for correct, n in zip(frame.correct, frame.n, strict=True)]
    frame["low"], frame["high"] = zip(*intervals, strict=True)
    return frame


NARROW = "\u00a0"  # a space at which no line breaks
JOINER = "\u2060"  # of no width; keeps a narrow column from breaking an interval at its dash


def number(accuracy, low, high):
    """`61.3 (58.2–64.1)`."""
    return f"{accuracy:.1f} ({low:.1f}{JOINER}–{JOINER}{high:.1f})"


def signed(points, digits=1):
    """`+3.1`, `−3.1`, `0.0`: a difference in points, with a true minus sign."""
    text = f"{points:+.{digits}f}"
    return text[1:] if float(text) == 0 else text.replace("-", "−")


def signed_interval(mean, low, high):
    """`−3.1 (−5.0 to −1.2)`, kept on one line inside the brackets."""
    return f"{signed(mean)} ({signed(low)}{NARROW}to{NARROW}{signed(high)})"


def impact_table(study):
    """Data set x attack for the undefended model, macro mean last."""
    require(study, ["none"], ["clean"])
    frame = by_dataset(study)
    frame = frame[frame.method == "none"]
    table = _wide(frame, ["dataset"]).rename(columns={"dataset": "data set"})
    table["data set"] = table["data set"].map(dataset_label)
    means = macro(study)
    means = means[means.method == "none"]
    last = {"data set": MACRO, "classes": "", "n": str(means.n.iloc[0])}
    last |= {attack_label(row.attack): number(row.accuracy, row.low, row.high) for row in means.itertuples()}
    return pd.concat([table, pd.DataFrame([last])], ignore_index=True)


def methods_table(study):
    """Method x attack: macro mean, with what the method was trained on and the number of training seeds."""
    frame, rows = macro(study), []
    for method, part in frame.groupby("method", sort=False):
        trained = dict.fromkeys(study.rows.trained_on[study.rows.method == method])
        row = {"method": method_label(method)}
        row |= {"trained on": ", ".join(dataset_label(name) for name in trained if name) or "–"}
        row |= {"seeds": "–" if method == "none" else str(part.seeds.iloc[0]), "n": str(part.n.iloc[0])}
        rows.append(row | {attack_label(r.attack): number(r.accuracy, r.low, r.high) for r in part.itertuples()})
    return pd.DataFrame(rows)


def gains_table(study):
    """Method x attack: points of macro accuracy gained on the undefended model, with paired intervals."""
    require(study, ["none"], ["clean"])
    frame, rows = macro(study, against="none"), []
    for method, part in frame[frame.method != "none"].groupby("method", sort=False):
        row = {"method": method_label(method), "n": str(part.n.iloc[0])}
        for r in part.itertuples():
            row[attack_label(r.attack)] = signed_interval(r.accuracy, r.low, r.high)
        rows.append(row)
    return pd.DataFrame(rows)


def dataset_table(study):
    """Data set x method x attack."""
    frame = by_dataset(study)
    table = _wide(frame, ["dataset", "method"]).drop(columns="classes")
    table["order"] = table.method.map({name: i for i, name in enumerate(ordered(study.methods, METHODS))})
    table = table.sort_values(["dataset", "order"]).drop(columns="order")
    table["method"] = table.method.map(method_label)
    table["data set"] = table.dataset.map(dataset_label)
    front = ["data set", "method", "n"]
    return table[[*front, *[c for c in table.columns if c not in (*front, "dataset", "method")]]].reset_index(drop=True)


def _wide(frame, keys):
    """One row for each value of `keys`, one column of text for each attack, data sets in alphabetical order."""
    frame = frame.assign(text=[number(r.accuracy, r.low, r.high) for r in frame.itertuples()])
    wide = frame.pivot(index=[*keys, "classes", "n"], columns="attack", values="text").reset_index()
    columns = ordered_attacks(frame.attack)
    wide = wide[[*keys, "classes", "n", *columns]].rename(columns={name: attack_label(name) for name in columns})
    wide.columns.name = None
    return wide.fillna("–").astype(str).sort_values(keys, ignore_index=True)


def all_rows(study):
    """Result rows of the main evaluation and of all sweeps."""
    parts = [study, *(part for values in study.sweeps.values() for part in values.values())]
    return pd.concat([part.rows for part in parts], ignore_index=True)


def require(study, methods, attacks):
    """`UserError` unless the study has these methods and attacks."""
    for kind, wanted, found in (("method", methods, study.methods), ("attack", attacks, study.attacks)):
        if missing := [name for name in wanted if name not in found]:
            raise UserError(
                f"the report needs {kind} '{missing[0]}', which study '{study.name}' lacks (it has {', '.join(found)}); "
                f"add it to the profile and run: mmcoa run {study.name}"
            )


def write(table, path, numbers=None):
    """Write a table as CSV and return the path.

    numbers: the same as a frame of numbers, written beside it as NAME_numbers.csv; the page then offers that file.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(path, index=False)
    if numbers is not None:
        numbers.to_csv(path.with_name(f"{path.stem}_numbers.csv"), index=False)
    return path
