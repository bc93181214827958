"""How fast the attacks and MMCoA are, on each machine that was measured: results/speed/*.csv, one file each (`mmcoa bench`).

A line is ours and a baseline, measured side by side in one run. Lines about one step (of PGD, of MMCoA, of the image tower's
gradient) say their precision, and where it was measured what share of the machine's largest bf16 product's rate they reach.
"""

import re

import pandas as pd

from mmcoa.report import tables
from mmcoa.report.trust import read

STEPS = {"image gradient": "image gradient", "PGD step": "PGD", "MMCoA step": "MMCoA"}  # first words of a line: what it is
RATE = ": rate"  # ends the name of a line about TFLOP/s; it belongs to the line of seconds without it
NAMED = re.compile(r"(?:[;,] )?baseline:? (?P<baseline>[^;]+)(?=;|$)")
PUBLIC = "public way"


def lines(results):
    """All lines of all machines; `what` without its precision, which is a column, as is what the baseline is."""
    folder = results / "speed"
    paths = [path for path in sorted(folder.glob("*.csv")) if "-quick" not in path.name]
    frame = pd.concat([read(folder, path.name) for path in paths], ignore_index=True)
    named = frame.setting.str.extract(NAMED).baseline
    frame["against"] = named.fillna(PUBLIC).where(frame.baseline.notna())
    frame["setting"] = frame.setting.str.replace(NAMED, "", regex=True)
    return frame


def steps(results):
    """(shown, numbers): seconds of one step by machine, size and precision; beside the public way, and the machine's limit."""
    frame, rows = lines(results), []
    for line in frame.itertuples():
        kind, _, precision = line.what.partition(", ")
        if kind not in STEPS or precision.endswith(RATE):
            continue
        same = (frame.hardware == line.hardware) & (frame.setting == line.setting) & (frame.what == line.what + RATE)
        share = frame.ratio[same].iloc[0] if same.any() else None
        rows.append(
            {
                "machine": line.hardware,
                "step": STEPS[kind],
                "precision": precision or "fp32",
                "setting": re.sub(r"^, ", "", line.setting.replace(f", {precision},", ",")),
                "seconds": line.ours,
                "public way": line.baseline,
                "times as fast": line.ratio,
                "share of the limit": share,
            }
        )
    numbers = pd.DataFrame(rows).sort_values(["machine", "step", "setting"], key=numbered, kind="stable", ignore_index=True)
    shown = numbers.assign(**{"share of the limit": numbers["share of the limit"].map(shared)})
    return printed(shown), numbers


def others(results):
    """(shown, numbers): whole searches, trainings, reading and memory, by machine; `beside`: what the baseline is."""
    frame = lines(results)
    kinds = frame.what.str.partition(", ")[0]
    numbers = frame[~kinds.isin(STEPS) & ~frame.what.str.endswith(RATE)]
    columns = {"hardware": "machine", "what": "what", "setting": "setting", "ours": "ours", "baseline": "other", "unit": "unit"}
    columns |= {"ratio": "ratio", "against": "beside"}
    numbers = numbers[list(columns)].rename(columns=columns).sort_values("machine", kind="stable", ignore_index=True)
    return printed(numbers), numbers


def printed(frame):
    """Every value as text, numbers with the digits that they were written with, a dash for what is missing."""
    return frame.map(lambda one: tables.DASH if pd.isna(one) else one if isinstance(one, str) else f"{one:.10g}")


def shared(value):
    """A share as percent."""
    return tables.DASH if pd.isna(value) else f"{100 * value:.1f} %"


def numbered(column):
    """Texts as sort keys in which `batch 64` comes before `batch 256`."""
    return column.map(lambda text: re.sub(r"\d+", lambda found: found[0].zfill(9), text))
