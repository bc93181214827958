"""What each part of MMCoA does, and what each fault of the released code does: variants beside the reference, one change each.

The results of the study `ablations`, whichever study the book is made for. What a variant changes is read from the settings
of its training, not from its name.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from mmcoa.errors import UserError
from mmcoa.report import paired, results
from mmcoa.store import packed
from mmcoa.threat import format_epsilon, parse_epsilon
from mmcoa.training.faults import FAULTS

STUDY = "ablations"
COMMAND = f"mmcoa run {STUDY}"
REFERENCE = "mmcoa"
ATTACKS = ("clean", "image", "text", "sequential")
GROUPS = {  # which settings belong together; a variant belongs where one of its changes does
    "lambda": ("weights of the two terms", ("lambda_image", "lambda_text")),
    "epsilon": ("epsilon of the inner image attack", ("epsilon",)),
    "inner": ("steps of the inner image attack", ("inner_steps",)),
    "trained": ("what is trained", ("trains", "last_blocks", "lora_rank")),
    "positives": ("positives", ("positives",)),
    "other": ("other settings", ()),  # of no group above
}
# Of trainings.csv, what was asked for; in `with` stand the defence's own settings.
SETTINGS = (
    *("dataset", "split", "samples", "shots", "steps", "batch_size", "inner_steps", "epsilon", "lr", "trains", "last_blocks"),
    *("lora_rank", "precision", "candidate_source", "fault"),
)
SAID = {
    "lambda_image": "λ image {}",
    "lambda_text": "λ text {}",
    "epsilon": "epsilon {}",
    "inner_steps": "{} inner steps",
    "trains": "{} tower alone",
    "last_blocks": "last {} blocks of each tower",
    "lora_rank": "LoRA of rank {}",
    "positives": "positives by {}",
}
SINGULAR = {
    ("inner_steps", 1): "1 inner step",
    ("last_blocks", 1): "last block of each tower",
    ("trains", "both"): "both towers",
}


class NotRun(UserError):
    """The study was not run, or not far enough."""


@dataclass(frozen=True)
class Ablations:
    """Finished results. A variant is an entry of the profile's `models`: one model, or one a seed.

    rows: result rows of the main evaluation, with `model` and `method` (the variant).
    outcomes: one row a model, data set and sample: method, train_seed, dataset, sample_id, label, `ATTACK_correct`.
    settings: {variant: its training's settings without the seed}, the reference first.
    made: trainings.csv of these models.
    unfinished: ids of models that lack an evaluation which the reference has; they are in nothing above.
    """

    rows: pd.DataFrame
    outcomes: pd.DataFrame
    settings: dict
    made: pd.DataFrame
    unfinished: tuple = ()

    @property
    def attacks(self):
        return [name for name in ATTACKS if name in set(self.rows.attack)]

    @property
    def groups(self):
        """Names of the groups that have a variant."""
        return [group for group in GROUPS if variants(self, group)]


def load(folder="results"):
    """Read results/ablations. Raises `NotRun` where the reference has no finished results there."""
    if packed.read_cells(Path(folder) / STUDY) is None:
        raise NotRun(f"no results in {Path(folder) / STUDY}; run: {COMMAND}")
    study = results.load(STUDY, folder)
    rows = study.rows[study.rows.defense == REFERENCE]
    wanted = set(rows.dataset[rows.method == REFERENCE])
    if not wanted:
        raise NotRun(f"no finished results of '{REFERENCE}' in {Path(folder) / STUDY}; run: {COMMAND}")
    sets = rows.groupby("model", sort=False).dataset.agg(set)
    unfinished = [model for model, there in sets.items() if not wanted <= there]
    rows = rows[~rows.model.isin(unfinished)].reset_index(drop=True)
    made = study.training[study.training.model.isin(set(rows.model))]
    settings = {REFERENCE: None} | {method: settings_of(part.iloc[0]) for method, part in made.groupby("method", sort=False)}
    seeds = dict(zip(made.model, made.seed, strict=True))
    outcomes = study.outcomes[study.outcomes.model.isin(set(rows.model))]
    return Ablations(rows, outcomes.assign(train_seed=outcomes.model.map(seeds)), settings, made, tuple(unfinished))


def settings_of(training):
    """{setting: value} of a row of trainings.csv, with the defence's own; what it leaves open is left out."""
    given = {key: training[key] for key in SETTINGS if not pd.isna(training[key])}
    given |= {key: int(value) for key, value in given.items() if isinstance(value, float) and value == int(value)}
    return {"trains": "both"} | given | (json.loads(training["with"]) if training["with"] else {})


def keys(folder="results"):
    """What can be shown (see sections.py): `ablations`, `ablation-GROUP`, `ablation-lambda-curve`, `all-ablations`,
    `faults`, `all-faults`."""
    try:
        found = load(folder)
    except NotRun:
        return set()
    shown = {f"ablation-{group}" for group in found.groups} | ({"ablations"} if found.groups else set())
    complete = not found.unfinished
    shown |= {"all-ablations"} if complete and {*GROUPS} - {"other"} <= set(found.groups) else set()
    shown |= {"ablation-lambda-curve"} if lambda_curve(found).x.nunique() > 2 else set()
    shown |= {"faults"} if faults(found) else set()
    return shown | ({"all-faults"} if complete and set(FAULTS) <= set(faults(found).values()) else set())


def changes(found, variant):
    """{setting: value} in which a variant differs from the reference."""
    reference, own = found.settings[REFERENCE], found.settings[variant]
    return {key: own.get(key) for key in {**reference, **own} if own.get(key) != reference.get(key)}


def variants(found, group):
    """{variant: what it changes} of a group. The fault `index_positives` is a choice of positives, so it is there as well."""
    own = {}
    for variant in found.settings:
        changed = changes(found, variant)
        if changed.get("fault") == "index_positives":
            changed = {key: value for key, value in changed.items() if key != "fault"} | {"positives": "index"}
        if group_of(changed) == group:
            own[variant] = changed
    return own


def group_of(changed):
    """The group of a variant with these changes; None for the reference and for faults."""
    if not changed or changed.get("fault"):
        return None
    return next((name for name, (_, settings) in GROUPS.items() if changed.keys() & set(settings)), "other")


def faults(found):
    """{variant: name of its fault}, in the order of FAULTS."""
    own = {variant: settings["fault"] for variant, settings in found.settings.items() if settings.get("fault")}
    return dict(sorted(own.items(), key=lambda item: [*FAULTS, item[1]].index(item[1])))


def label(changed):
    """Changed settings in words: `λ image 0.25, λ text 0.75`."""
    return ", ".join(said(key, value) for key, value in changed.items())


def said(key, value):
    """One setting in words; one that is not listed in its own."""
    value = format_epsilon(parse_epsilon(value)) if key == "epsilon" else value
    return SINGULAR.get((key, value)) or SAID.get(key, key.replace("_", " ") + " {}").format(value)


def group_effects(found, group):
    """`effects` of a group's variants."""
    return effects(found, {variant: label(changed) for variant, changed in variants(found, group).items()})


def fault_effects(found):
    """`effects` of the variants with a fault; the label names it, and whatever else differs from the reference."""
    names = {}
    for variant, fault in faults(found).items():
        others = {key: value for key, value in changes(found, variant).items() if key != "fault"}
        names[variant] = ", ".join(filter(None, (fault.replace("_", " "), label(others))))
    return effects(found, names)


def lambda_curve(found):
    """Accuracy against λ image where the two weights add up to one: columns variant, x, attack, accuracy, low, high, seeds,
    by x.

    The reference is one of the points; variants that change anything else beside the weights are not.
    """
    weights, outcomes, rows = GROUPS["lambda"][1], dict(list(found.outcomes.groupby("method"))), []
    own = [REFERENCE, *(name for name, changed in variants(found, "lambda").items() if set(changed) <= set(weights))]
    for variant in own:
        image, text = (float(found.settings[variant].get(key, np.nan)) for key in weights)
        if not abs(image + text - 1) < 1e-9:
            continue
        for attack in found.attacks:
            mean, low, high = paired.level(outcomes[variant], attack)
            seeds = outcomes[variant].train_seed.nunique()
            rows.append(dict(variant=variant, x=image, attack=attack, accuracy=mean, low=low, high=high, seeds=seeds))
    return pd.DataFrame(rows, columns=["variant", "x", "attack", "accuracy", "low", "high", "seeds"]).sort_values(
        "x", kind="stable", ignore_index=True
    )


def effects(found, names):
    """What sets some variants {variant: label} apart from the reference.

    Returns one row a variant and attack: variant, label, attack, what `paired.effect` returns, and `covers`: whether the
    interval covers zero, so that no effect is shown.
    """
    outcomes = dict(list(found.outcomes.groupby("method")))
    rows = []
    for variant, text in names.items():
        for attack in found.attacks:
            effect = paired.effect(outcomes[variant], outcomes[REFERENCE], attack)
            covers = round(effect["low"], 1) <= 0 <= round(effect["high"], 1)  # as it is printed
            rows.append({"variant": variant, "label": text, "attack": attack, **effect, "covers": covers})
    return pd.DataFrame(rows)
