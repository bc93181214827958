"""Which samples, in which order: seeded, balanced over classes, so that every prefix is a fair sample."""

import hashlib

import numpy as np
import torch

TEST_SHARE = 0.2  # of data sets without an official split


def balanced_order(labels, seed=0):
    """A seeded order of the samples, int64 [N]: round r holds one sample of each class that still has one, classes shuffled."""
    rng = np.random.default_rng(seed)
    labels = labels.numpy()
    shuffled = rng.permutation(len(labels))
    rounds = np.empty(len(labels), np.int64)
    seen = {}
    for place in shuffled:
        rounds[place] = seen[labels[place]] = seen.get(labels[place], -1) + 1
    return torch.from_numpy(shuffled[np.argsort(rounds[shuffled], kind="stable")])


def few_shot(labels, order, shots):
    """The first `shots` samples of each class in `order`."""
    taken, chosen = {}, []
    for place in order.tolist():
        label = int(labels[place])
        if taken.get(label, 0) < shots:
            taken[label] = taken.get(label, 0) + 1
            chosen.append(place)
    return order.new_tensor(chosen)


def is_test(key):
    """Whether a picture belongs to the test split of a data set that has none: its path alone decides.

    So the split is the same on every machine and in every order, and a picture that is missing or added moves no other one.
    """
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:4], "big") < TEST_SHARE * 2**32


def split_by_path(keys, split):
    """Places of the samples of `split` (`train` or `test`), int64."""
    return torch.tensor([i for i, key in enumerate(keys) if is_test(key) == (split == "test")], dtype=torch.int64)
