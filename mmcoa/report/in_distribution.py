"""In distribution: models trained on a data set's training split and judged on its test split, with all its pictures or a
few a class.

A defence has one model a data set and seed, under whichever name the profile gives it: `mmcoa-in`, or `mmcoa` where its
training set is evaluated too. Intervals draw classes and training seeds, never data sets, of which there are few (paired.py).
"""

from dataclasses import replace

import numpy as np
import pandas as pd

from mmcoa.report import tasks
from mmcoa.report.names import METHODS, attack_label, dataset_label, listed, method_label, ordered, ordered_attacks
from mmcoa.report.paired import KEYS, interval
from mmcoa.report.tables import number, signed_interval

UNDEFENDED = "none"
ALL = np.inf  # shots of a model that was trained on all pictures


def entries(study):
    """Models judged on what they were trained on: columns model, method, defense, dataset, shots (ALL: every picture)."""
    rows = study.rows[study.rows.task == tasks.IN].drop_duplicates(["model", "dataset"])
    base = set(study.rows.dataset[study.rows.method == UNDEFENDED])  # without the undefended model nothing is compared
    frame = rows[rows.dataset.isin(base)][["model", "method", "defense", "dataset"]].reset_index(drop=True)
    shots = (
        dict(zip(study.training.model, study.training.get("shots", pd.Series(dtype=float)), strict=False))
        if len(study.training)
        else {}
    )
    frame["shots"] = [ALL if pd.isna(shots.get(model)) else float(shots[model]) for model in frame.model]
    return frame


def there(study):
    """Whether a model was trained on all pictures of a data set that it is judged on."""
    return bool((entries(study).shots == ALL).any())


def few_shot(study):
    """Whether models trained on a few pictures a class can be shown beside the undefended one, on a data set that all of
    them have."""
    found = entries(study)
    sets = [set(part.dataset) for _, part in found[found.shots < ALL].groupby(["defense", "shots"])]
    return bool(sets and set.intersection(*sets))


def full(study):
    """The `Results` of models trained on all pictures, each under its defence's name, and the undefended model on the same
    data sets."""
    found = entries(study)
    return named(study, chosen(found[found.shots == ALL]))


def chosen(found):
    """One method a defence and data set: the one that bears the defence's name, else the first."""
    own = found.assign(other=found.method != found.defense).sort_values("other", kind="stable")
    first = own.groupby(["defense", "dataset", "shots"], sort=False).method.transform("first")
    return own[own.method == first].drop(columns="other")


def named(study, found):
    """The `Results` of the models of `found`, with `method` their defence, and of the undefended model on their data sets."""
    pairs, defense = set(zip(found.model, found.dataset, strict=True)), dict(zip(found.model, found.defense, strict=True))
    rows, sets = study.rows, set(found.dataset)
    kept = [pair in pairs for pair in zip(rows.model, rows.dataset, strict=True)]
    part = tasks.of_rows(study, rows[np.array(kept, bool) | ((rows.method == UNDEFENDED) & rows.dataset.isin(sets))])
    frames = {name: getattr(part, name) for name in ("rows", "outcomes", "changes", "checks", "training")}
    return replace(
        part,
        **{
            name: frame.assign(method=frame.model.map(defense).fillna(UNDEFENDED))
            for name, frame in frames.items()
            if len(frame)
        },
    )


def common(study):
    """The part of a `full` study whose defences have all its data sets: only their macro means compare."""
    return tasks.everywhere(study)


def sets_of(study, method, attack):
    """One (correct, float [seeds, N]; label [N]) a data set, in order, of the training seeds that a method has on all of
    them."""
    seed = dict(zip(study.training.model, study.training.seed, strict=True)) if len(study.training) else {}
    own = study.outcomes[study.outcomes.method == method]
    own = own.assign(seed=[seed.get(model, 0) for model in own.model])
    wide = [
        part.pivot(index=KEYS, columns="seed", values=f"{attack}_correct").astype(float) for _, part in own.groupby("dataset")
    ]
    seeds = sorted(set.intersection(*map(set, wide)))
    return [(part[seeds].to_numpy().T, part.index.get_level_values("label").to_numpy()) for part in wide]


def macro(study, against=None):
    """Macro mean over data sets of each method and attack: columns method, attack, accuracy, low, high (percent), n, sets,
    seeds.

    With `against`, a method that has one model, accuracy is the difference from it on the same pictures, in points.
    A method whose data sets share no training seed is left out.
    """
    rows = []
    for method in ordered(study.methods, METHODS):
        for attack in ordered_attacks(study.attacks):
            sets = sets_of(study, method, attack)
            if not len(sets[0][0]):
                continue
            others = sets_of(study, against, attack) if against else [(0.0, label) for _, label in sets]
            mean, low, high = interval([(a - b, label) for (a, label), (b, _) in zip(sets, others, strict=True)])
            rows.append(dict(method=method, attack=attack, accuracy=mean, low=low, high=high))
            rows[-1] |= dict(n=sum(len(label) for _, label in sets), sets=len(sets), seeds=len(sets[0][0]))
    return pd.DataFrame(rows)


def methods_table(study):
    """Method x attack of a `common` study: macro accuracy."""
    return _wide(macro(study), lambda r: number(r.accuracy, r.low, r.high))


def gains_table(study):
    """Method x attack of a `common` study: points gained on the undefended model."""
    frame = macro(study, UNDEFENDED)
    return _wide(frame[frame.method != UNDEFENDED], lambda r: signed_interval(r.accuracy, r.low, r.high))


def _wide(frame, text):
    rows = []
    for method, part in frame.groupby("method", sort=False):
        row = {
            "method": method_label(method),
            "seeds": "–" if method == UNDEFENDED else str(part.seeds.iloc[0]),
            "n": str(part.n.iloc[0]),
        }
        rows.append(row | {attack_label(r.attack): text(r) for r in part.itertuples()})
    return pd.DataFrame(rows)


def left_out(study):
    """Which defences of a `full` study lack one of its data sets, and the data sets they have; a sentence."""
    kept = set(common(study).methods)
    own = (
        study.rows[~study.rows.method.isin(kept)]
        .groupby("method")
        .dataset.agg(lambda names: ", ".join(map(dataset_label, dict.fromkeys(names))))
    )
    names = "; ".join(f"{method_label(name)} ({own[name]})" for name in ordered(own.index, METHODS))
    return (
        f"Not in these means, because they lack one of the data sets: {names}."
        if names
        else "These are all methods that the study has in distribution."
    )


def facts(study):
    """What captions and prose of the page say, of the whole study: {key: text}."""
    part = full(study)
    both = common(part)
    means, gains = macro(both), macro(both, UNDEFENDED)
    gains = gains[gains.method != UNDEFENDED]
    best = [gains.loc[own.accuracy.idxmax()] for _, own in gains.groupby("attack", sort=False)]
    return {
        "in_sets": listed(dict.fromkeys(map(dataset_label, both.rows.dataset))),
        "in_count": str(both.rows.dataset.nunique()),
        "in_n": f"{means.n.max():,}",
        "in_best": "; ".join(
            f"{attack_label(r.attack)}: {method_label(r.method)}, {signed_interval(r.accuracy, r.low, r.high)}" for r in best
        ),
        "in_left_out": left_out(part),
        "in_clean": listed(
            f"{method_label(r.method)} {signed_interval(r.accuracy, r.low, r.high)}"
            for r in gains[gains.attack == "clean"].itertuples()
        ),
    }
