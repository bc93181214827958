"""How attacks, methods and data sets are called in tables and figures, and in which order they come.

A name that is not listed here is shown as it is, after the listed ones: a new defence or attack needs no entry.
"""

ATTACKS = {
    "clean": "clean",
    "image": "image",
    "pgd": "image",
    "fgsm": "image, one step",
    "text": "text",
    "independent": "independent",
    "sequential": "sequential",
    "joint": "joint",
    "multimodal": "worst case",
}
METHODS = {
    "none": "undefended",
    "clean": "clean fine-tuning",
    "tecoa": "TeCoA",
    "fare": "FARE",
    "pmg_aft": "PMG-AFT",
    "tga_zsr": "TGA-ZSR",
    "image_only": "image only",
    "text_only": "text only",
    "mmcoa": "MMCoA",
}
MACRO = "macro mean"


def ordered(names, known):
    """The distinct names, those of `known` first and in its order."""
    names = list(dict.fromkeys(names))
    return [name for name in known if name in names] + sorted(name for name in names if name not in known)


def attack_label(name):
    return ATTACKS.get(name, name)


def method_label(name):
    return METHODS.get(name, name)


def dataset_label(name):
    """`openmoji/land-vehicles` -> `land vehicles`; names of other families keep their first part."""
    if name == "openmoji/others":
        return "all other emoji"
    return name.removeprefix("openmoji/").removeprefix("wds:").replace("-", " ")
