"""Pictures that two data sets, or two splits of one, share: overlaps.csv, made by `mmcoa data overlaps`. Imports no torch."""

import csv
import functools
from collections.abc import Iterable
from dataclasses import astuple, dataclass, fields
from importlib.resources import files
from pathlib import Path

from mmcoa.store.files import write_atomic


@dataclass(frozen=True)
class Overlap:
    """How many `pictures` of one split have a twin in another one, and how many (`other_pictures`) of that are such twins."""

    dataset: str
    split: str
    other: str
    other_split: str
    pictures: int
    other_pictures: int

    def __str__(self) -> str:
        there = f"{self.other} {self.other_split}"
        return f"{self.dataset} {self.split}: {self.pictures:,} pictures are in {there} ({self.other_pictures:,} there)"

    @property
    def crosses(self) -> bool:
        """Whether what one side trains on is judged on by the other."""
        return "test" in (self.split, self.other_split) and self.split != self.other_split

    def turned(self) -> "Overlap":
        """The same, seen from the other side."""
        return Overlap(self.other, self.other_split, self.dataset, self.split, self.other_pictures, self.pictures)


@functools.cache
def overlaps() -> tuple[Overlap, ...]:
    """All that were found, most pictures first."""
    lines = csv.DictReader((files("mmcoa.datasets") / "overlaps.csv").read_text(encoding="utf8").splitlines())
    whole = ("pictures", "other_pictures")
    return tuple(Overlap(**{key: int(value) if key in whole else value for key, value in line.items()}) for line in lines)


def overlaps_of(dataset: str, split: str = "test") -> list[Overlap]:
    """What a split that is judged on shares with train splits. Sets that are made of another one have no entry."""
    sides = [side for one in overlaps() if one.crosses for side in (one, one.turned())]
    return [one for one in sides if (one.dataset, one.split, one.other_split) == (dataset, split, "train")]


def write(found: Iterable[Overlap], path: str | Path) -> Path:
    """Write what `near_duplicates.find_overlaps` found as CSV."""
    lines = [[field.name for field in fields(Overlap)], *(astuple(one) for one in found)]

    def save(temporary: Path) -> None:
        with temporary.open("w", encoding="utf8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(lines)

    return write_atomic(Path(path), save)
