"""Captioned pictures of several data sets, for pre-training a small CLIP on all of them at once."""

import numpy as np
import torch
import torch.nn.functional as F

from mmcoa.attacks.words import split_words, substitute
from mmcoa.datasets import find, load_dataset
from mmcoa.datasets.batches import Batch
from mmcoa.errors import UserError
from mmcoa.prompts import clean_name
from mmcoa.store.files import digest

TEMPLATES = (
    "This is a photo of a {}",
    "a photo of a {}.",
    "This is a picture of a {}",
    "a picture of a {}.",
    "an image of a {}.",
    "{}",
)
OWN_TEMPLATE = 0.5  # probability of a data set's own template
SUBSTITUTED = 0.5  # probability that a word of the name is replaced, and
TEMPLATE_SUBSTITUTED = 0.35  # that one of the template is
SMALLEST_CROP = 0.5  # of a picture's area
DIGITS = ("photos/mnist", "photos/signdigits")  # their mirror images mean something else


class CaptionedPictures:
    """`source(step)` -> `Batch`: random crops and mirror images of the train splits, each epoch a new permutation of all.

    Classes are names: two data sets that both have a `dog` share it, and each picture of a dog matches the caption that the
    step draws for it. The template is one of `TEMPLATES` or that of a data set which has the class; in half of the captions
    one word of the name is replaced by a candidate of `table`, as a web-scale CLIP has met such words, never so that it names
    another class.
    """

    def __init__(self, names, batch_size, seed, table, pixels=64):
        self.batch_size, self.seed, self.table, self.pixels = batch_size, seed, table, pixels
        self.sets = [load_dataset(name, "train", stream=False) for name in names]
        self.mirrored = torch.tensor([name not in DIGITS for name in names])
        own = [[self._cleaned(find(one.name), name) for name in one.class_names] for one in self.sets]
        self.classes = sorted({name for classes in own for name in classes})
        self.reserved = {name.lower() for name in self.classes}
        number = {name: i for i, name in enumerate(self.classes)}
        self.templates = [[] for _ in self.classes]
        for one, classes in zip(self.sets, own, strict=True):
            for name in classes:
                self.templates[number[name]].append(find(one.name).prompt.template)
        self.origin = torch.cat([torch.full((len(one),), i) for i, one in enumerate(self.sets)])
        self.place = torch.cat([torch.arange(len(one)) for one in self.sets])
        self.labels = torch.cat(
            [
                torch.tensor([number[classes[c]] for c in one.labels.tolist()])
                for one, classes in zip(self.sets, own, strict=True)
            ]
        )
        if len(self) < batch_size:
            raise UserError(f"{len(self)} pictures to pre-train on, fewer than a batch of {batch_size}; choose a smaller batch")

    @staticmethod
    def _cleaned(record, name):
        return clean_name(name, lower=record.prompt.lower, keep=record.prompt.keep, rewrite=record.prompt.rewrite)

    def __len__(self):
        return len(self.labels)

    def identity(self):
        """What a run on these batches must find again when it goes on."""
        content = digest([[one.fingerprint() for one in self.sets], self.classes, self.templates, self.table])[:16]
        of = {"name": " ".join(one.name for one in self.sets), "samples": len(self), "content": content}
        return of | {"batch_size": self.batch_size, "seed": self.seed, "pixels": self.pixels}

    def __call__(self, step):
        rng = np.random.default_rng([self.seed, step])
        index = self._index(step)
        images = torch.empty(len(index), 3, self.pixels, self.pixels)
        for number in self.origin[index].unique().tolist():
            rows = (self.origin[index] == number).nonzero().flatten()
            pixels = self.sets[number].images[self.place[index[rows]]].float() / 255
            images[rows] = crop(pixels, rng, self.pixels, bool(self.mirrored[number]))
        captions = [self.caption(rng, label) for label in range(len(self.classes))]
        return Batch(images, self.labels[index], captions, step, self.seed)

    def _index(self, step):
        n, places = len(self), np.arange(step * self.batch_size, (step + 1) * self.batch_size)
        epochs = {epoch: np.random.default_rng([self.seed, 1, epoch]).permutation(n) for epoch in np.unique(places // n)}
        return torch.from_numpy(np.array([epochs[place // n][place % n] for place in places]))

    def caption(self, rng, label):
        """One caption of a class."""
        name, templates = self.classes[label], TEMPLATES
        if rng.random() < SUBSTITUTED:
            changed = self._replaced(rng, name)
            name = name if changed.lower() in self.reserved else changed
        if rng.random() < OWN_TEMPLATE:
            templates = self.templates[label]
        template = templates[rng.integers(len(templates))]
        if rng.random() < TEMPLATE_SUBSTITUTED:
            template = self._replaced(rng, template)
        return template.replace("{}", name)

    def _replaced(self, rng, text):
        """The text with one of its words replaced by a candidate, where it has one with candidates."""
        places = [
            (i, self.table[word.core.lower()]) for i, word in enumerate(split_words(text)) if word.core.lower() in self.table
        ]
        if not places:
            return text
        position, candidates = places[rng.integers(len(places))]
        return substitute(text, position, candidates[rng.integers(len(candidates))])


def crop(images, rng, pixels, mirrored):
    """Random square crops of [B, 3, H, W], at least `SMALLEST_CROP` of the area, some mirrored -> [B, 3, pixels, pixels]."""
    side = torch.from_numpy(np.sqrt(rng.uniform(SMALLEST_CROP, 1, len(images))).astype(np.float32))
    shift = torch.from_numpy(rng.uniform(-1, 1, (len(images), 2)).astype(np.float32)) * (1 - side)[:, None]
    sign = (
        torch.from_numpy(np.where(rng.random(len(images)) < 0.5, -1, 1).astype(np.float32))
        if mirrored
        else torch.ones(len(images))
    )
    theta = torch.zeros(len(images), 2, 3)
    theta[:, 0, 0], theta[:, 1, 1], theta[:, :, 2] = sign * side, side, shift
    grid = F.affine_grid(theta, [len(images), 3, pixels, pixels], align_corners=False)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=False).clamp(0, 1)
