"""What each profile plans, and what its cells took: from the profiles and the records that there are.

Seconds are those of one process, from the start of a cell to its record: with `--jobs 2` two of them pass at once.
"""

from pathlib import Path
from types import SimpleNamespace

import pandas as pd

from mmcoa.report.names import METHODS, SWEEPS, listed, method_label, ordered
from mmcoa.report.results import method_of
from mmcoa.report.strength_facts import counted, span
from mmcoa.report.tables import NARROW
from mmcoa.report.training import short
from mmcoa.study import cost, preflight
from mmcoa.study.cells import expand
from mmcoa.study.profiles import load_profile, model_ids, shipped_profiles
from mmcoa.study.records import is_current, read_record, seconds_of

KINDS = ("pretrain", "train", "evaluate")
HOURS = "hours "  # and a device: names of columns
CELL_COLUMNS = ("kind", "of", "cell", "pictures", "seconds", "device", "threads", "commit")


def plans(results="results", shown=None):
    """One row a shipped profile, and `shown` (name or path) where it is another: what it holds, and what of it is done here.

    Returns columns profile, purpose (first comment of its file), base_model, models, seeds (of each trained method), datasets,
    pictures (a data set, main evaluation; None: all), attacks (of the main evaluation), sweeps (evaluations beside it; both as names
    with spaces between), pretrain, train, evaluate (cells), GB (of all its data sets on disk, as far as their records say), cells,
    done (current records), estimated (hours of two CPU cores for all cells, see study/cost.py), and for each device that did some
    `hours DEVICE`, of the done cells.
    """
    named = dict(shipped_profiles())
    if shown is not None and str(shown) not in named:
        named[load_profile(shown).name] = shown
    return pd.DataFrame([_plan(name, path, results) for name, path in named.items()])


def _plan(name, path, results):
    profile, cells = load_profile(path), expand(path, results=results)
    done = done_cells(path, results)
    row = {"profile": name, "purpose": purpose(path), "base_model": profile.base_model}
    row |= {"models": sum(len(model_ids(profile, entry)) for entry in profile.models)}
    seeds = pd.Series([len(entry.seeds) for entry in profile.models if entry.defense != "none"])
    main = profile.evaluate
    row |= {"seeds": span(seeds) if len(seeds) else "", "datasets": len(main.datasets), "pictures": main.samples}
    row |= {"attacks": " ".join(main.attacks), "sweeps": " ".join(sweep.name for sweep in profile.sweeps)}
    row |= {kind: sum(cell.kind == kind for cell in cells) for kind in KINDS}
    row |= {"GB": round(preflight.gigabytes(SimpleNamespace(todo=cells)), 3), "cells": len(cells), "done": len(done)}
    seconds = cost.seconds(profile, cells)
    row["estimated"] = None if seconds is None else seconds / 3600
    return row | {HOURS + device: part.seconds.sum() / 3600 for device, part in done.groupby("device")}


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
    """Cells of each profile of `plans` by kind, how many have a result here, and the hours that those took; blank: never run."""
    rows = []
    for row in frame.to_dict("records"):
        cells = {"profile": row["profile"], "pre-training": f"{row['pretrain']:,}", "fine-tuning": f"{row['train']:,}"}
        cells |= {"evaluation": f"{row['evaluate']:,}", "n cells": f"{row['cells']:,}", "done here": f"{row['done']:,}"}
        hours = {key.removeprefix(HOURS): value for key, value in row.items() if key.startswith(HOURS) and value > 0}
        cells["hours estimated"] = "–" if pd.isna(row["estimated"]) else short(row["estimated"])
        rows.append(cells | {"hours measured": ", ".join(f"{short(value)} on {device}" for device, value in hours.items())})
    return pd.DataFrame(rows)


def commands(frame):
    """Those that computed what is done of `plans`."""
    return [f"mmcoa run {name}" for name in frame.profile[frame.done > 0]]


def done_cells(profile, results="results"):
    """The cells of a profile with a current record: columns CELL_COLUMNS.

    of: method of a training, sweep of an evaluation (empty: the main one); pictures: that an evaluation asked for; seconds: of
    one process, all its sittings; commit: first seven digits.
    """
    folder, rows = Path(results) / load_profile(profile).name, []
    for cell in expand(profile, results=results):
        record = read_record(folder, cell.id)
        if not is_current(record, cell.hash):
            continue
        made = record["provenance"]
        of = method_of(cell.model, cell.parameters["defense"]) if cell.kind == "train" else cell.sweep
        row = {"kind": cell.kind, "of": of, "cell": cell.id, "pictures": cell.parameters.get("samples")}
        row |= {"seconds": seconds_of(record), "device": made["device"], "threads": made["threads"]}
        rows.append(row | {"commit": (made.get("git_commit") or "unknown")[:7]})
    return pd.DataFrame(rows, columns=CELL_COLUMNS)


def cost_by_kind(profile, results="results"):
    """`done_cells` by kind, trainings by method and evaluations by sweep.

    Returns columns kind, of, cells, pictures (text), median, smallest, largest (seconds of a cell), hours (of all), share (of the
    profile's hours, percent), device, threads, commits (texts).
    """
    frame, rows = done_cells(profile, results), []
    order = {("train", name): i for i, name in enumerate(ordered(frame.of[frame.kind == "train"], METHODS))}
    groups = dict(list(frame.groupby(["kind", "of"], sort=False)))
    for kind, of in sorted(groups, key=lambda key: (KINDS.index(key[0]), order.get(key, 0))):
        part = groups[kind, of]
        sizes = part.pictures.dropna().astype(int)
        row = {"kind": kind, "of": of, "cells": len(part), "pictures": span(sizes) if kind == "evaluate" and len(sizes) else ""}
        row |= {"median": part.seconds.median(), "smallest": part.seconds.min(), "largest": part.seconds.max()}
        row |= {"hours": part.seconds.sum() / 3600, "share": 100 * part.seconds.sum() / frame.seconds.sum()}
        row |= {key: ", ".join(str(value) for value in sorted(part[key].unique())) for key in ("device", "threads")}
        rows.append(row | {"commits": ", ".join(part.commit.unique())})
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


def of_reproduce(profile, results="results"):
    """What captions and prose of the page say; see facts.py."""
    frame, held = cost_by_kind(profile, results), plans(results, profile)
    dear = frame.loc[frame.hours.idxmax()]
    machines = done_cells(profile, results)[["device", "threads"]].drop_duplicates().sort_values(["device", "threads"])
    unfinished = held[held.done < held.cells]
    return {
        "plan_unfinished": listed(
            f"{row.profile} ({row.done:,} of {row.cells:,} cells done)" for row in unfinished.itertuples()
        )
        or "none",
        "plan_attacks": "; ".join(f"{row.profile}: {row.attacks.replace(' ', ', ')}" for row in held.itertuples()),
        "kinds_cells": f"{frame.cells.sum():,}",
        "kinds_hours": short(frame.hours.sum()),
        "kinds_dear": f"{kind_label(dear.kind, dear.of)} ({dear.share:.0f} %)",
        "kinds_devices": listed(f"{row.device}, {counted(row.threads, 'thread')}" for row in machines.itertuples()),
        "kinds_commits": listed(dict.fromkeys(commit for text in frame.commits for commit in text.split(", "))),
    }
