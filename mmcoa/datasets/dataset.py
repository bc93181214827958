"""One split of a data set, as attacks, training and evaluation see it."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Self

import torch


@dataclass(frozen=True)
class Dataset:
    """One split of a data set. The order is seeded and balanced over classes, so that every prefix is a fair sample."""

    name: str
    split: str
    images: "torch.Tensor | Streamed"  #: uint8 [N, 3, H, W]
    labels: torch.Tensor  #: int64 [N], of 0 to C - 1
    class_names: list[str]
    prompts: list[str]  #: one a class
    ids: torch.Tensor  #: int64 [N], a sample's number in the whole split, whatever part of it was loaded
    ensemble: tuple[
        tuple[str, ...], ...
    ] = ()  #: lists of C prompts whose mean embedding stands for the class; empty where `prompts` do
    prompt_preset: str = "reference"  #: how prompts came about, see `load_dataset`
    transform: str = ""  #: how pictures came to their size
    skipped: int = 0  #: pictures left out because they cannot be read

    def __len__(self) -> int:
        return len(self.labels)

    def prefix(self, samples: int) -> Self:
        """The first `samples` samples (all, where there are fewer)."""
        return self.take(slice(samples))

    def take(self, index: Any) -> Self:
        """Some samples, a slice or int64 [K]; their ids stay."""
        images = self.images.take(index) if isinstance(self.images, Streamed) else self.images[index]
        return replace(self, images=images, labels=self.labels[index], ids=self.ids[index])

    def prompt_sets(self) -> list[list[str]]:
        """The lists of C prompts whose mean embedding stands for the class: one, or those of the ensemble."""
        return [list(prompts) for prompts in self.ensemble] or [self.prompts]

    def content(self) -> str:
        """Hex digits that identify the pictures: by the files of streamed ones, where they are known, and by pixels else."""
        if isinstance(self.images, Streamed) and self.images.key is not None:
            return self.images.key[:16]
        return self.fingerprint()

    def fingerprint(self) -> str:
        """First 16 hex digits of a hash over pixels, labels and prompts."""
        digest = hashlib.sha256("\n".join(prompt for prompts in self.prompt_sets() for prompt in prompts).encode())
        for start in range(0, len(self), 256):  # pictures that are streamed pass in pieces
            digest.update(self.images[start : start + 256].numpy().tobytes())
        digest.update(self.labels.numpy().tobytes())
        return digest.hexdigest()[:16]


class Streamed:
    """Pictures that are read and decoded each time they are asked for: a slice or int64 indices -> uint8 [n, 3, H, W].

    `read(order)` gives the pictures of the split's samples `order`. Memory does not grow with the number of samples.
    `key`: identifies all of the split's pictures without reading them; None: nobody knows it.
    """

    def __init__(self, read: Callable[[torch.Tensor], torch.Tensor], order: torch.Tensor, key: str | None = None) -> None:
        self.read, self.order, self.key = read, order, key

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, index: Any) -> torch.Tensor:
        return self.read(self.order[index])

    def take(self, index: Any) -> "Streamed":
        """Some of them, still streamed."""
        return Streamed(self.read, self.order[index], self.key)
