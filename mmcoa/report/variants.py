"""One setting at a time: variants of a method against the method itself, on the same pictures."""

import json
import re

import pandas as pd

from mmcoa.report import statistics, tables
from mmcoa.report.names import attack_label
from mmcoa.training.faults import FAULTS

REFERENCE = "mmcoa"
COMPARED = ("fault", "epsilon", "inner_steps", "trains", "last_blocks", "lora_rank", "steps", "batch_size", "lr")
WORDS = {
    "epsilon": "training epsilon {}/255",
    "inner_steps": "{:g} inner PGD steps",
    "trains": "{} encoder alone",
    "last_blocks": "last block alone",
    "lora_rank": "LoRA, rank {:g}",
    "steps": "{:g} steps",
    "batch_size": "batch {:g}",
    "lr": "learning rate {:g}",
}


def changed(study, method):
    """{setting: value} in which a method's training differs from the reference's."""
    first, own = (study.training[study.training.method == name].iloc[0] for name in (REFERENCE, method))
    found = {name: own[name] for name in COMPARED if not same(first[name], own[name])}
    before, after = (json.loads(row["with"]) if isinstance(row["with"], str) else row["with"] for row in (first, own))
    return found | {name: after[name] for name in after if after[name] != before.get(name)}


def same(one, other):
    return one == other or (pd.isna(one) and pd.isna(other))


def label(study, method):
    """`weight 0.9 on images`, `training epsilon 4/255`; a fault by its name."""
    found = changed(study, method)
    if "fault" in found:
        return found["fault"].replace("_", " ")
    if "lambda_image" in found:
        return f"weights {found['lambda_image']:g} image, {found['lambda_text']:g} text"
    texts = []
    for name, value in found.items():
        if name == "epsilon":
            value = f"{255 * value:g}" if isinstance(value, float) else str(value).partition("/")[0]
        texts.append(WORDS.get(name, name + " {}").format(value))
    return ", ".join(texts) or method


def with_fault(study):
    """Methods of the study that are trained with a fault of the released code."""
    return [name for name in study.methods if name != REFERENCE and "fault" in changed(study, name)]


def without_fault(study):
    return [name for name in study.methods if name != REFERENCE and "fault" not in changed(study, name)]


def table(study, methods):
    """(shown, numbers): levels of the reference, then what each variant has over it, in points."""
    reference = statistics.levels(study).query("method == @REFERENCE")
    numbers = statistics.gains(study, against=REFERENCE, methods=methods)
    seeds = study.training.groupby("method").seed.nunique()
    first = {"variant": "reference: accuracy (%)", "seeds": str(seeds[REFERENCE]), "n": f"{int(reference.n.max()):,}"}
    half = reference.assign(half=(reference.high - reference.low) / 2)
    rows = [first | {attack_label(row.attack): tables.level(row) for row in half.itertuples()}]
    shown = tables.spread(numbers, tables.gain, label=lambda name: label(study, name))
    shown.insert(1, "seeds", [str(seeds[name]) for name in dict.fromkeys(numbers.method)])
    return pd.concat([pd.DataFrame(rows), shown.rename(columns={"method": "variant"})], ignore_index=True), numbers


def meanings(study):
    """(shown, numbers): what each fault is."""
    rows = []
    for name in with_fault(study):
        text = FAULTS[changed(study, name)["fault"]]
        rows.append(
            {"fault": label(study, name), "what it does": re.sub(r" \([A-Z]\d+\)$", "", text)}
        )  # a design page's number
    shown = pd.DataFrame(rows)
    return shown, shown
