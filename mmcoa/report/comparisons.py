"""What benchmarks measured beside other implementations: robust accuracies, prompts, clean predictions, speed. As frames
and tables.

From results/strength/*.csv (benchmarks/strength.py) and results/speed/*.csv (benchmarks/speed.py); a folder that is absent
gives an empty frame, and the page says so.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from mmcoa.errors import UserError
from mmcoa.evaluation.statistics import wilson
from mmcoa.report.names import attack_label, dataset_label, source_label, typeset
from mmcoa.report.tables import number, signed


def robust(folder="results"):
    """Robust accuracies beside those of independent implementations, as benchmarks/strength.py wrote them (percent)."""
    frame = _read(Path(folder) / "strength", "ours_robust")
    return frame.astype({"difference_points": float, "n": int}) if len(frame) else frame


def robust_table(folder="results"):
    """`robust` to print; intervals are per-sample Wilson intervals."""
    rows = []
    for row in robust(folder).to_dict("records"):
        made = {
            "attack": attack_label(row["attack"]),
            "norm": typeset(row["norm"]),
            "epsilon": row["epsilon"],
            "steps": row["steps"],
        }
        made |= {"data set": dataset_label(row["dataset"]), "model": row["model"], "n": row["n"]}
        made |= {"ours": with_interval(row["ours_robust"], row["n"]), "theirs": with_interval(row["theirs_robust"], row["n"])}
        made |= {
            "difference": signed(float(row["difference_points"])),
            "their code": f"{row['implementation']} {row['version']}",
        }
        rows.append(made | {"agrees": "yes" if agrees(row["agrees"]) else str(row["agrees"]).replace("False", "no")})
    return pd.DataFrame(rows)


def agrees(text):
    """`yes` or `True`; anything else says no, perhaps with a reason."""
    return str(text).lower().startswith(("yes", "true"))


def with_interval(accuracy, n):
    """`61.3 (58.2–64.1)` of a percentage (or its text) of n pictures, Wilson."""
    accuracy, n = float(accuracy), int(n)
    return number(accuracy, *wilson(accuracy / 100 * n, n))


def same_prompts(folder="results"):
    """Prompts of the text attack beside those of a slow, plain loop: source, dataset, prompts, identical, differing."""
    frame = _read(Path(folder) / "strength", "identical")
    return frame.astype(dict.fromkeys(("prompts", "identical", "differing"), int)) if len(frame) else frame


def prompts_table(folder="results"):
    """`same_prompts` to print."""
    frame = same_prompts(folder)
    for column, label in (("source", source_label), ("dataset", dataset_label)):
        if column in frame:
            frame[column] = frame[column].map(label)
    return frame.rename(columns={"source": "candidate source", "dataset": "data set"})


def clean_table(folder="results"):
    """Clean predictions beside an independent evaluation's, to print."""
    rows = []
    for row in _read(Path(folder) / "strength", "agree").to_dict("records"):
        made = {"data set": dataset_label(row["dataset"]), "n": row["n"], "same prediction": row["agree"]}
        made |= {"ours": with_interval(row["ours"], row["n"]), "theirs": with_interval(row["theirs"], row["n"])}
        rows.append(made | {"their code": f"{row['implementation']} {row['version']}"})
    return pd.DataFrame(rows)


def speed(folder="results"):
    """Timings of benchmarks/speed.py: what, setting, ours, baseline, ratio, unit, target, versions, hardware."""
    return _read(Path(folder) / "speed", "ratio")


def speed_table(folder="results"):
    """`speed` to print; versions and hardware go into the caption."""
    frame = speed(folder)
    if frame.empty:
        return frame
    table = frame[["what", "setting", "ours", "baseline", "unit", "ratio", "target"]].copy()
    for column in ("ours", "baseline", "ratio"):
        table[column] = [short(float(value)) if is_number(value) else value or "–" for value in table[column]]
    table["ratio"] = [text if text == "–" else f"{text}×" for text in table.ratio]
    table["target"] = [target_text(text) for text in table.target]
    return table


def short(value):
    """Three digits, or as many as a large number has: 0.0123, 4.56, 12,300."""
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"


def target_text(text):
    """`10x` -> `at least 10×`; other words (`at most 1.1x`) stay."""
    text = str(text).replace("x", "×")
    return f"at least {text}" if is_number(text.removesuffix("×")) else text or "–"


def target_met(ratio, target):
    """Whether a ratio meets its target (`10x`, `at most 1.1x`); None where there is no number to compare."""
    bound = target.removeprefix("at most ").removesuffix("x")
    if not is_number(ratio) or not is_number(bound):
        return None
    return float(ratio) <= float(bound) if target.startswith("at most") else float(ratio) >= float(bound)


def is_number(value):
    try:
        return np.isfinite(float(value))
    except (TypeError, ValueError):
        return False


def _read(folder, column):
    """The CSV files of a folder that have a column, in the order of their names, as one frame of texts.

    A file `*-quick.csv` is a trial run's and is left out. Raises `UserError` for a damaged one.
    """
    frames = []
    for path in sorted(Path(folder).glob("*.csv")):
        try:
            frame = pd.read_csv(path, dtype=str, keep_default_na=False)
        except (OSError, ValueError) as error:
            raise UserError(f"damaged table {path}: {error}; make it again") from error
        if column in frame and not path.stem.endswith("-quick"):
            frames.append(frame)
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()
