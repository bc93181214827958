"""What `check` says about data sets that are whole, half there, damaged, or others than their record."""

import numpy as np
import pytest
from PIL import Image

from mmcoa.datasets.check import LOOKED_AT, Finding, check, is_ready, verdict
from mmcoa.datasets.pictures import sample_hash
from mmcoa.datasets.records import Download, PromptRule, Record, class_list, find_record
from mmcoa.datasets.webdataset import folder_record, read

from .test_webdataset import write_folder


def record(**changes):
    """Two classes in the WebDataset layout, in the folder `wds`, four test pictures."""
    about = dict(
        name="small", title="Small", reader="webdataset", options={"folder": "wds"}, classes=2, splits={"test": 4, "train": 2}
    )
    return Record(
        **(about | dict(prompt=PromptRule(template="a {}"), licence="-", source="-", size=8, manual="copy it") | changes)
    )


@pytest.fixture
def root(tmp_path):
    write_folder(tmp_path / "wds", [(8, 8), (16, 8), (8, 12), (8, 8)], [0, 1, 0, 0])
    write_folder(tmp_path / "more", [(8, 8), (8, 8)], [0, 1], split="train")
    (tmp_path / "more" / "train").rename(tmp_path / "wds" / "train")
    return tmp_path


def found(findings, what, split="test"):
    (one,) = (finding for finding in findings if (finding.what, finding.split) == (what, split))
    return one


def test_a_whole_data_set_is_ready(root):
    source = read(record(), "test", root / "wds")
    findings = check(record(sample={"test": sample_hash(source)}), root)
    assert verdict(findings) == "small: ready (test 4, train 2 pictures)" and is_ready(findings)
    assert found(findings, "pictures by class").found == "1 to 3"
    assert found(findings, "pictures by class", "train").found == "1 each"
    assert (
        found(findings, "hash of the first pictures").ok and found(findings, "hash of the first pictures", "train").ok is None
    )
    assert found(findings, "unreadable pictures").found == "0 of 4" and found(findings, "shorter side in pixels").found == "8"
    assert found(findings, "labels").found == "0 to 1" and "webdataset layout" in found(findings, "folder", "").found


@pytest.mark.parametrize(
    "changes,said",
    [
        ({"splits": {"test": 5}}, "test: pictures: 4, expected 5; copy it"),
        ({"classes": 3}, "test: classes: 2, expected 3"),
        ({"size": 32}, "test: shorter side in pixels: 8, expected 32"),
        ({"sample": {"test": "0123456789abcdef"}}, "test: hash of the first pictures: "),
        ({"options": {"folder": "absent"}}, "folder: 'small' is not in "),
        ({"splits": {"val": 3, "test": 4}, "proper_split": "val"}, "has no split 'val'; it has: test, train"),
    ],
)
def test_what_is_wrong_is_said_first(root, changes, said):
    findings = check(record(**changes), root)
    assert not is_ready(findings) and verdict(findings).startswith("small: NOT ready: ") and said in verdict(findings)
    assert "\n" not in verdict(findings)


def test_who_only_evaluates_needs_no_training_pictures(root):
    (root / "wds" / "train" / "nshards.txt").unlink()
    assert verdict(check(record(), root)) == "small: ready (test 4 pictures; not here: train)"
    (root / "wds" / "test" / "nshards.txt").unlink()
    assert "has no split 'test'" in verdict(check(record(), root))


def test_a_missing_shard_and_the_command_that_mends_it(root):
    (root / "wds" / "test" / "1.tar").unlink()
    assert "missing or damaged shard" in verdict(check(record(), root))
    assert verdict(check(record(), root)).endswith("fetch the file again")
    small = record(download=Download(files=[]), splits={"test": 4, "train": 9})
    (finding,) = (one for one in check(small, root) if one.what == "pictures" and one.split == "train")
    assert finding == Finding("pictures", 2, 9, False, "mmcoa data get small --again", "train")


def test_labels_and_pictures_by_class(tmp_path):
    write_folder(tmp_path / "wds", [(8, 8)] * 3, [0, 0, 2], classes=("a", "b", "c"))
    findings = check(record(classes=3, splits={"test": 3}), tmp_path)
    assert found(findings, "pictures by class").found == "0 to 2, 1 classes without" and is_ready(findings)


def folder_of_pictures(root, count):
    rng = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (root / "set" / name).mkdir(parents=True)
        for i in range(count):
            Image.fromarray(rng.integers(0, 255, (8, 8, 3), np.uint8)).save(root / "set" / name / f"{i:03d}.png")
    options = {"folder": "set", "folders": {"test": "set", "train": "other"}}
    return record(reader="imagefolder", options=options, splits={"test": 2 * count, "train": 7})


def test_unreadable_pictures_are_counted_and_named(tmp_path):
    small = folder_of_pictures(tmp_path, 150)
    assert verdict(check(small, tmp_path)) == "small: ready (test 300 pictures; not here: train)"
    assert found(check(small, tmp_path), "unreadable pictures").found == f"0 of {LOOKED_AT}"
    for i in range(140, 150):
        (tmp_path / "set" / "dog" / f"{i}.png").write_bytes(b"half a picture")
    looked = found(check(small, tmp_path), "unreadable pictures")
    assert looked == found(check(small, tmp_path), "unreadable pictures")  # seeded: the same pictures each time
    everything = found(check(small, tmp_path, full=True), "unreadable pictures")
    assert everything.found == "10 of 300: dog/140.png, dog/141.png, dog/142.png" and everything.ok is False
    assert "--skip-unreadable" in verdict(check(small, tmp_path, full=True))


def test_other_classes_than_the_records(tmp_path):
    small = folder_of_pictures(tmp_path, 3)
    (tmp_path / "set" / "dog").rename(tmp_path / "set" / "dgo")
    findings = check(small.model_copy(update={"names": "pcam", "splits": {"test": 6}}), tmp_path)
    assert "are not those of the record: cat, dgo" in found(findings, "class list").found
    assert "class list: " in verdict(findings) and "; see: mmcoa data check" not in verdict(findings)


def test_the_copy_on_the_hub_may_spell_classes_otherwise(tmp_path):
    copied = record(reader="imagefolder", options={"folder": "own"}, names="pcam", hub="someone/wds_pcam", splits={"test": 2})
    names = [name for _, name in class_list("pcam")]
    write_folder(tmp_path / "wds_pcam", [(8, 8)] * 2, [0, 1], classes=[name.title() for name in names])
    assert verdict(check(copied, tmp_path)) == "small: ready (test 2 pictures)"
    (tmp_path / "wds_pcam" / "classnames.txt").write_text("\n".join(reversed(names)))
    assert "their order" in verdict(check(copied, tmp_path))


def test_shared_prompts_are_listed_but_no_fault(tmp_path):
    write_folder(tmp_path / "wds", [(8, 8)] * 2, [0, 1], classes=("Red_fox", "red fox"))
    findings = check(record(splits={"test": 2}), tmp_path)
    assert found(findings, "prompts of more than one class", "").found == "1: a red fox" and is_ready(findings)


def test_a_split_that_the_path_decides(tmp_path):
    small = folder_of_pictures(tmp_path, 50).model_copy(update={"splits": {"train": None, "test": None}, "total": 100})
    small = small.model_copy(update={"options": {"folder": "set", "folders": {"all": "set"}}})
    findings = check(small, tmp_path)
    assert is_ready(findings) and found(findings, "pictures of all splits").found == 100
    assert found(findings, "pictures").found + found(findings, "pictures", "train").found == 100
    (tmp_path / "set" / "dog" / "000.png").unlink()
    assert "test: pictures of all splits: 99, expected 100" in verdict(check(small, tmp_path)) or "train:" in verdict(
        check(small, tmp_path)
    )


def test_embedded_pictures_and_any_folder(root):
    assert (
        verdict(check(find_record("openmoji/birds")))
        == "openmoji/birds: ready (train 672, test 210, unseen-style 210 pictures)"
    )
    assert verdict(check(folder_record(str(root / "wds")))) == "wds:wds: ready (test 4, train 2 pictures)"


def test_real_photographs(shared_data):
    findings = check(find_record("photos/pets3"), shared_data, full=True)
    assert verdict(findings) == "photos/pets3: ready (train 300, test 141 pictures)"
    assert found(findings, "hash of the first pictures").ok is True
