"""The data of the book's results explorer: a study's numbers as one script that assigns a variable.

A page opened from a file may load scripts but read no files, so the data is a script. All statistics are made here, by the
functions that the report's tables use; the page only looks numbers up. Numbers are whole tenths of a percent or of a point.

    window.MMCOA_EXPLORER["openmoji"] = {methods, attacks, datasets, groups, models, evaluations, ...}

A *unit* is what a number is about: a data set (its place in `datasets`) or the macro mean over a group of data sets (the
number of data sets plus its place in `groups`). A *member* of a method is the mean over its training seeds, or one seed.
"""

import json
import re
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd

from mmcoa.attacks.catalog import ATTACKS
from mmcoa.errors import UserError
from mmcoa.evaluation.statistics import wilson
from mmcoa.report.names import (
    METHODS,
    SWEEPS,
    attack_knows,
    attack_label,
    changes_what,
    dataset_label,
    listed,
    method_label,
    ordered,
    ordered_attacks,
    typeset,
)
from mmcoa.report.resampling import Resampler, bounds

TASKS = ("any", "out_of_distribution", "in_distribution")
MEAN = "mean"


def write(study, folder):
    """Write FOLDER/study_NAME.js and name it in FOLDER/studies.js; returns its path."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"study_{study.name}.js"
    text = json.dumps(data(study), separators=(",", ":")).replace("</", "<\\/")  # ASCII, and nothing that could end a script
    path.write_text(
        f"window.MMCOA_EXPLORER = window.MMCOA_EXPLORER || {{}};\nwindow.MMCOA_EXPLORER[{json.dumps(study.name)}] = {text};\n"
    )
    (folder / "studies.js").write_text(f"window.MMCOA_STUDIES = {json.dumps([study.name])};\n")
    return path


def data(study):
    """All that the explorer shows of a study, as lists, texts and whole numbers."""
    sweeps = {"": {"": study}} | study.sweeps
    parts = [(sweep, value, part) for sweep, values in sweeps.items() for value, part in values.items()]
    methods = ordered([name for *_, part in parts for name in part.rows.method], METHODS)
    attacks = ordered_attacks([name for *_, part in parts for name in part.attacks])
    datasets = sorted({name for *_, part in parts for name in part.rows.dataset})
    groups = sorted({group for *_, part in parts for group in reachable(part)}, key=lambda group: (-len(group), group))
    models = list(dict.fromkeys(name for *_, part in parts for name in part.rows.model))
    names = {"methods": methods, "attacks": attacks, "datasets": datasets, "groups": groups, "models": models}
    rows = pd.concat([part.rows for *_, part in parts]).drop_duplicates("model").set_index("model")
    return {
        "profile": study.name,
        "base_model": study.rows.base_model.iloc[0],
        "methods": [[name, method_label(name)] for name in methods],
        "attacks": [[name, attack_label(name), *attack_words(name)] for name in attacks],
        "datasets": [[name, dataset_label(name)] for name in datasets],
        "groups": [[datasets.index(name) for name in group] for group in groups],
        "models": [
            [name, methods.index(rows.method[name]), seed_of(name), trained_on(study, name, rows.trained_on[name])]
            for name in models
        ],
        "evaluations": [evaluation(sweep, value, part, names) for sweep, value, part in parts],
        "sweeps": [[name, sweep_label(name), threats(values.values(), attacks)] for name, values in sweeps.items()],
    }


def seed_of(model):
    """Training seed, or None for a model that was not trained."""
    found = re.search(r"-seed(\d+)$", model)
    return int(found[1]) if found else None


def trained_on(study, model, name):
    """What a model was fine-tuned on, in words; of few shots it says how many."""
    if not name:
        return "nothing beyond pre-training"
    shots = study.training.shots[study.training.model == model].dropna()
    few = f", {int(shots.iloc[0])} picture{'s' * bool(shots.iloc[0] > 1)} a class" if len(shots) else ""
    return dataset_label(name) + few


def attack_words(name):
    """(what it does, what it changes, what the adversary knows)."""
    summary = ATTACKS[name].summary if name in ATTACKS else name
    return summary[0].upper() + summary[1:], changes_what(name), attack_knows(name)


def threats(parts, attacks):
    """{place of an attack: its threat model in words, of all points of a sweep}."""
    found = {}
    for k, attack in enumerate(attacks):
        texts = dict.fromkeys(text for part in parts for text in part.rows.threat_text[part.rows.attack == attack])
        if texts:
            found[k] = typeset(listed(texts, "or"))
    return found


def tasks_of(part):
    """{method: {data set: task}} of one evaluation."""
    tasks = {}
    for row in part.rows.drop_duplicates(["method", "dataset"]).itertuples():
        tasks.setdefault(row.method, {})[row.dataset] = row.task
    return tasks


def shared(tasks, methods, task):
    """Data sets, in alphabetical order, on which all methods were evaluated in a task; the undefended model is in every
    task."""
    sets = set.intersection(*(set(tasks[name]) for name in methods))
    if task != "any":
        fits = lambda name, dataset: tasks[name][dataset] in (task, "zero_shot")  # noqa: E731
        sets = {d for d in sets if all(fits(m, d) for m in methods) and any(tasks[m][d] == task for m in methods)}
    return tuple(sorted(sets))


def reachable(part):
    """Groups of at least two data sets over which the page may take a macro mean, for one method or two."""
    tasks = tasks_of(part)
    chosen = [(name,) for name in tasks] + list(combinations(tasks, 2))
    found = {shared(tasks, methods, task) for methods in chosen for task in TASKS}
    return {group for group in found if len(group) > 1}


def evaluation(sweep, value, part, names):
    """One evaluation: its attacks, n by data set, records, and the numbers of methods and pairs of them."""
    methods, datasets = names["methods"], names["datasets"]
    attacks = [name for name in ordered_attacks(part.attacks) if f"{name}_correct" in part.outcomes]
    tasks = tasks_of(part)
    correct, labels = outcomes(part, attacks)
    units = [(d,) for d in datasets if d in labels] + [g for g in names["groups"] if set(g) <= set(labels)]
    numbers, pairs = {}, {}
    for unit in units:
        members = {key: [sets[d] for d in unit] for key, sets in correct.items() if set(unit) <= set(sets)}
        place = datasets.index(unit[0]) if len(unit) == 1 else len(datasets) + names["groups"].index(unit)
        add(numbers, pairs, place, members, [labels[d] for d in unit], methods)
    found = {"sweep": sweep, "value": value, "attacks": [names["attacks"].index(name) for name in attacks]}
    found |= {"n": {datasets.index(name): len(label) for name, label in labels.items()}}
    found |= {
        "tasks": {
            methods.index(m): [[datasets.index(d), task] for d, task in sorted(sets.items())] for m, sets in tasks.items()
        }
    }
    return found | {"records": records(part, names), "numbers": numbers, "pairs": pairs}


def outcomes(part, attacks):
    """({(method, member): {data set: float [N, attacks], by sample}}, {data set: label [N]}).

    Raises `UserError` where models of one evaluation were judged on different pictures: nothing could be paired.
    """
    columns = [f"{attack}_correct" for attack in attacks]
    frame = part.outcomes.assign(**{name: part.outcomes[name].astype(float) for name in columns})
    correct, labels, ids = {}, {}, {}
    for (method, dataset), own in frame.groupby(["method", "dataset"], sort=False):
        seeds = sorted(name for name in own.model.unique() if seed_of(name) is not None)
        members = {MEAN: own} | ({str(seed_of(name)): own[own.model == name] for name in seeds} if len(seeds) > 1 else {})
        for member, rows in members.items():
            means = rows.groupby(["sample_id", "label"])[columns].mean()
            if not ids.setdefault(dataset, means.index).equals(means.index):
                raise UserError(
                    f"'{method}' was judged on other pictures of {dataset} than other models: they cannot be compared"
                )
            correct.setdefault((method, member), {})[dataset] = means.to_numpy()
            labels[dataset] = means.index.get_level_values("label").to_numpy()
    return correct, labels


def add(numbers, pairs, place, members, labels, methods):
    """Append the numbers of one unit: `numbers[method][member][unit]` and `pairs["A,B"][member][unit]`, flat by attack.

    A number is three whole tenths: accuracy or points gained by A on B, low, high.
    """
    if not members:
        return
    resampler, alone = Resampler(labels), len(labels) == 1
    keys = list(members)
    means = {key: 100 * np.mean([values.mean(axis=0) for values in sets], axis=0) for key, sets in members.items()}
    stacked = [np.concatenate([members[key][d] for key in keys], axis=1) for d in range(len(labels))]
    estimates = dict(zip(keys, np.split(resampler.estimates(stacked), len(keys), axis=1), strict=True))
    for method, member in keys:
        low, high = bounds(estimates[method, member])
        if alone:  # as in the report's tables
            n = len(labels[0])
            low, high = np.array([wilson(n * share / 100, n) for share in means[method, member]]).T
        own = numbers.setdefault(methods.index(method), {}).setdefault(member, {})
        own[place] = tenths(means[method, member], low, high)
    for a, b in combinations([name for name in methods if (name, MEAN) in members], 2):
        for member in paired_members(members, a, b):
            ours, theirs = (key if (key := (name, member)) in members else (name, MEAN) for name in (a, b))
            low, high = bounds(estimates[ours] - estimates[theirs])
            own = pairs.setdefault(f"{methods.index(a)},{methods.index(b)}", {}).setdefault(member, {})
            own[place] = tenths(means[ours] - means[theirs], low, high)


def paired_members(members, a, b):
    """Members that two methods can be compared in: means, and seeds of both; the undefended model goes with every seed."""
    seeds = [{member for name, member in members if name == method} - {MEAN} for method in (a, b)]
    if "none" in (a, b):
        return [MEAN, *sorted(set.union(*seeds))]
    return [MEAN, *sorted(set.intersection(*seeds))]


def tenths(*columns):
    """Columns as whole tenths, rounded as the report's tables round, row by row in one list."""
    return [round(10 * float(f"{value:.1f}")) for row in zip(*columns, strict=True) for value in row]


def sweep_label(name):
    """`main evaluation`, `sweep: epsilon`."""
    return f"sweep: {SWEEPS.get(name, name)}" if name else "main evaluation"


def records(part, names):
    """Columns of the evaluation's records: model, data set, cell, hash, device and commit (places in `devices`, `commits`)."""
    rows = part.rows.drop_duplicates("cell")
    found = {"model": [names["models"].index(name) for name in rows.model]}
    found |= {
        "dataset": [names["datasets"].index(name) for name in rows.dataset],
        "cell": list(rows.cell),
        "hash": [str(text)[:16] for text in rows.identity.fillna("")],
    }
    for key, column in (("device", rows.device), ("commit", rows.commit.fillna("unknown").str[:7])):
        known = list(dict.fromkeys(column))
        found |= {f"{key}s": known, key: [known.index(value) for value in column]}
    return found
