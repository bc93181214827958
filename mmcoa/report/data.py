"""The data sets as tables for the book: from the records alone, no picture is read. Prompts are written as code, for MyST.

`table` is everything at once; the page shows it in parts (`overview`, `splits`, `provenance`), with `roles`, `twins`,
`duplicates`, `presets` and `derived`. `records` everywhere: {name: Record}, by default all.
"""

import json
from importlib.resources import files

import pandas as pd

from mmcoa.datasets.overlaps import overlaps
from mmcoa.datasets.records import class_list, paper_names, template_list
from mmcoa.datasets.records import records as all_records
from mmcoa.datasets.roles import known_models, role
from mmcoa.prompts import PRESETS, clean_name, duplicate_prompts, record_prompts
from mmcoa.report.names import listed

TEST_SHARE = 0.2  # of data sets without an official split (mmcoa/datasets/order.py)
FAMILIES = {"openmoji": "embedded", "photos": "photographs", "": "the paper's"}


def table(records=None):
    """One row a data set: all that its record says. Counts are numbers, missing where a split does not exist."""
    rows = []
    for name, record in _all(records).items():
        row = {"data set": name, "title": record.title, "family": family(name), "classes": record.classes}
        row |= {split: record.splits.get(split) for split in ("train", "val", "test")}
        row |= {"all": record.total, "pixels": record.size, "template": record.template, "rewrite": rewriting(record)}
        row |= {"paper's code evaluates": record.reference_split, "proper split": record.proper_split}
        rows.append(row | {"licence": record.licence, "citation": record.citation, "source": record.source, "GB": record.disk})
    return pd.DataFrame(rows).astype(dict.fromkeys(("train", "val", "test", "all", "pixels"), "Int64"))


def overview(records=None):
    """Data set, classes, samples, native pixels and prompt, as text."""
    rows = []
    for name, record in _all(records).items():
        row = {"data set": name, "classes": f"{record.classes:,}"}
        row |= {split: _samples(record, split) for split in ("train", "val", "test")}
        changes = rewriting(record).removeprefix("lower case").removeprefix(", ")
        rows.append(row | {"pixels": str(record.size or "vary"), "prompt": code(record.template), "class names": changes})
    return pd.DataFrame(rows)


def splits(records=None):
    """Only those data sets of which the paper's public code evaluates something else than the proper split."""
    rows = [
        {"data set": name, "the paper's code evaluates": record.reference_split, "evaluated here": _proper(record)}
        for name, record in _all(records).items()
        if record.reference_split != record.proper_split
    ]
    return pd.DataFrame(rows, columns=["data set", "the paper's code evaluates", "evaluated here"])


def provenance(records=None):
    """Licence, citation and source of each data set; data sets of one family that share all three are one row."""
    kept = {}
    for name, record in _all(records).items():
        source = f"<{record.source}>" if record.source.startswith("http") else record.source
        family = name.partition("/")[0] if "/" in name else name
        kept.setdefault((family, record.licence, record.citation or "–", source), []).append(name)
    rows = []
    for (family, licence, citation, source), names in kept.items():
        label = ", ".join(names) if len(names) <= 4 else f"{family}/… ({len(names)} sets)"
        rows.append({"data set": label, "licence": licence, "citation": citation, "source": source})
    return pd.DataFrame(rows)


def duplicates(records=None):
    """Prompts that several classes share, by data set and preset, classes with their labels; where names need no pictures."""
    rows = []
    for name, preset, names, prompts in _prompted(records):
        for prompt in duplicate_prompts(prompts):
            classes = [f"{names[label]} ({label})" for label, text in enumerate(prompts) if text == prompt]
            rows.append({"data set": name, "preset": preset, "prompt": code(prompt), "classes": ", ".join(classes)})
    return pd.DataFrame(rows, columns=["data set", "preset", "prompt", "classes"])


def _prompted(records):
    """(name, preset, class names, the first prompt of each class) wherever they can be known."""
    for name, record in _all(records).items():
        names = class_names(record)
        for preset in PRESETS if names else ():
            if preset == "reference" or record.openclip is not None:
                yield name, preset, names, record_prompts(record, names, preset)[0]


def presets(records=None):
    """The presets of prompts: the record's template, and CLIP's ensemble with how many class names it words in its own way."""
    rows = []
    for name, record in _all(records).items():
        if record.openclip is None:
            continue
        templates = template_list(record.openclip.templates)
        row = {"data set": name, "reference": code(record.template), "openclip templates": len(templates)}
        row |= {"the first of them": code(templates[0].replace("{c}", "{}")), "other class names": _other_names(record)}
        rows.append(row)
    return pd.DataFrame(rows, columns=["data set", "reference", "openclip templates", "the first of them", "other class names"])


def _other_names(record):
    """How many class names of the preset `openclip` differ from the reference's cleaned ones by more than capitals."""
    names = class_names(record)
    if not record.openclip.names or not names:
        return "none"
    rule = record.prompt
    ours = [clean_name(name, rule.lower, rule.keep, rule.rewrite).lower() for name in names]
    theirs = [name.lower() for _, name in class_list(record.openclip.names)]
    return f"{sum(a != b for a, b in zip(ours, theirs, strict=True))} of {len(ours)}"


def derived(records=None):
    """Data sets made of another one's classes: new class, how many classes stand for it, and which."""
    rows = []
    for name, record in _all(records).items():
        if record.reader != "merged":
            continue
        known = dict(class_list("imagenet")) if "ids" in record.options else {}
        for label, parts in record.options["classes"].items():
            names = [known.get(part, part) for part in parts]
            row = {"data set": name, "class": label, "from": record.options["of"], "classes there": len(names)}
            rows.append(row | {"they are": ", ".join(names) or "none, and so no picture"})
    return pd.DataFrame(rows, columns=["data set", "class", "from", "classes there", "they are"])


def roles(records=None):
    """What each data set is to each model whose pre-training is known; data sets of a family that agree are one row."""
    models, kept = known_models(), {}
    for name in _all(records):
        kept.setdefault((family(name), tuple(role(name, model) for model in models)), []).append(name)
    rows = [
        {"data sets": names[0] if len(names) == 1 else listed(names)} | dict(zip(models, own, strict=True))
        for (_, own), names in kept.items()
    ]
    return pd.DataFrame(rows, columns=["data sets", *models])


def twins():
    """What splits share with other splits, most pictures first, and whether training and test pictures meet there."""
    rows = [
        {"pictures of": f"{one.dataset}, {one.split}", "are also in": f"{one.other}, {one.other_split}"}
        | {"pictures": f"{one.pictures:,}", "pictures there": f"{one.other_pictures:,}"}
        | {"train meets test": "yes" if one.crosses else "no"}
        for one in overlaps()
    ]
    return pd.DataFrame(rows)


def facts(records=None):
    """Numbers and phrases of the page, {key: text}."""
    known = _all(records)
    shared, hashed = duplicates(records), [name for name, record in known.items() if record.total]
    by_set = [
        f"{len(part)} in {name} ({preset})" for (name, preset), part in shared.groupby(["data set", "preset"], sort=False)
    ]
    checked = {name for name, *_ in _prompted(records)}
    return {
        "data_sets": str(len(known)),
        "data_paper": str(sum(name in known for name in paper_names())),
        "data_embedded": str(sum(family(name) == FAMILIES["openmoji"] for name in known)),
        "data_photos": str(sum(family(name) == FAMILIES["photos"] for name in known)),
        "data_shared": str(len(shared)),
        "data_shared_says": listed(by_set) or "none",
        "data_checked": str(len(checked)),
        "data_hashed": listed(hashed) or "none",
        "data_share": f"{100 * TEST_SHARE:.0f} %",
        "data_differ": str(len(splits(records))),
        "data_derived": listed(dict.fromkeys(derived(records)["data set"])) or "none",
        "data_presets": str(len(presets(records))),
        "data_crossing": str(sum(one.crosses for one in overlaps())),
        "data_crossing_most": f"{sum(one.pictures for one in overlaps() if one.crosses and one.dataset != one.other):,}",
    }


def used(study):
    """What a study evaluates and trains on, for the page, {key: text}."""
    rows = study.rows
    trained = [name for name in rows.trained_on.unique() if name]
    return {"profile": study.name, "data_used": listed(rows.dataset.unique()), "data_trained": listed(trained) or "nothing"}


def class_names(record):
    """Class names in label order, where they come with the package; None where they are in the data's folder."""
    if record.reader == "openmoji":
        glyphs = json.loads((files("mmcoa.assets") / "openmoji.json").read_text(encoding="utf8"))
        return [glyph["name"] for glyph in glyphs if glyph["group"] == record.name.removeprefix("openmoji/")]
    return record.class_names()


def family(name):
    """Where a data set's pictures come from: the package, photographs beside it, or the paper's list."""
    return FAMILIES.get(name.partition("/")[0], FAMILIES[""])


def rewriting(record):
    """What happens to class names before the template, in words."""
    rule = record.prompt
    case = "lower case" if rule.lower else "case kept"
    kept = f", {' '.join(code(one) for one in rule.keep)} kept" if rule.keep else ""
    changes = "".join(f", {code(pattern)} → {code(new) if new else 'nothing'}" for pattern, new in rule.rewrite)
    return f"{case}{kept}{changes}"


def code(text):
    """Text as MyST code, in which braces and underscores mean nothing."""
    return f"`{text}`"


def _all(records):
    return all_records() if records is None else records


def _samples(record, split):
    if split not in record.splits:
        return "–"
    count = record.splits[split]
    if count is not None:
        return f"{count:,}"
    share = TEST_SHARE if split == "test" else 1 - TEST_SHARE
    return f"{100 * share:.0f} % of {record.total:,}" if record.total else "?"


def _proper(record):
    return f"{record.proper_split}: {100 * TEST_SHARE:.0f} % by a hash of the path" if record.total else record.proper_split
