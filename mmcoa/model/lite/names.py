"""Names of what ImageNet's classifier knows: its 1,000 classes, their WordNet synonyms, and the hypernyms above them.

The table `imagenet_names.json.gz` is made from WordNet by mmcoa/assets/build_names.py. A hypernym ("bird", "musical
instrument") stands for all classes below it.
"""

import gzip
import json
from dataclasses import dataclass
from importlib.resources import files

import open_clip

CLASSES = 1000
TEMPLATES = ("This is a photo of a {}", "a photo of a {}.", "a picture of a {}.", "{}")


@dataclass(frozen=True)
class Name:
    """One name of a node: its text, the classes it stands for, and its share of the node's weight."""

    text: str
    classes: tuple
    weight: float


def read_tree():
    """(names of each node, classes below each node): the classes themselves first, then their hypernyms."""
    table = json.loads(gzip.decompress((files("mmcoa.assets") / "imagenet_names.json.gz").read_bytes()))
    names = table["names"]
    below = [[] for _ in names]
    for label in range(CLASSES):
        names[label] = list(dict.fromkeys([open_clip.IMAGENET_CLASSNAMES[label], *names[label]]))
        node = label
        while node >= 0:
            below[node].append(label)
            node = table["parents"][node]
    return names, below


def all_names(largest, hypernyms):
    """List of `Name`: each class weighs 1, each hypernym of at most `largest` classes `hypernyms`, shared among its names."""
    names, below = read_tree()
    return [
        Name(text, tuple(classes), (1.0 if node < CLASSES else hypernyms) / len(texts))
        for node, (texts, classes) in enumerate(zip(names, below, strict=True))
        if len(classes) <= largest
        for text in texts
    ]
