"""What each profile plans, and what the cells of a study took: from the profiles and the packed results that there are.

Seconds are those of one process: with `--jobs 2` two of them pass at once.
"""

from pathlib import Path

import pandas as pd

from mmcoa.datasets.records import records
from mmcoa.report.facts import commits
from mmcoa.report.names import METHODS, SWEEPS, listed, method_label, ordered
from mmcoa.report.strength_facts import counted, span
from mmcoa.report.tables import NARROW
from mmcoa.report.training import short
from mmcoa.store import packed
from mmcoa.study.profiles import load_profile, runs_of, shipped_profiles, sweeps_of

KINDS = ("pretrain", "train", "evaluate")
HOURS = "hours "  # and a device: names of columns


def planned(profile):
    """{kind: number of cells} of a profile."""
    cells, main = {"pretrain": int(profile.pretrain is not None), "train": 0, "evaluate": 0}, profile.evaluate.datasets
    for entry in profile.models:
        for _, seed, own in runs_of(profile, entry):
            cells["train"] += seed is not None
            cells["evaluate"] += 1 if own else len(main)
            for sweep in sweeps_of(profile, entry, seed):
                points = max(1, sum(map(len, sweep.vary.values())))
                cells["evaluate"] += points * (1 if own else len(sweep.datasets or main))
    return cells


def plans(results="results"):
    """One row a shipped profile: what it holds, and what of it is done here.

    Returns columns profile, purpose (first comment of its file), base_model, models, seeds (of each trained method), datasets,
    pictures (a data set, main evaluation; None: all), attacks (of the main evaluation), sweeps (evaluations beside it; both
    as names with spaces between), pretrain, train, evaluate (cells), GB (of all its data sets on disk, as far as their
    records say), cells, done (cells in the packed results), and for each device that did some `hours DEVICE`.
    """
    return pd.DataFrame([_plan(name, path, results) for name, path in shipped_profiles().items()])


def _plan(name, path, results):
    profile, main = load_profile(path), load_profile(path).evaluate
    row = {"profile": name, "purpose": purpose(path), "base_model": profile.base_model}
    row |= {"models": sum(len(runs_of(profile, entry)) for entry in profile.models)}
    seeds = pd.Series([len(entry.seeds) for entry in profile.models if entry.defense != "none"])
    row |= {"seeds": span(seeds) if len(seeds) else "", "datasets": len(main.datasets), "pictures": main.samples}
    row |= {"attacks": " ".join(main.attacks), "sweeps": " ".join(sweep.name for sweep in profile.sweeps)}
    cells, done = planned(profile), packed.read_cells(Path(results) / name)
    row |= cells | {"GB": gigabytes(profile), "cells": sum(cells.values()), "done": 0 if done is None else len(done)}
    if done is None:
        return row
    return row | {HOURS + device: part.seconds.sum() / 3600 for device, part in done.groupby("device")}


def gigabytes(profile):
    """Of the profile's data sets on disk."""
    names = {profile.train.dataset, *profile.evaluate.datasets, *(entry.dataset for entry in profile.models)}
    names |= {name for part in (*profile.models, *profile.sweeps) for name in part.datasets or ()}
    known = records()
    return round(sum(known[name].disk or 0 for name in names if name in known), 3)


def purpose(path):
    """What a profile's file says of itself: its first line, `# NAME: purpose`; empty where it has none."""
    with open(path, encoding="utf8") as file:
        line = file.readline()
    return line.partition(":")[2].strip() if line.startswith("#") else ""


def plans_table(frame):
    """What each profile of `plans` holds, as text."""
    rows = []
    for row in frame.itertuples():
        cells = {"profile": row.profile, "purpose": row.purpose, "base model": row.base_model, "models": str(row.models)}
        cells |= {
            "seeds": row.seeds or "–",
            "data sets": str(row.datasets),
            "n each": "all" if pd.isna(row.pictures) else f"{row.pictures:,.0f}",
        }
        cells |= {"attacks": str(len(row.attacks.split())), "sweeps": str(len(row.sweeps.split()))}
        rows.append(cells | {"GB": f"{row.GB:.2g}" if row.GB < 1 else f"{row.GB:,.0f}"})
    return pd.DataFrame(rows)


def done_table(frame):
    """Cells of each profile of `plans` by kind, how many have a result here, and the hours that those took; blank: never
    run."""
    rows = []
    for row in frame.to_dict("records"):
        cells = {"profile": row["profile"], "pre-training": f"{row['pretrain']:,}", "fine-tuning": f"{row['train']:,}"}
        cells |= {"evaluation": f"{row['evaluate']:,}", "n cells": f"{row['cells']:,}"}
        cells |= {"done here": f"{row['done']:,}" if row["done"] else "–"}
        hours = {key.removeprefix(HOURS): value for key, value in row.items() if key.startswith(HOURS) and value > 0}
        rows.append(cells | {"hours measured": ", ".join(f"{short(value)} on {device}" for device, value in hours.items())})
    return pd.DataFrame(rows)


def done_cells(study):
    """`study.cells` with `of` (method of a training, sweep of an evaluation; empty: the main one) and `pictures` of an
    evaluation."""
    every = [study, *(part for values in study.sweeps.values() for part in values.values())]
    pictures = pd.concat([part.rows for part in every]).groupby("cell").n.first()
    of = study.cells.sweep.where(study.cells.kind == "evaluate", study.cells.entry)
    return study.cells.assign(of=of, pictures=study.cells.cell.map(pictures))


def cost_by_kind(study):
    """`done_cells` by kind, trainings by method and evaluations by sweep.

    Returns columns kind, of, cells, pictures (text), median, smallest, largest (seconds of a cell), hours (of all), share
    (of the study's hours, percent), device, threads, commits (texts).
    """
    frame, rows = done_cells(study), []
    order = {("train", name): i for i, name in enumerate(ordered(frame.of[frame.kind == "train"], METHODS))}
    groups = dict(list(frame.groupby(["kind", "of"], sort=False)))
    for kind, of in sorted(groups, key=lambda key: (KINDS.index(key[0]), order.get(key, 0))):
        part = groups[kind, of]
        sizes = part.pictures.dropna().astype(int)
        row = {"kind": kind, "of": of, "cells": len(part), "pictures": span(sizes) if len(sizes) else ""}
        row |= {"median": part.seconds.median(), "smallest": part.seconds.min(), "largest": part.seconds.max()}
        row |= {"hours": part.seconds.sum() / 3600, "share": 100 * part.seconds.sum() / frame.seconds.sum()}
        row |= {key: ", ".join(str(value) for value in sorted(part[key].unique())) for key in ("device", "threads")}
        rows.append(row | {"commits": commits(part.commit)})
    return pd.DataFrame(rows)


def kinds_table(frame):
    """`cost_by_kind` to print."""
    rows = []
    for row in frame.itertuples():
        cells = {"kind of cell": kind_label(row.kind, row.of), "n": f"{row.cells:,}", "pictures": row.pictures or "–"}
        cells |= {"median s": short(row.median), "least": short(row.smallest), "most": short(row.largest)}
        cells |= {"minutes in all": short(60 * row.hours), "share": f"{row.share:.0f}{NARROW}%"}
        rows.append(cells | {"device": row.device, "threads": row.threads})
    return pd.DataFrame(rows)


def kind_label(kind, of):
    """`fine-tuning, MMCoA`, `evaluation, main`, `evaluation, sweep epsilon`."""
    if kind == "evaluate":
        return f"evaluation, sweep: {SWEEPS.get(of, of)}" if of else "evaluation, main"
    return f"fine-tuning, {method_label(of)}" if kind == "train" else "pre-training"


def of_reproduce(study, results="results"):
    """What captions and prose of the page say; see facts.py."""
    frame, held = cost_by_kind(study), plans(results)
    dear = frame.loc[frame.hours.idxmax()]
    machines = study.cells[["device", "threads"]].drop_duplicates().sort_values(["device", "threads"])
    own = held[held.profile == study.name]
    planned_cells = f"{int(own.cells.iloc[0]):,}" if len(own) else "an unknown number of"
    return {
        "plan_done": f"{len(study.cells):,} of {planned_cells} cells computed",
        "plan_unfinished": listed(
            f"{row.profile} ({row.done:,} of {row.cells:,} cells)" for row in held.itertuples() if 0 < row.done < row.cells
        )
        or "none",
        "plan_absent": listed(row.profile for row in held.itertuples() if not row.done) or "none",
        "plan_attacks": "; ".join(f"{row.profile}: {row.attacks.replace(' ', ', ')}" for row in held.itertuples()),
        "kinds_cells": f"{frame.cells.sum():,}",
        "kinds_hours": short(frame.hours.sum()),
        "kinds_dear": f"{kind_label(dear.kind, dear.of)} ({dear.share:.0f} %)",
        "kinds_devices": listed(f"{row.device}, {counted(row.threads, 'thread')}" for row in machines.itertuples()),
        "kinds_commits": commits(study.cells.commit),
    }
