"""What a training run writes down: a tidy CSV beside the checkpoint, and a watch over the loss."""

import csv
import math
from statistics import fmean

from mmcoa.store.files import write_atomic

WINDOW = 10  # losses that are averaged
GROWTH = 10.0  # times the first losses, and above 10: out of bounds


class Log:
    """Tidy CSV, a row each logged step; rows at or after `start` (of a run that was killed) are dropped."""

    def __init__(self, path, start):
        path.parent.mkdir(parents=True, exist_ok=True)
        kept = []
        if start and path.is_file():
            with path.open(newline="") as file:
                kept = [row for row in csv.DictReader(file) if int(row["step"]) < start]
        self.path, self.fields = path, list(kept[0]) if kept else None
        write_atomic(path, lambda temporary: self._start(temporary, kept))

    def _start(self, path, kept):
        with path.open("w", newline="") as file:
            if kept:
                writer = csv.DictWriter(file, self.fields)
                writer.writeheader()
                writer.writerows(kept)

    def write(self, row):
        with self.path.open("a", newline="") as file:
            writer = csv.DictWriter(file, list(row))
            if self.fields is None:
                self.fields = list(row)
                writer.writeheader()
            writer.writerow(row)


class LossWatch:
    """Says when a loss is not finite or has grown out of bounds. `losses`: {"first": [...], "last": [...]}, fits into JSON."""

    def __init__(self, losses=None):
        self.losses = losses or {"first": [], "last": []}

    def add(self, loss):
        """Take note of the loss of one step; a reason to stop, or None."""
        if not math.isfinite(loss):
            return "it is not finite"
        if len(self.losses["first"]) < WINDOW:
            self.losses["first"].append(loss)
        self.losses["last"] = [*self.losses["last"], loss][-WINDOW:]
        start, now = fmean(self.losses["first"]), fmean(self.losses["last"])
        if now > GROWTH and now > GROWTH * start:
            return f"the mean of the last {WINDOW} is over {GROWTH:g} times that of the first"
        return None
