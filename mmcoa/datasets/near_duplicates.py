"""Equal and near-equal pictures of different data sets, or of different splits of one: what must not be in train and test.

A picture is looked at twice, squashed to a square and cut to one, since two packagings of the same photograph may do either.
Small grey copies whose correlation is high are candidates, mirror images too; larger copies in colour decide, once as they are
and once without what a blur keeps, so that two skies are no twins. Neighbours in a series (one face, twice) may count as twins.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from mmcoa.datasets.overlaps import Overlap
from mmcoa.datasets.reading import load_source
from mmcoa.datasets.records import Record
from mmcoa.datasets.source import Source
from mmcoa.datasets.transforms import to_rgb

SMALL, LARGE = 8, 32  # sides of the copies in pixels
CANDIDATE = 0.95  # least correlation of the small copies
SAME, SAME_DETAIL = 0.95, 0.85  # least correlations of the large ones, and of their detail
BLOCK = 4096  # pictures a side of a product


@dataclass(frozen=True)
class Copies:
    """Copies of N pictures. small: float32 [N, V, SMALL**2], centred and of unit length; large: uint8 [N, V, LARGE, LARGE, 3];
    V = 2 ways to make a picture square."""

    small: np.ndarray
    large: np.ndarray


def find_overlaps(
    records: Iterable[Record], root: str | Path | None = None, progress: Callable[[str], None] = lambda line: None
) -> list[Overlap]:
    """What the splits of data sets share, all of them compared with each other, most pictures first.

    records: of data sets whose pictures are files; root: their folder; progress: told each line.
    """
    made, found = {}, []
    for record in records:
        for split in record.splits:
            made[record.name, split] = copies(load_source(record, split, root)[0])
            progress(f"{record.name} {split}: {len(made[record.name, split].small):,} pictures")
    for first, second in itertools.combinations(made, 2):
        if twins := pairs(made[first], made[second]):
            ours, theirs = ({pair[side] for pair in twins} for side in (0, 1))
            found.append(Overlap(*first, *second, len(ours), len(theirs)))
            progress(str(found[-1]))
    return sorted(found, key=lambda one: -one.pictures)


def copies(source: Source) -> Copies:
    """`Copies` of the pictures of a `Source`."""
    large = np.empty((len(source), 2, LARGE, LARGE, 3), np.uint8)
    small = np.empty((len(source), 2, SMALL**2), np.float32)
    for i in range(len(source)):
        picture = to_rgb(source.decode(i)) if source.decode else Image.fromarray(source.pixels[i].permute(1, 2, 0).numpy())
        for v, square in enumerate((picture, cut(picture))):
            large[i, v] = square.resize((LARGE, LARGE), Image.Resampling.BOX)
            small[i, v] = square.convert("L").resize((SMALL, SMALL), Image.Resampling.BOX).getdata()
    return Copies(standardised(small), large)


def cut(picture: Image.Image) -> Image.Image:
    """The square in the middle of a picture."""
    side = min(picture.size)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    return picture.crop((left, top, left + side, top + side))


def standardised(values: np.ndarray) -> np.ndarray:
    """Vectors [..., D] less their mean, at unit length; a constant one becomes 0, which correlates with nothing."""
    values = values - values.mean(-1, keepdims=True, dtype=np.float32)
    return (values / np.maximum(np.linalg.norm(values, axis=-1, keepdims=True), 1e-3)).astype(np.float32)


def pairs(first: Copies, second: Copies) -> list[tuple[int, int, float, float]]:
    """[(i, j, correlation, correlation of detail), ...] of twins in two `Copies`, each pair once, by i and j."""
    found = {}
    mirrored = second.small.reshape(*second.small.shape[:2], SMALL, SMALL)[..., ::-1].reshape(second.small.shape)
    for flip, small in ((False, second.small), (True, mirrored)):
        for v in range(2):
            for w in range(2):
                for i, j in near(first.small[:, v], small[:, w]):
                    one = verified(first.large[i, v], second.large[j, w], flip)
                    if one[0] >= SAME and one[1] >= SAME_DETAIL:
                        found[i, j] = max(found.get((i, j), (0, 0)), one)
    return [(i, j, *found[i, j]) for i, j in sorted(found)]


def near(first: np.ndarray, second: np.ndarray) -> Iterator[tuple[int, int]]:
    """(i, j) of rows of two matrices of unit vectors whose product reaches `CANDIDATE`."""
    for a in range(0, len(first), BLOCK):
        for b in range(0, len(second), BLOCK):
            rows, columns = np.nonzero(first[a : a + BLOCK] @ second[b : b + BLOCK].T >= CANDIDATE)
            yield from zip((rows + a).tolist(), (columns + b).tolist(), strict=True)


def verified(first: np.ndarray, second: np.ndarray, flip: bool) -> tuple[float, float]:
    """(correlation, correlation of detail) of two uint8 [LARGE, LARGE, 3]; flip: the second one is mirrored first."""
    first, second = (one.astype(np.float32) for one in (first, second[:, ::-1] if flip else second))
    return correlation(first, second), correlation(detail(first), detail(second))


def correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Pearson's, of two arrays; 0 where one is constant."""
    return float(standardised(first.reshape(-1)) @ standardised(second.reshape(-1)))


def detail(picture: np.ndarray) -> np.ndarray:
    """A picture [LARGE, LARGE, 3] less its copy at `SMALL` pixels a side."""
    scale = LARGE // SMALL
    coarse = picture.reshape(SMALL, scale, SMALL, scale, 3).mean((1, 3))
    return picture - coarse.repeat(scale, 0).repeat(scale, 1)
