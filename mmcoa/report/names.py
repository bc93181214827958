"""How attacks, methods and data sets are called in tables and figures, and in which order they come.

A name that is not listed here is shown as it is, after the listed ones: a new defence or attack needs no entry. A variant of a
listed name (`mmcoa-4shot`) comes after it and is called after it.
"""

import re

ATTACKS = {
    "clean": "clean",
    "image": "image",
    "pgd": "PGD",
    "pgd-reference": "PGD reference",
    "fgsm": "FGSM",
    "cw": "CW margin",
    "apgd-ce": "APGD-CE",
    "apgd-dlr": "APGD-DLR",
    "apgd-dlr-t": "APGD-DLR targeted",
    "feature": "feature",
    "feature-l2": "feature, l2",
    "square": "Square",
    "auto": "auto",
    "text": "text",
    "independent": "independent",
    "sequential": "sequential",
    "joint": "joint",
    "co_attack": "Co-Attack",
    "multimodal": "worst case",
}
# What each attack needs to know, for tables; the attack's own page is book/threat.md.
WEIGHTS, LABELLED = "weights", "weights, label"
KNOWS = {
    "clean": "–",
    **dict.fromkeys(("image", "pgd", "pgd-reference", "fgsm", "cw", "apgd-ce", "apgd-dlr", "apgd-dlr-t", "auto"), LABELLED),
    **dict.fromkeys(("independent", "sequential", "multimodal"), LABELLED),
    **dict.fromkeys(("feature", "feature-l2", "text"), WEIGHTS),
    "co_attack": LABELLED,
    "square": "logits, label",
    "joint": "weights, label, labelled train pictures",
}
METHODS = {
    "none": "undefended",
    "clean": "clean fine-tuning",
    "tecoa": "TeCoA",
    "fare": "FARE",
    "pmg_aft": "PMG-AFT",
    "leaf": "LEAF",
    "tga_zsr": "TGA-ZSR",
    "image_only": "image only",
    "text_only": "text only",
    "mmcoa": "MMCoA",
}
VARIANTS = {
    "in": "in distribution",
    "matched": "equal compute",
    "caltech101": "on caltech101",
}  # endings of an entry's name in a profile; others are shown as they are
STUDIES = {"openmoji": "emoji", "photos": "photographs", "resnet": "emoji, ResNet"}
SOURCES = {
    "table:eval": "WordNet table, evaluation half",
    "table:train": "WordNet table, training half",
    "table:synonyms": "WordNet table, synonyms only",
    "wordnet": "WordNet",
    "neighbours": "nearest tokens",
    "characters": "one character",
}
SWEEPS = {
    "attacks": "all attacks",
    "epsilon": "epsilon",
    "steps": "steps",
    "restarts": "restarts",
    "budget": "word budget",
    "source": "candidate source",
    "words": "words that may change",
}
MACRO = "macro mean"


def ordered(names, known):
    """The distinct names, those of `known` first and in its order, each with its variants (`NAME-...`) behind it."""
    known = list(known)

    def place(name):
        base = name if name in known else name.partition("-")[0]
        numbers = [int(part) if part.isdigit() else 0 for part in re.split(r"(\d+)", name)]  # 2shot before 16shot
        return known.index(base) if base in known else len(known), name not in known, re.sub(r"\d+", "", name), numbers, name

    return sorted(dict.fromkeys(names), key=place)


def method_of(model_id, defense):
    """`mmcoa-seed1`, `mmcoa-on-cifar10-seed1` -> `mmcoa`; the base model is `none`, whatever the profile calls it."""
    return "none" if defense == "none" else re.sub(r"(-on-.+)?-seed\d+$", "", model_id)


def attack_label(name):
    return ATTACKS.get(name, name)


def method_label(name):
    """`mmcoa` -> `MMCoA`, `mmcoa-4shot` -> `MMCoA (4 shots)`."""
    base, _, ending = name.partition("-")
    if name in METHODS or base not in METHODS:
        return METHODS.get(name, name)
    shots = re.fullmatch(r"(\d+)shots?", ending)
    return f"{METHODS[base]} ({shots_label(int(shots[1])) if shots else VARIANTS.get(ending, ending)})"


def shots_label(shots):
    """`1 shot`, `4 shots`: pictures of each class that a model was trained on."""
    return f"{shots} shot{'s' * (shots != 1)}"


def study_label(profile):
    """What a study is about, in a word; the profile's name where that is not known."""
    return STUDIES.get(profile, profile)


def source_label(name):
    """`mlm:bert-base-uncased` -> `masked language model`; a table from disk keeps its name."""
    return "masked language model" if name.split(":")[0] == "mlm" else SOURCES.get(name, name)


def dataset_label(name):
    """`openmoji/land-vehicles` -> `land vehicles`; `photos/cifar10` -> `cifar10`; names of other families keep their first part."""
    if name == "openmoji/others":
        return "all other emoji"
    return name.removeprefix("openmoji/").removeprefix("photos/").removeprefix("wds:").replace("-", " ")


def listed(names, last="and"):
    """`a`, `a and b`, `a, b and c`."""
    names = list(names)
    return f" {last} ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))
