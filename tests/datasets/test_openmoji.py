import numpy as np
import pytest
import torch

import mmcoa
from mmcoa.datasets import openmoji_names, records
from mmcoa.datasets.openmoji import HELD_OUT, glyph_indices, glyph_records, group_views
from mmcoa.datasets.order import balanced_order, few_shot
from mmcoa.errors import UserError


def test_every_group_is_a_data_set_and_the_held_out_one_stands_apart():
    names = openmoji_names()
    assert names and "openmoji/others" not in names and f"openmoji/{HELD_OUT}" not in names
    groups = {record["group"] for record in glyph_records()}
    assert {name.removeprefix("openmoji/") for name in names} | {HELD_OUT} <= groups
    for name in [*names, f"openmoji/{HELD_OUT}"]:
        count = len(glyph_indices(name.removeprefix("openmoji/")))
        assert 20 <= count <= 120 and count == records()[name].classes, name


def test_names_are_unique_and_ours_are_unicodes():
    names = [record["name"] for record in glyph_records()]
    assert len(set(names)) == len(names) > 1000
    assert {"parrot", "flamingo", "owl"} <= {glyph_records()[i]["name"] for i in glyph_indices("birds")}


def test_same_seed_same_pixels_other_split_other_views():
    first, second = (mmcoa.load_dataset("openmoji/tools", samples=30) for _ in range(2))
    assert torch.equal(first.images, second.images) and first.fingerprint() == second.fingerprint()
    by_split = {split: group_views("tools", split)[0][:25] for split in ("train", "test", "unseen-style")}
    assert not torch.equal(by_split["train"], by_split["test"])
    assert not torch.equal(by_split["test"], by_split["unseen-style"])


def test_pixels_do_not_drift():
    """Mean colour of a few views: loose enough for other processors, tight enough to notice another renderer."""
    images, labels, names = group_views("birds", "test")
    assert images.shape == (210, 3, 64, 64) and images.dtype == torch.uint8
    parrot = images[names.index("parrot")].float().mean(dim=(1, 2)).numpy()
    np.testing.assert_allclose(parrot, (172.2, 139.4, 81.6), atol=0.5)


def test_any_prefix_is_balanced():
    dataset = mmcoa.load_dataset("openmoji/birds")
    for n in (21, 42, 50, 210):
        counts = torch.bincount(dataset.labels[:n], minlength=21)
        assert counts.max() - counts.min() <= 1
    few = mmcoa.load_dataset("openmoji/birds", samples=10)
    assert torch.equal(few.images, dataset.images[:10]) and torch.equal(few.ids, dataset.ids[:10])
    assert len(set(few.labels.tolist())) == 10 and few.labels.tolist() != sorted(few.labels.tolist())


def test_seeds_choose_other_samples():
    orders = [balanced_order(torch.arange(40) % 4, seed).tolist() for seed in (0, 1)]
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(40)) and orders[0] != orders[1]


@pytest.mark.parametrize("shots", [1, 3])
def test_few_shots_are_balanced(shots):
    dataset = mmcoa.load_dataset("openmoji/birds", split="train", shots=shots)
    assert torch.bincount(dataset.labels).tolist() == [shots] * 21
    uneven = torch.tensor([0, 0, 0, 1])
    assert len(few_shot(uneven, torch.arange(4), 2)) == 3


def test_prompts():
    dataset = mmcoa.load_dataset("openmoji/birds", samples=1)
    assert dataset.prompts[dataset.class_names.index("parrot")] == "This is a photo of a parrot"
    assert mmcoa.load_dataset("openmoji/birds", samples=1, template="a {}.").prompts[0] == f"a {dataset.class_names[0]}."


def test_bad_input():
    for values, message in (
        ({"name": "openmoji/bird"}, "nearest: openmoji/birds"),
        ({"name": "openmoji/birds", "split": "tests"}, "nearest: test"),
        ({"name": "openmoji/birds", "samples": 0}, "samples"),
        ({"name": "openmoji/birds", "template": "no place"}, "no {}"),
    ):
        with pytest.raises(UserError, match=message):
            mmcoa.load_dataset(**values)
