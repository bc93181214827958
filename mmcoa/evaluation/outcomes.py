"""Per-sample outcomes of an evaluation: collected batch by batch, kept on disk so that a killed evaluation goes on.

Columns: sample_id, label, and for each attack `<attack>_prediction` (int32), `<attack>_margin` (float32, logits: largest
wrong minus right) and `<attack>_correct`; a worst case over several attacks has `<attack>_broken_by`, the first that broke it.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd

from mmcoa.errors import UserError
from mmcoa.evaluation.statistics import mcnemar
from mmcoa.store.files import write_atomic, write_json
from mmcoa.threat import format_epsilon


class Journal:
    """Finished parts of an evaluation in `folder` (None: kept in memory alone), each written under another name, then renamed.

    `identity`: JSON value that says what is evaluated; parts of another one are thrown away. A part covers samples
    start to stop in the data set's order, so the batch size may change between two sittings.
    """

    def __init__(self, folder, identity):
        self.folder, self.parts, self.seconds = Path(folder) if folder else None, [], {}
        self.identity = json.loads(json.dumps(identity))
        if self.folder is None:
            return
        path = self.folder / "identity.json"
        if not path.is_file() or _read_json(path) != self.identity:
            if self.folder.exists() and any(not _ours(file) for file in self.folder.iterdir()):
                raise UserError(f"{self.folder} holds other files than parts of an evaluation; choose another folder")
            self.restart()
        self._restore()

    def restart(self):
        """Forget what is finished."""
        self.parts, self.seconds = [], {}
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder.mkdir(parents=True)
            write_json(self.folder / "identity.json", self.identity)

    def _restore(self):
        """Parts that follow each other from the first sample on; a damaged one and what comes after it are done again."""
        for path in sorted(self.folder.glob("[0-9]*-[0-9]*.npz")):
            start, stop = (int(number) for number in path.stem.split("-"))
            if start != self.done:
                break
            try:
                with np.load(path, allow_pickle=False) as file:
                    columns = {key: file[key] for key in file.files}
                seconds = json.loads(str(columns.pop("_seconds")))
                frame = pd.DataFrame(columns)
            except (OSError, ValueError, KeyError, EOFError):
                break
            if len(frame) != stop - start:
                break
            self._add(frame, seconds)

    def _add(self, frame, seconds):
        self.parts.append(frame)
        for name, value in seconds.items():
            self.seconds[name] = self.seconds.get(name, 0.0) + value

    @property
    def done(self):
        """Number of samples that are finished."""
        return sum(len(part) for part in self.parts)

    def add(self, frame, seconds):
        """Keep the outcomes of the next samples, and {attack: seconds} that they took."""
        start = self.done
        self._add(frame, seconds)
        if self.folder is None:
            return
        columns = {key: _plain(frame[key]) for key in frame} | {"_seconds": np.array(json.dumps(seconds))}

        def write(path):
            with path.open("wb") as file:
                np.savez(file, **columns)

        write_atomic(self.folder / f"{start:09d}-{self.done:09d}.npz", write)

    def outcomes(self):
        """All samples."""
        return pd.concat(self.parts, ignore_index=True)

    def discard(self):
        """Remove the parts from disk: the evaluation is finished."""
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)


def read_outcomes(path):
    """Per-sample outcomes from a parquet file; `UserError` where it is none."""
    try:
        outcomes = pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise UserError(
            f"no readable outcomes in {path} ({str(error).splitlines()[0][:80]}); `mmcoa evaluate --output` writes them"
        ) from error
    if not {"sample_id", "label"} <= set(outcomes.columns):
        raise UserError(f"{path} holds no per-sample outcomes: columns sample_id and label are missing")
    return outcomes


def paired(first, second):
    """McNemar's test of two models on the same samples, one dict an attack and epsilon that both have; see `mcnemar`.

    Raises `UserError` where samples, labels or epsilons differ, or no attack is common to both.
    """
    keys = ["epsilon", "sample_id", "label"]
    one, two = (frame.set_index(keys).sort_index() for frame in (first, second))
    if not one.index.equals(two.index):
        raise UserError(
            "the two files are about different samples or epsilons: evaluate both with the same "
            "--dataset, --samples, --seed, --epsilon"
        )
    attacks = [c.removesuffix("_correct") for c in first.columns if c.endswith("_correct") and c in second.columns]
    if not attacks:
        raise UserError("the two files have no attack in common")
    rows = []
    for epsilon in one.index.unique("epsilon"):
        a, b = one.loc[epsilon], two.loc[epsilon]
        rows += [
            {"attack": name, "epsilon": format_epsilon(epsilon), **mcnemar(a[f"{name}_correct"], b[f"{name}_correct"])}
            for name in attacks
        ]
    return rows


def _plain(column):
    """Text as fixed-width unicode: numpy pickles objects, and nothing here is ever unpickled."""
    return column.to_numpy().astype(str) if column.dtype == object or str(column.dtype).startswith("str") else column.to_numpy()


def _ours(path):
    return (
        path.name == "identity.json" or path.suffix == ".npz" or path.name.startswith((".identity.json.", ".0"))
    )  # half written


def _read_json(path):
    try:
        return json.loads(path.read_text())
    except ValueError:
        return None
