"""What a study's cells cost and with what they were computed: from its packed results. Each function returns (shown, numbers).

Minutes are those of one process: with `--jobs 2` two of them pass at once.
"""

import pandas as pd

from mmcoa.report.names import METHODS, listed, method_label, ordered
from mmcoa.study.profiles import load_profile, shipped_profiles

KINDS = {"pretrain": "pre-training", "train": "fine-tuning", "evaluate": "evaluation"}
SOFTWARE = ("python", "torch", "open_clip", "mmcoa")


def cost(study):
    """Cells by kind: trainings by method, evaluations by sweep; minutes of one (median) and of all, and their share."""
    cells = study.cells.assign(of=study.cells.sweep.where(study.cells.kind == "evaluate", study.cells.entry))
    trained = ordered(cells.of[cells.kind == "train"], METHODS)
    groups, rows = dict(list(cells.groupby(["kind", "of"], sort=False))), []
    for kind, of in sorted(groups, key=lambda key: (list(KINDS).index(key[0]), key[0] == "train" and trained.index(key[1]))):
        minutes = groups[kind, of].seconds / 60
        row = {"kind": kind, "of": of, "cells": len(minutes), "median": minutes.median(), "minutes": minutes.sum()}
        rows.append(row | {"share": 100 * row["minutes"] * 60 / cells.seconds.sum()})
    numbers = pd.DataFrame(rows)
    names = [label(row.kind, row.of) for row in numbers.itertuples()]
    shown = pd.DataFrame({"what": names, "parts": numbers.cells.astype(str)})
    shown["minutes each"] = [f"{value:.1f}" for value in numbers["median"]]
    shown["minutes in all"] = [f"{value:.0f}" if value >= 10 else f"{value:.1f}" for value in numbers.minutes]
    shown["share (%)"] = [f"{value:.0f}" for value in numbers.share]
    return shown, numbers


def label(kind, of):
    """`fine-tuning, MMCoA`, `evaluation, main tables`, `evaluation, epsilon`."""
    named = method_label(of) if kind == "train" else of or "main tables"
    return KINDS[kind] if kind == "pretrain" else f"{KINDS[kind]}, {named}"


def hours(study):
    """Hours of all cells in one process, as text."""
    return f"{study.cells.seconds.sum() / 3600:.1f}"


def versions(study):
    """Software, processors and commits of a study's cells, each with how many cells it computed."""
    cells, rows = study.cells, []
    texts = {name: cells[name].astype(str) for name in SOFTWARE}
    texts["device"] = (
        cells.device + ", " + cells.threads.astype(str) + " threads, " + cells.hardware.replace("", "not recorded")
    )
    texts["commit"] = cells.commit.str[:7] + cells.dirty.eq(True).map({True: ", changed", False: ""})
    for what, values in texts.items():
        rows += [{"what": what, "is": value, "cells": count} for value, count in values.value_counts(sort=False).items()]
    numbers = pd.DataFrame(rows)
    return numbers.astype(str).rename(columns={"cells": "parts"}), numbers


def profiles():
    """The shipped studies: what for (first line of the file), base model, number of models and of data sets."""
    rows = []
    for name, path in shipped_profiles().items():
        profile = load_profile(path)
        purpose = path.read_text(encoding="utf8").splitlines()[0].partition(":")[2].strip()
        row = {"study": name, "what for": purpose, "base model": profile.base_model, "methods": len(profile.models)}
        rows.append(row | {"data sets": len(profile.evaluate.datasets), "attacks": listed(profile.evaluate.attacks)})
    numbers = pd.DataFrame(rows)
    return numbers.drop(columns="attacks").astype(str), numbers
