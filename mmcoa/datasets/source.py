"""What a reader gives: labels, and a way to decode each picture. Readers have `read(record, split, root) -> Source`."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch


@dataclass(frozen=True)
class Source:
    """All samples of one split, in the reader's order.

    labels: int64 [N]; keys: N names that do not change with the machine (path under the data set's folder, or the shard's key).
    classes: what the layout calls its classes, in label order; None where it does not say.
    decode: i -> PIL picture of sample i, raising what the decoder raises; None where `pixels` uint8 [N, 3, H, W] is given.
    encoded: i -> bytes of sample i's file, where the reader reads files whole.
    copy: whether it is another's packaging of the data, which may spell classes in its own way.
    files: what the pictures are read from: the cache of decoded pictures is keyed by them.
    folder: where a user finds the samples.
    """

    labels: torch.Tensor
    keys: list
    folder: Path
    classes: list | None = None
    decode: Callable | None = None
    pixels: torch.Tensor | None = None
    encoded: Callable | None = None
    copy: bool = False
    files: list = field(default_factory=list)

    def __len__(self):
        return len(self.labels)

    def part(self, index):
        """Some of the samples, int64 [K]."""
        places, decode, encoded = index.tolist(), self.decode, self.encoded
        return replace(
            self,
            labels=self.labels[index],
            keys=[self.keys[i] for i in places],
            decode=None if decode is None else lambda i: decode(places[i]),
            encoded=None if encoded is None else lambda i: encoded(places[i]),
            pixels=None if self.pixels is None else self.pixels[index],
        )
