"""Result rows of a study, chosen and cut to size: what `mmcoa results` prints."""

from pathlib import Path

import pandas as pd

from mmcoa.errors import UserError, unknown
from mmcoa.study.pack import pack
from mmcoa.study.profiles import load_profile

COLUMNS = ("model", "dataset", "attack", "sweep", "sweep_value", "accuracy", "ci_low", "ci_high", "correct", "n")


def rows(profile, where=(), results=Path("results"), runs=Path("runs")):
    """Rows (DataFrame) of a profile's finished cells that fulfil each condition `COLUMN=VALUE`; values compare as text.

    Several conditions on one column are alternatives. Raises `UserError` for a malformed condition or an unknown column.
    """
    folder = Path(results) / load_profile(profile).name
    if (Path(runs) / folder.name / "cells").is_dir():
        pack(profile, results, runs)
    path = folder / "rows.csv"
    if not path.is_file():
        raise UserError(f"no results of '{profile}' in {folder}; start with: mmcoa run {profile}")
    frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    wanted = {}
    for condition in where:
        column, equals, value = condition.partition("=")
        if not equals:
            raise UserError(f"--where '{condition}' is not COLUMN=VALUE, such as attack=image")
        if column not in frame.columns:
            raise unknown("column", column, list(frame.columns))
        wanted.setdefault(column, []).append(value)
    for column, values in wanted.items():
        frame = frame[frame[column].isin(values)]
    return frame


def shown(frame, columns=COLUMNS):
    """(columns, rows of text and numbers) for a table: columns that are empty throughout are left out."""
    names = [name for name in columns if name in frame.columns and (frame[name] != "").any()]
    numbers = {"accuracy", "ci_low", "ci_high"}
    return names, [[float(row[name]) if name in numbers else row[name] for name in names] for _, row in frame.iterrows()]
