"""One setting at a time: variants of a method against the method itself, on the same pictures."""

import json
import re

import pandas as pd

from mmcoa.report import statistics, tables, tasks
from mmcoa.threat import format_epsilon, parse_epsilon
from mmcoa.training.faults import FAULTS

REFERENCE = "mmcoa"
COMPARED = ("fault", "epsilon", "inner_steps", "trains", "last_blocks", "lora_rank", "steps", "batch_size", "lr")
SCORES = ("usual", "adaptive")  # words chosen by embedding distance; by errors on labelled pictures, in the sweep `score`
HELD_OUT = {"clean": "clean", "image": "image", "text": "text", "robust": "both"}
WORDS = {
    "epsilon": "training epsilon {}",
    "inner_steps": "{:g} inner PGD steps",
    "trains": "both terms, {} encoder alone",
    "last_blocks": "last block alone",
    "lora_rank": "LoRA, rank {:g}",
    "steps": "{:g} steps",
    "batch_size": "batch {:g}",
    "lr": "learning rate {:g}",
}


def sides(study, main):
    """{"in": data sets, "out": data sets}: the base set, and those of the study that the main study keeps in its means."""
    there = set(study.rows.dataset)
    return {"in": (tasks.base_set(study),), "out": tuple(name for name in tasks.macro_sets(main) if name in there)}


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


def weights(study):
    """(shown, numbers): what MMCoA's own weights are chosen by, the reference's first seed and its variants in weights.

    Accuracy (%) on held-out training pictures after the last step, and its mean, by which the rows are ordered.
    """
    rows = study.training[study.training.seed == study.training.seed.min()]
    rows = rows[[set(changed(study, name)) <= {"lambda_image", "lambda_text"} for name in rows.method]]
    terms = pd.DataFrame([json.loads(each) for each in rows["with"]], index=rows.index)
    held = rows[[f"final_{name}" for name in HELD_OUT]].set_axis(list(HELD_OUT.values()), axis=1)
    numbers = pd.DataFrame({"image weight": terms.lambda_image, "text weight": terms.lambda_text, "n": rows.held_out_samples})
    numbers = numbers.join(held).assign(mean=held.mean(axis=1)).sort_values("mean", ascending=False, ignore_index=True)
    return numbers.map(tables.setting).assign(**{name: numbers[name].map(tables.percent) for name in (*held, "mean")}), numbers


def by_score(study):
    """{one of SCORES: `Results`}."""
    return dict(zip(SCORES, (study, study.sweep("score")[""]), strict=True))


def under_words(study, sides):
    """{(one of SCORES, side): Series}: accuracy (%) under the text attack by method, macro mean. sides: as of `sides`."""
    return {
        (name, side): statistics.levels(part, sets, ["text"]).set_index("method").value
        for name, part in by_score(study).items()
        for side, sets in sides.items()
    }


def with_fault(study):
    """Methods of the study that are trained with a fault of the released code."""
    return [name for name in trained(study) if "fault" in changed(study, name)]


def without_fault(study):
    """The other variants of the reference."""
    return [name for name in trained(study) if "fault" not in changed(study, name)]


def trained(study):
    """All variants of the reference, in the order of the profile."""
    return [name for name in dict.fromkeys(study.training.method) if name != REFERENCE]


def table(study, methods, sets=None):
    """(shown, numbers): levels of the reference, then what each variant has over it, in points."""
    reference = statistics.levels(study, sets).query("method == @REFERENCE")
    numbers = statistics.gains(study, sets, against=REFERENCE, methods=methods)
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
