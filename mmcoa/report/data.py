"""Models and data sets as tables for the page "Models and data", from records alone: no weights and no picture are read.

Each function returns (shown, numbers), as those of tables.py. A figure of a model that its files do not say stands in `CARDS`;
tests/report/test_data.py counts.
"""

from importlib.resources import files

import pandas as pd

from mmcoa.datasets.overlaps import overlaps
from mmcoa.datasets.records import paper_names, records
from mmcoa.datasets.roles import NAMES, PICTURES, role
from mmcoa.report import tasks
from mmcoa.report.names import dataset_label, listed
from mmcoa.report.tables import percent

JOINED = "text head: 25 epochs over names"  # of lite-clip, in place of steps
EMOJI = {
    "text tower": "transformer, 2 layers of width 128",
    "text parameters": 1_465_856,
    "pixels": 64,
    "dimensions": 128,
    "trained on": "seeded views of 1,282 OpenMoji glyphs, with captions",
    "licence": "CC BY-SA 4.0 (glyphs)",
}
CARDS = {
    "lite-clip": {
        "used for": "the study",
        "image tower": "EfficientNet-Lite0",
        "image parameters": 7_976_073,
        "text tower": "MiniLM, 6 layers of width 384",
        "text parameters": 23_523_104,
        "pixels": 128,
        "dimensions": 1000,
        "trained on": "ImageNet (image tower), sentence pairs (text tower); joined by ImageNet's names, without a picture",
        "steps": None,
        "licence": "Apache-2.0",
    },
    "openmoji-clip": EMOJI
    | {"used for": "trials", "image tower": "ViT, 4 layers of width 128", "image parameters": 843_008, "steps": 3200},
    "openmoji-resnet": EMOJI
    | {"used for": "trials", "image tower": "ResNet, 4 blocks from width 24", "image parameters": 3_016_071, "steps": 4000},
}


def models():
    """The three models' cards: one column a model."""
    rows = {key: [str(card[key]) for card in CARDS.values()] for key in ("used for", "image tower", "text tower")}
    sizes = [(card["image parameters"] / 1e6, card["text parameters"] / 1e6) for card in CARDS.values()]
    rows["parameters"] = [f"{image + text:.1f} M ({image:.1f} image, {text:.1f} text)" for image, text in sizes]
    rows["resolution"] = [f"{card['pixels']} x {card['pixels']}" for card in CARDS.values()]
    rows["embedding"] = [f"{card['dimensions']:,} numbers" for card in CARDS.values()]
    rows["pre-training"] = [card["trained on"] for card in CARDS.values()]
    rows["steps"] = [f"{card['steps']:,} of 128 pictures" if card["steps"] else JOINED for card in CARDS.values()]
    rows["licence"] = [card["licence"] for card in CARDS.values()]
    shown = pd.DataFrame.from_dict(rows, orient="index", columns=list(CARDS)).rename_axis("").reset_index()
    return shown, pd.DataFrame.from_dict(CARDS, orient="index").rename_axis("model").reset_index()


def families():
    """What each family of models can do, as tests/model/test_families.py found: one row a family."""
    found = pd.read_csv(str(files("mmcoa.model") / "families.csv"), keep_default_na=False)
    return found.drop(columns="for example").replace("yes", "✓"), found


def datasets(study):
    """The data sets of a study's main evaluation: size, role, pixels, licence, and whether they enter the mean."""
    mean, rows = tasks.macro_sets(study), []
    clean = study.rows[(study.rows.method == "none") & (study.rows.attack == "clean")]
    base = next((name for name in study.rows.trained_on if name), "")
    for row in clean.itertuples():
        record = records()[row.dataset]
        rows.append(
            {"data set": dataset_label(row.dataset), "title": record.title, "classes": row.classes, "n": row.n}
            | {"test pictures": record.splits.get("test"), "pixels": record.size, "chance": 100 / row.classes}
            | {"clean": row.accuracy, "role": role(row.dataset, row.base_model, base), "in the mean": row.dataset in mean}
            | {"licence": record.licence, "citation": record.citation, "prompt": record.template}
        )
    numbers = pd.DataFrame(rows)
    shown = numbers[["data set", "classes", "n", "pixels", "role"]].astype(str)
    shown["clean (chance)"] = [f"{percent(a)} ({percent(b)})" for a, b in zip(numbers.clean, numbers.chance, strict=True)]
    shown["in the mean"] = ["yes" if each else "no" for each in numbers["in the mean"]]
    shown["licence"] = numbers.licence.replace("see source", "of its source")
    return shown, numbers


def twins(sets):
    """Splits of some data sets that share pictures where training meets test, most pictures first."""
    found = [one for one in overlaps() if one.crosses and {one.dataset, one.other} <= set(sets)]
    names = [(f"{dataset_label(one.dataset)}, {one.split}", f"{dataset_label(one.other)}, {one.other_split}") for one in found]
    rows = [{"pictures of": a, "are also in": b, "pictures": one.pictures} for (a, b), one in zip(names, found, strict=True)]
    numbers = pd.DataFrame(rows, columns=["pictures of", "are also in", "pictures"])
    return numbers.astype({"pictures": str}), numbers


def shared_with(base, sets):
    """Names of those data sets whose test pictures have a twin among the training pictures of `base`, or `none`."""
    sides = [side for one in overlaps() for side in (one, one.turned())]
    found = [one.dataset for one in sides if (one.other, one.other_split, one.split) == (base, "train", "test")]
    return listed(dataset_label(name) for name in sets if name in found) or "none"


def by_name():
    """The paper's data sets: what `--dataset NAME` takes once their files are there."""
    rows = []
    for name in paper_names():
        record = records()[name]
        met = record.roles.get("lite-clip", "")
        row = {"data set": name, "classes": record.classes, "test": record.splits.get("test"), "all": record.total}
        row |= {"pixels": record.size, "GB": record.disk, "fetched": bool(record.download), "lite-clip": met}
        rows.append(
            row | {"paper's code evaluates": record.reference_split, "licence": record.licence, "source": record.source}
        )
    numbers = pd.DataFrame(rows).astype(dict.fromkeys(("test", "all", "pixels"), "Int64"))
    shown = pd.DataFrame({"data set": numbers["data set"], "classes": [f"{count:,}" for count in numbers.classes]})
    shown["test pictures"] = [
        f"{row.test:,}" if row.test is not pd.NA else f"a fifth of {row.all:,}" for row in numbers.itertuples()
    ]
    shown["pixels"] = ["vary" if side is pd.NA else str(side) for side in numbers.pixels]
    shown["met by lite-clip"] = [{PICTURES: "pictures", NAMES: "names"}.get(met, "no") for met in numbers["lite-clip"]]
    shown["comes by"] = ["mmcoa data get" if each else "hand" for each in numbers.fetched]
    shown["GB"] = [f"{size:.2g}" if size < 10 else f"{size:.0f}" for size in numbers.GB]
    shown["licence"] = numbers.licence
    return shown, numbers
