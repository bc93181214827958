"""One setting at a time: variants of a method against the method itself, on the same pictures."""

import json
import re

import pandas as pd

from mmcoa.report import statistics, tables
from mmcoa.threat import format_epsilon, parse_epsilon
from mmcoa.training.faults import FAULTS

REFERENCE = "mmcoa"
COMPARED = ("fault", "epsilon", "inner_steps", "trains", "last_blocks", "lora_rank", "steps", "batch_size", "lr")
WORDS = {
    "epsilon": "training epsilon {}",
    "inner_steps": "{:g} inner PGD steps",
    "trains": "{} encoder alone",
    "last_blocks": "last block alone",
    "lora_rank": "LoRA, rank {:g}",
    "steps": "{:g} steps",
    "batch_size": "batch {:g}",
    "lr": "learning rate {:g}",
}


def changed(study, method):
    """{setting: value}: what a method's training sets in another way than the reference's."""
    first, own = (study.training[study.training.method == name].iloc[0] for name in (REFERENCE, method))
    found = {name: own[name] for name in COMPARED if first[name] != own[name] and not pd.isna(own[name])}
    before, after = (json.loads(row["with"]) for row in (first, own))
    return found | {name: after[name] for name in after if after[name] != before.get(name)}


def label(study, method):
    """`weights 0.9 image, 0.1 text`, `training epsilon 4/255`; a fault by its name."""
    found = changed(study, method)
    if "fault" in found:
        return found["fault"].replace("_", " ")
    if "lambda_image" in found:
        return f"weights {found['lambda_image']:g} image, {found['lambda_text']:g} text"
    if "epsilon" in found:
        found["epsilon"] = format_epsilon(parse_epsilon(found["epsilon"]))
    return ", ".join(WORDS.get(name, name + " {}").format(value) for name, value in found.items()) or method


def with_fault(study):
    """Methods of the study that are trained with a fault of the released code."""
    return [name for name in study.methods if name != REFERENCE and "fault" in changed(study, name)]


def without_fault(study):
    """The other variants of the reference."""
    return [name for name in study.methods if name != REFERENCE and "fault" not in changed(study, name)]


def table(study, methods):
    """(shown, numbers): levels of the reference, then what each variant has over it, in points."""
    reference = statistics.levels(study).query("method == @REFERENCE")
    numbers = statistics.gains(study, against=REFERENCE, methods=methods)
    seeds = study.training.groupby("method").seed.nunique()
    first = tables.spread(reference, tables.level, label=lambda _: "reference: accuracy (%)")
    rest = tables.spread(numbers, tables.gain, label=lambda name: label(study, name))
    shown = pd.concat([first, rest], ignore_index=True).rename(columns={"method": "variant"})
    shown.insert(1, "seeds", [str(seeds[name]) for name in (REFERENCE, *dict.fromkeys(numbers.method))])
    return shown, numbers


def meanings(study):
    """(shown, numbers): what each fault is."""
    texts = {label(study, name): FAULTS[changed(study, name)["fault"]] for name in with_fault(study)}
    plain = [re.sub(r" \([A-Z]\d+\)$", "", text) for text in texts.values()]  # without the number on a design page
    shown = pd.DataFrame({"fault": list(texts), "what it does": plain})
    return shown, shown
