"""How attacks, methods and data sets are called in tables and figures, and in which order they come.

A name that is not listed here is shown as it is, after the listed ones: a new defence or attack needs no entry. A variant of a
listed name (`mmcoa-4shot`) comes after it and is called after it.
"""

import re

from mmcoa.attacks.catalog import ATTACKS

METHODS = {
    "none": "undefended",
    "clean": "clean fine-tuning",
    "tecoa": "TeCoA",
    "fare": "FARE",
    "sim-clip": "Sim-CLIP",
    "pmg_aft": "PMG-AFT",
    "leaf": "LEAF",
    "tga_zsr": "TGA-ZSR",
    "agft": "AGFT",
    "advflyp": "AdvFLYP",
    "image_only": "image only",
    "text_only": "text only",
    "mmcoa": "MMCoA",
    "mat": "MAT",
}
VARIANTS = {
    "in": "in distribution",
    "matched": "equal compute",
    "caltech101": "on caltech101",
    "after-fare": "from FARE",
    "own": "own λ",
    "1shot": "1 shot",
}  # endings of an entry's name in a profile; others are shown as they are
MACRO = "macro mean"


def ordered(names, known):
    """The distinct names, those of `known` first and in its order, each with its variants (`NAME-...`) behind it."""
    known = list(known)

    def place(name):
        base = name if name in known else name.partition("-")[0]
        numbers = [int(part) if part.isdigit() else 0 for part in re.split(r"(\d+)", name)]  # 2shot before 16shot
        return known.index(base) if base in known else len(known), name not in known, re.sub(r"\d+", "", name), numbers, name

    return sorted(dict.fromkeys(names), key=place)


def ordered_attacks(names):
    """The distinct names: attacks on nothing, on pictures, on prompts, on both; a worst case of several after its parts."""
    kinds = ("nothing", "picture", "prompts", "both")
    return ordered(names, sorted(ATTACKS, key=lambda name: (kinds.index(changes_what(name)), bool(ATTACKS[name].parts))))


def attack_label(name):
    """What tables call an attack: the label of its record; one that is not known as it is."""
    return typeset(ATTACKS[name].label) if name in ATTACKS else name


def typeset(text):
    """A sentence or label of the data as the field writes it: `l_inf` -> ℓ∞, `l_2` and `l2` -> ℓ2."""
    return re.sub(r"\bl_?2\b", "ℓ2", re.sub(r"\bl_?inf\b", "ℓ∞", text))


def changes_what(name):
    """`picture`, `prompts`, `both`, or `nothing`; a dash for an attack that is not known."""
    if name not in ATTACKS:
        return "–"
    found = ATTACKS[name]
    image = found.image or any(ATTACKS[part].image for part in found.parts)
    return {(0, 0): "nothing", (1, 0): "picture", (0, 1): "prompts", (1, 1): "both"}[bool(image), bool(found.text)]


def method_label(name):
    """`mmcoa` -> `MMCoA`, `mmcoa-4shot` -> `MMCoA (4 shots)`."""
    base, _, ending = name.partition("-")
    if name in METHODS or base not in METHODS:
        return METHODS.get(name, name)
    shots = re.sub(r"^(\d+)shot$", r"\1 shots", ending)
    return f"{METHODS[base]} ({VARIANTS.get(ending, shots)})"


def dataset_label(name):
    """`openmoji/land-vehicles` -> `land vehicles`; `photos/cifar10` -> `cifar10`; names of other families keep their first
    part."""
    if name == "openmoji/others":
        return "all other emoji"
    return name.removeprefix("openmoji/").removeprefix("photos/").removeprefix("wds:").replace("-", " ")


def listed(names, last="and"):
    """`a`, `a and b`, `a, b and c`."""
    names = list(names)
    return f" {last} ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))
