"""Training batches as functions of the step: `source(step) -> Batch`.

A batch depends on (seed, step) alone. A run that was killed continues at any step with the same batches, and needs no
loader state, no worker processes and no random state on disk.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import torch

from mmcoa.attacks.words import split_words, substitute
from mmcoa.datasets import openmoji
from mmcoa.errors import UserError
from mmcoa.store.files import digest


@dataclass(frozen=True)
class Batch:
    """Images float [B, 3, H, W] in [0,1]; labels int64 [B] into `prompts`, the distinct prompts of all classes.

    ids: int64 [B], a number for each sample that no other step repeats; default: from the step.
    joined: labels of the whole batch of which this is one process's share; default: its own.
    """

    images: torch.Tensor
    labels: torch.Tensor
    prompts: list
    step: int
    seed: int
    ids: torch.Tensor | None = None
    joined: torch.Tensor | None = None

    def __len__(self):
        return len(self.labels)

    def to(self, device):
        moved = {
            name: getattr(self, name).to(device) for name in ("images", "labels", "joined") if getattr(self, name) is not None
        }
        return replace(self, **moved)

    def threat(self, threat):
        """The inner attack's threat model with random starts that differ from run to run."""
        return threat.changed(seed=self.seed)

    def sample_ids(self):
        """A number for each sample that no other step repeats: names the random starts of the inner attack."""
        return torch.arange(self.step * len(self), (self.step + 1) * len(self)) if self.ids is None else self.ids

    def present(self):
        """(prompts that occur in the whole batch, its labels into them): no need to encode the others."""
        classes, labels = (self.labels if self.joined is None else self.joined).unique(return_inverse=True)
        return [self.prompts[c] for c in classes.tolist()], labels

    def parts(self, count):
        """The batch in `count` batches of equal size, for gradient accumulation: each is contrasted within itself."""
        return [self._slice(rows) for rows in self._rows(count, "parts")]

    def share(self, process, processes):
        """What one of several processes works on; it still knows the labels of all."""
        return replace(self._slice(self._rows(processes, "processes")[process]), joined=self.labels)

    def _rows(self, count, what):
        if len(self) % count:
            raise UserError(
                f"a batch of {len(self)} does not divide into {count} {what} of equal size; choose another batch size"
            )
        return torch.arange(len(self)).view(count, -1)

    def _slice(self, rows):
        return replace(self, images=self.images[rows], labels=self.labels[rows], ids=self.sample_ids()[rows])


class ShuffledDataset:
    """Batches of a data set: each epoch is a new permutation, the last incomplete batch is filled from the next.

    Of an ensemble of templates each step takes the next one.

    device: where the pictures are kept if they are in memory: a small data set is copied to a GPU once, not batch by batch.
    Raises `UserError` where there is nothing to contrast: fewer than two samples or one class.
    """

    def __init__(self, dataset, batch_size, seed, device="cpu"):
        if batch_size < 2 or len(dataset) < 2:
            raise UserError(
                f"a batch needs at least two samples; batch size {batch_size}, '{dataset.name}' has {len(dataset)} samples"
            )
        if len(dataset.labels.unique()) < 2:
            raise UserError(f"the samples of '{dataset.name}' are all of one class: there is nothing to tell apart")
        self.dataset, self.batch_size, self.seed = dataset, min(batch_size, len(dataset)), seed
        streamed = not isinstance(dataset.images, torch.Tensor)
        self.images = dataset.images if streamed else dataset.images.to(device)
        self.prompts = dataset.prompt_sets()
        self.reader, self.ahead = ThreadPoolExecutor(1) if streamed else None, {}

    def __call__(self, step):
        index = self._index(step)
        images = self._streamed(step) if self.reader else self.images[index.to(self.images.device)]
        prompts = self.prompts[step % len(self.prompts)]
        return Batch(images.float() / 255, self.dataset.labels[index], prompts, step, self.seed)

    def identity(self):
        """What a run on these batches must find again when it goes on; of streamed pictures the first 64 are looked at, and
        the files of all."""
        data, seen = self.dataset, self.dataset.prefix(64) if self.reader else self.dataset
        content = digest([data.ids.tolist(), data.labels.tolist(), list(data.prompts), seen.fingerprint()])[:16]
        of = {"name": data.name, "split": data.split, "samples": len(data), "content": content}
        return of | {"batch_size": self.batch_size, "seed": self.seed, **({"files": data.content()} if self.reader else {})}

    def _index(self, step):
        n, places = len(self.dataset), np.arange(step * self.batch_size, (step + 1) * self.batch_size)
        epochs = {epoch: np.random.default_rng([self.seed, epoch]).permutation(n) for epoch in np.unique(places // n)}
        return torch.from_numpy(np.array([epochs[place // n][place % n] for place in places]))

    def _streamed(self, step):
        """Pictures of a step; those of the next are decoded meanwhile."""
        ahead = self.ahead.pop(step, None) or self.reader.submit(self.images.__getitem__, self._index(step))
        self.ahead = {step + 1: self.reader.submit(self.images.__getitem__, self._index(step + 1))}
        return ahead.result()


class Ahead:
    """A source whose next batch is made in a thread while this one is trained on; the batches are the same."""

    def __init__(self, source):
        self.source, self.maker, self.next = source, ThreadPoolExecutor(1), {}

    def identity(self):
        """That of the source."""
        return self.source.identity()

    def __call__(self, step):
        batch = self.next.pop(step, None) or self.maker.submit(self.source, step)
        self.next = {step + 1: self.maker.submit(self.source, step + 1)}
        return batch.result()


CAPTIONS = (
    *("This is a photo of a {}", "a photo of a {}.", "a picture of a {}.", "This is a picture of a {}") * 2,
    *("This is a drawing of a {}", "an image of a {}.", "a cartoon of a {}.", "a sketch of a {}.", "a painting of a {}.", "{}"),
)
TEMPLATE_SUBSTITUTIONS = 0.35


class OpenMojiCaptions:
    """Endless captioned views of all glyphs but the held-out group, for pre-training.

    A batch holds distinct glyphs, `batch_size` / `run` runs of neighbours in Unicode's order: neighbours are of one kind,
    and so each other's hardest negatives. With probability `substitutions` one word of the name is replaced by a candidate
    of `table`, as a web-scale CLIP has met such words, never so that it names another class; with probability
    `TEMPLATE_SUBSTITUTIONS` one word of the template.
    """

    def __init__(self, batch_size, seed, table, substitutions=0.5, run=32):
        records = openmoji.glyph_records()
        self.glyphs = np.array([i for i, record in enumerate(records) if record["group"] != openmoji.HELD_OUT])
        self.names = {i: records[i]["name"] for i in self.glyphs}
        self.reserved = {name.lower() for name in self.names.values()}
        self.batch_size, self.seed, self.table, self.substitutions, self.run = batch_size, seed, table, substitutions, run

    def identity(self):
        """What a run on these batches must find again when it goes on."""
        of = {"name": "openmoji", "samples": len(self.glyphs), "content": digest([sorted(self.reserved), self.table])[:16]}
        return of | {"batch_size": self.batch_size, "seed": self.seed, "substitutions": self.substitutions, "run": self.run}

    def caption(self, rng, name):
        """One caption of a glyph."""
        if rng.random() < self.substitutions:
            places = [(i, self.table[w.core.lower()]) for i, w in enumerate(split_words(name)) if w.core.lower() in self.table]
            if places:
                position, candidates = places[rng.integers(len(places))]
                changed = substitute(name, position, candidates[rng.integers(len(candidates))])
                name = name if changed.lower() in self.reserved else changed
        caption = CAPTIONS[rng.integers(len(CAPTIONS))]
        words = caption.split()
        if rng.random() < TEMPLATE_SUBSTITUTIONS:
            places = [i for i, w in enumerate(split_words(caption)) if w.core.lower() in self.table]
            if places:
                position = places[rng.integers(len(places))]
                candidates = self.table[split_words(words[position])[0].core.lower()]
                caption = substitute(caption, position, candidates[rng.integers(len(candidates))])
        return caption.format(name)

    def __call__(self, step):
        rng = np.random.default_rng([self.seed, step])
        order = np.roll(self.glyphs, rng.integers(len(self.glyphs)))
        blocks = rng.permutation(len(order) // self.run)[: self.batch_size // self.run]
        glyphs = np.concatenate([order[b * self.run : (b + 1) * self.run] for b in blocks])
        images = openmoji.render(torch.from_numpy(glyphs), openmoji.draw_parameters(rng, len(glyphs))).float() / 255
        captions = [self.caption(rng, self.names[glyph]) for glyph in glyphs]
        return Batch(images, torch.arange(len(glyphs)), captions, step, self.seed)
