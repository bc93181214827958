"""Pictures that data sets share: found where they are planted, and told where they matter."""

import numpy as np
import pytest
import torch
from PIL import Image

from mmcoa.datasets import overlaps as table
from mmcoa.datasets.near_duplicates import copies, correlation, find_overlaps, pairs, standardised
from mmcoa.datasets.overlaps import Overlap, overlaps, overlaps_of
from mmcoa.datasets.records import PromptRule, Record, records
from mmcoa.datasets.source import Source
from mmcoa.evaluation.loop import evaluate

from .test_webdataset import write_folder


def noise(seed, size=(48, 64)):
    """A picture with structure at every scale: sums of noise at several sizes."""
    draw = np.random.default_rng(seed)
    total = np.zeros((*size, 3))
    for side in (4, 8, 16):
        coarse = Image.fromarray(draw.integers(0, 255, (side, side, 3), np.uint8)).resize(size[::-1], Image.Resampling.BICUBIC)
        total += np.asarray(coarse, float) / 3
    return Image.fromarray(total.astype(np.uint8))


def source(pictures):
    return Source(
        torch.zeros(len(pictures), dtype=torch.int64), list(map(str, range(len(pictures)))), None, decode=pictures.__getitem__
    )


def twins(first, second):
    return [(i, j) for i, j, *_ in pairs(copies(source(first)), copies(source(second)))]


def test_copies_of_a_picture_are_found_however_they_were_made():
    plain = [noise(seed) for seed in range(6)]
    square = plain[2].crop((8, 0, 56, 48))
    changed = [
        noise(9),
        plain[0].resize((32, 24), Image.Resampling.BOX),
        plain[1].transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        square.resize((32, 32), Image.Resampling.BOX),
        plain[3].resize((40, 40), Image.Resampling.BOX),
        plain[4].point(lambda value: int(0.8 * value + 20)),
    ]
    assert twins(plain, changed) == [(0, 1), (1, 2), (2, 3), (3, 4), (4, 5)]


def test_pictures_that_agree_in_their_blur_alone_are_no_twins():
    smooth = np.linspace(0, 220, 64)[None, :, None] + np.zeros((64, 1, 3))
    rough = [np.random.default_rng(seed).integers(0, 35, (64, 64, 3)) for seed in (0, 1)]
    first, second = (Image.fromarray((smooth + each).astype(np.uint8)) for each in rough)
    one, two = copies(source([first])), copies(source([second]))
    assert float(one.small[0, 0] @ two.small[0, 0]) > 0.99 and correlation(one.large, two.large) > 0.95
    assert twins([first], [second]) == [] and twins([first], [first]) == [(0, 0)]


def test_constant_pictures_correlate_with_nothing():
    grey = Image.new("RGB", (8, 8), (99, 99, 99))
    assert twins([grey], [grey]) == [] and (standardised(np.ones((2, 5))) == 0).all()


@pytest.fixture
def root(tmp_path):
    """Two data sets in folders, whose pictures are flat but for one: that is in both."""
    for name in "ab":
        folder = write_folder(tmp_path / name, [(48, 48)] * 2, [0, 1])
        write_folder(tmp_path / "more", [(48, 48)] * 3, [0, 1, 0], split="train")
        (tmp_path / "more" / "train").rename(folder / "train")
    return tmp_path


def record(folder):
    about = dict(title=folder, reader="webdataset", options={"folder": folder}, classes=2, splits={"train": 3, "test": 2})
    return Record(name=folder, prompt=PromptRule(template="a {}"), licence="-", source="-", **about)


def test_folders_are_compared_split_by_split(root, monkeypatch):
    own = {("a", "train"): [0, 1, 2], ("a", "test"): [3, 4], ("b", "train"): [5, 4, 6], ("b", "test"): [0, 7]}
    monkeypatch.setattr(
        "mmcoa.datasets.near_duplicates.load_source",
        lambda record, split, root: (source([noise(seed) for seed in own[record.name, split]]), ["x", "y"]),
    )
    said = []
    found = find_overlaps([record("a"), record("b")], root, said.append)
    assert sorted(map(str, found)) == [
        "a test: 1 pictures are in b train (1 there)",
        "a train: 1 pictures are in b test (1 there)",
    ]
    assert said[0] == "a train: 3 pictures" and all(one.crosses for one in found)
    monkeypatch.undo()
    path = table.write(found, root / "overlaps.csv")
    assert path.read_text().splitlines()[0] == "dataset,split,other,other_split,pictures,other_pictures"
    assert len(path.read_text().splitlines()) == 3
    assert find_overlaps([record("a")], root) is not None  # pictures of real folders are decoded


def test_the_table_names_splits_that_exist():
    for one in overlaps():
        assert 1 <= one.pictures <= records()[one.dataset].splits[one.split]
        assert 1 <= one.other_pictures <= records()[one.other].splits[one.other_split]
        assert one.turned().turned() == one


def test_both_sides_of_an_overlap_are_told(monkeypatch):
    found = (
        Overlap("a", "train", "b", "test", 2, 3),
        Overlap("a", "train", "b", "train", 9, 9),
        Overlap("b", "test", "c", "train", 1, 1),
    )
    monkeypatch.setattr(table, "overlaps", lambda: found)
    assert overlaps_of("b") == [Overlap("b", "test", "a", "train", 3, 2), found[2]] and overlaps_of("a") == []


def test_an_evaluation_notes_pictures_that_the_model_was_trained_on(tiny, small_birds, monkeypatch):
    monkeypatch.setattr(table, "overlaps", lambda: (Overlap("mine", "train", small_birds.name, "test", 2, 3),))
    assert evaluate(tiny, small_birds, ["clean"]).notes == []
    tiny.metadata |= {"trained_on": "mine"}
    assert evaluate(tiny, small_birds, ["clean"]).notes == [
        "the model was fine-tuned on mine: openmoji/birds test: 3 pictures are in mine train (2 there)"
    ]


def test_photographs_still_share_what_the_table_says(shared_data):
    names = ("photos/pacs-photo", "photos/imagewoof", "photos/imagenet-sample")
    found = find_overlaps([records()[name] for name in names], shared_data)
    assert set(found) == {one for one in overlaps() if {one.dataset, one.other} <= set(names)}
