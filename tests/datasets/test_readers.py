"""The readers of the paper's data sets on miniatures in their true layouts: classes, labels, prompts, splits and counts."""

import json
import sys

import numpy as np
import pytest
import torch
from PIL import Image

import mmcoa
from mmcoa.datasets import load_source, pictures, records
from mmcoa.datasets.records import paper_names
from mmcoa.errors import UserError
from tests.datasets import miniatures

PROMPTS = {  # {data set: {label: prompt}}
    "imagenet": {0: "This is a photo of a tench", 2: "This is a photo of a great white shark"},
    "tiny-imagenet": {0: "This is a photo of a goldfish"},
    "cifar10": {0: "This is a photo of a airplane", 9: "This is a photo of a truck"},
    "cifar100": {1: "This is a photo of a aquarium fish", 99: "This is a photo of a worm"},
    "stl10": {0: "This is a photo of a airplane", 2: "This is a photo of a car"},
    "caltech101": {0: "This is a photo of a faces", 1: "This is a photo of a faces easy"},
    "caltech256": {0: "A photo of a ak47.", 250: "A photo of a airplanes.", 256: "A photo of a clutter."},
    "pets": {1: "A photo of a american bulldog, a type of pet."},
    "flowers102": {0: "A photo of a pink primrose, a type of flower.", 101: "A photo of a blackberry lily, a type of flower."},
    "food101": {0: "A photo of apple pie, a type of food.", 100: "A photo of waffles, a type of food."},
    "cars": {0: "A photo of a am general hummer suv."},
    "aircraft": {0: "A photo of a boeing 707-320, a type of aircraft."},
    "sun397": {0: "This is a photo of a abbey"},
    "dtd": {0: "A surface with a banded texture.", 46: "A surface with a zigzagged texture."},
    "eurosat": {0: "A centered satellite photo of annual crop land.", 9: "A centered satellite photo of a sea or a lake."},
    "country211": {1: "A photo I took in United Arab Emirates."},
    "pcam": {0: "This is a photo of healthy lymph node tissue.", 1: "This is a photo of lymph node tumor tissue."},
}


@pytest.fixture(autouse=True)
def no_sums(monkeypatch):
    """Miniatures do not have the MD5 sums that torchvision asks of these two."""
    import torchvision.datasets

    for name in ("STL10", "Flowers102"):
        monkeypatch.setattr(getattr(torchvision.datasets, name), "_check_integrity", lambda self: True)


@pytest.fixture
def adapt(monkeypatch):
    """`adapt(name, counts)`: the record of a data set with a miniature's counts, in the place of the true one."""

    def adapt(name, counts, **changes):
        official = "all" not in counts
        splits = counts if official else {"train": None, "test": None}
        total = None if official else counts["all"]
        record = records()[name].model_copy(update={"splits": splits, "total": total, "sample": {}, **changes})
        monkeypatch.setitem(records(), name, record)
        return record

    return adapt


@pytest.fixture
def eurosat(tmp_path, adapt):
    """Folder with the miniature of a tree of class folders, three pictures a class."""
    miniatures.write("eurosat", tmp_path)
    for label, code in enumerate(miniatures.ids("eurosat")):
        for i in (2, 3):
            miniatures.picture(tmp_path / "eurosat/2750" / code / f"{code}_{i}.jpg", label)
    adapt("eurosat", {"all": 30})
    return tmp_path


def colours(source):
    """[(label, split), ...] that the pictures of a source show."""
    if source.pixels is not None:
        return [miniatures.decoded(picture[:, 0, 0]) for picture in source.pixels]
    return [miniatures.decoded(source.decode(i).convert("RGB").getpixel((0, 0))) for i in range(len(source))]


def test_miniatures_cover_the_paper():
    """Each of the paper's data sets is read here; another data set may come with tests of its own."""
    assert set(paper_names()) <= set(miniatures.NAMES) == set(PROMPTS) <= set(records())


@pytest.mark.filterwarnings("ignore:.* prompts name more than one class")
@pytest.mark.parametrize("name", miniatures.NAMES)
def test_layout(name, tmp_path, adapt):
    counts = miniatures.write(name, tmp_path)
    record = adapt(name, counts)
    if "all" in counts:
        sources = [load_source(record, split, tmp_path)[0] for split in ("train", "test")]
        keys = [set(source.keys) for source in sources]
        assert len(keys[0] | keys[1]) == sum(map(len, sources)) == counts["all"] and not keys[0] & keys[1]
        shown = [pair for source in sources for pair in colours(source)]
        assert shown == [(label, "train") for source in sources for label in source.labels.tolist()]
    for split, count in counts.items() if "all" not in counts else ():
        source, names = load_source(record, split, tmp_path)
        assert len(source) == len(source.keys) == count and len(names) == record.classes
        assert colours(source) == [(label, split) for label in source.labels.tolist()]
        assert set(source.labels.tolist()) == set(range(record.classes))
        assert source.pixels is not None or (source.files and all(path.is_file() for path in source.files))
    dataset = mmcoa.load_dataset(name, "test", samples=3, root=tmp_path)
    assert 1 <= len(dataset) <= 3 and dataset.images.shape[-1] == (record.size or 224) and dataset.skipped == 0
    assert {label: dataset.prompts[label] for label in PROMPTS[name]} == PROMPTS[name]
    for image, label in zip(dataset.images, dataset.labels.tolist(), strict=True):
        assert miniatures.decoded(image[:, 0, 0])[0] == label
    openclip = mmcoa.load_dataset(name, "test", samples=1, root=tmp_path, prompts="openclip", image_size=32)
    assert all(len(prompts) == record.classes for prompts in openclip.prompt_sets())


def test_stl_pictures_are_not_transposed(tmp_path, adapt):
    record = adapt("stl10", miniatures.write("stl10", tmp_path))
    assert load_source(record, "test", tmp_path)[0].pixels[0, 2, :, 95].tolist() == list(range(96))


def test_keys_are_paths_below_the_data(eurosat):
    source, _ = load_source(records()["eurosat"], "test", eurosat)
    assert all(key.split("/")[0] in miniatures.ids("eurosat") and "\\" not in key for key in source.keys)


# What is not there, or not whole


def fails(message, name, root, split="test"):
    with pytest.raises(UserError, match=message) as raised:
        mmcoa.load_dataset(name, split, root=root)
    assert "\n" not in str(raised.value)


def test_missing_root_and_folder(tmp_path):
    for name in miniatures.NAMES:
        fails("data folder", name, tmp_path / "absent")
        fails("is not in", name, tmp_path)


@pytest.mark.parametrize("name", miniatures.NAMES)
def test_an_empty_folder_is_an_error(name, tmp_path):
    record = records()[name]
    (tmp_path / record.options["folder"]).mkdir()
    fails(name, name, tmp_path)


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_half_a_batch(name, tmp_path, adapt):
    adapt(name, miniatures.write(name, tmp_path))
    folder = tmp_path / records()[name].options["folder"]
    path = folder / records()[name].options["test"][0]
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    fails("half a download; fetch it again: mmcoa data get", name, tmp_path)
    path.write_bytes(whole[: len(whole) // 2])
    fails("samples in", name, tmp_path)
    path.write_bytes(b"")
    fails("half a download", name, tmp_path)
    path.unlink()
    fails("cannot read", name, tmp_path)


def test_another_release_of_cifar(tmp_path, adapt):
    adapt("cifar10", miniatures.write("cifar10", tmp_path))
    path = tmp_path / "cifar-10-batches-bin/batches.meta.txt"
    path.write_text(path.read_text().replace("automobile", "car"))
    fails("classes in .* are not those of the record: automobile, car", "cifar10", tmp_path)


@pytest.mark.parametrize(
    "name, path, content",
    [
        ("food101", "food-101/meta/test.json", b'{"apple_pie": ["apple_pi'),
        ("flowers102", "flowers-102/imagelabels.mat", b"MATLAB 5.0 MAT-file, cut"),
        ("flowers102", "flowers-102/setid.mat", b""),
        ("cars", "stanford_cars/devkit/cars_meta.mat", b"\0" * 300),
        ("pets", "oxford-iiit-pet/annotations/test.txt", b"Abyssinian_1 1\n"),
        ("aircraft", "fgvc-aircraft-2013b/data/images_variant_test.txt", b"1025794 An-12b\n"),
        ("dtd", "dtd/dtd/labels/test1.txt", b"banded\n"),
        ("stl10", "stl10_binary/test_X.bin", b"\0" * 1000),
        ("stl10", "stl10_binary/test_y.bin", b"\1\2"),
        ("tiny-imagenet", "tiny-imagenet-200/val/val_annotations.txt", b"val_0.JPEG\n"),
    ],
)
def test_damaged_annotations(name, path, content, tmp_path, adapt):
    adapt(name, miniatures.write(name, tmp_path))
    assert (tmp_path / path).is_file()
    (tmp_path / path).write_bytes(content)
    fails(name, name, tmp_path)
    (tmp_path / path).unlink()
    fails(name, name, tmp_path)


def test_lists_of_another_release(tmp_path, adapt):
    adapt("aircraft", miniatures.write("aircraft", tmp_path))
    for path in (tmp_path / "fgvc-aircraft-2013b/data").glob("*.txt"):
        path.write_text(path.read_text().replace("Spitfire", "Supermarine"))
    fails("are not those of the record: Spitfire, Supermarine", "aircraft", tmp_path)
    adapt("food101", miniatures.write("food101", tmp_path))
    path = tmp_path / "food-101/meta/test.json"
    path.write_text(json.dumps({code: names for code, names in json.loads(path.read_text()).items() if code != "waffles"}))
    fails("not those of the record: waffles", "food101", tmp_path)


@pytest.mark.parametrize(
    "name, lost",
    [("dtd", "dtd/dtd/images/banded/banded_0002.jpg"), ("tiny-imagenet", "tiny-imagenet-200/val/images/val_7.JPEG")],
)
def test_a_picture_of_the_list_that_is_not_there(name, lost, tmp_path, adapt):
    counts = miniatures.write(name, tmp_path)
    adapt(name, counts)
    (tmp_path / lost).unlink()
    fails(f"1 of {counts['test']} pictures are missing in .*, first .*{lost.rpartition('/')[2]}", name, tmp_path)


def test_too_many_and_too_few_class_folders(eurosat, adapt):
    folder = eurosat / "eurosat/2750"
    miniatures.picture(folder / "Lava" / "1.jpg", 0)
    adapt("eurosat", {"all": 31})  # the right count: the classes are what is wrong
    fails("are not those of the record: Lava", "eurosat", eurosat)
    adapt("eurosat", {"all": 27})
    for path in [*(folder / "Lava").iterdir(), *(folder / "River").iterdir()]:
        path.unlink()
    fails("are not those of the record: River", "eurosat", eurosat)
    adapt("eurosat", {"all": 30})
    fails("samples in|are not those", "eurosat", eurosat)


def test_no_pictures(eurosat):
    paths = list((eurosat / "eurosat").rglob("*.jpg"))
    for path in paths:
        path.unlink()
    fails("no class folder with pictures", "eurosat", eurosat)
    miniatures.picture(eurosat / "eurosat/2750/1.jpg", 0)
    fails("move each into the folder of its class", "eurosat", eurosat)


def test_other_files_are_not_counted(eurosat):
    folder = eurosat / "eurosat/2750"
    for name in ("River/Thumbs.db", "River/._River_1.jpg", "River/deeper/River_9.jpg", ".cache/x.jpg", "readme.txt"):
        miniatures.picture(folder / name, 5)
    assert sum(len(load_source(records()["eurosat"], split, eurosat)[0]) for split in ("train", "test")) == 30


def test_pcam_files(tmp_path, adapt, monkeypatch):
    adapt("pcam", miniatures.write("pcam", tmp_path))
    path = tmp_path / "pcam/camelyonpatch_level_2_split_test_x.h5"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    fails("damaged or half a download", "pcam", tmp_path)
    path.rename(path.with_name(f"{path.name}.gz"))
    fails("gunzip", "pcam", tmp_path)
    path.write_bytes((tmp_path / "pcam/camelyonpatch_level_2_split_test_y.h5").read_bytes())
    fails("damaged", "pcam", tmp_path)
    monkeypatch.setitem(sys.modules, "h5py", None)
    fails(r"pip install 'mmcoa\[data\]'", "pcam", tmp_path)


# Pictures that decoders refuse, and modes that they give


def test_a_corrupt_picture_is_named_or_left_out(eurosat):
    source, _ = load_source(records()["eurosat"], "train", eurosat)
    middle = len(source) // 2
    path = source.files[[file.as_posix().endswith(source.keys[middle]) for file in source.files].index(True)]
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (64, 64, 3), np.uint8)).save(path, "JPEG")
    path.write_bytes(path.read_bytes()[:900])
    with pytest.raises(UserError, match=f"unreadable picture {source.keys[middle]} in .*skip-unreadable"):
        mmcoa.load_dataset("eurosat", "train", root=eurosat)
    with pytest.warns(UserWarning, match=f"1 unreadable pictures left out: {source.keys[middle]}"):
        dataset = mmcoa.load_dataset("eurosat", "train", root=eurosat, skip_unreadable=True)
    assert dataset.skipped == 1 and len(dataset) == len(source) - 1 and middle not in dataset.ids.tolist()


def test_modes_become_rgb(tmp_path, adapt):
    grey = np.full((4, 4), 200, np.uint8)
    shown = {
        "png": Image.fromarray(grey),
        "jpg": Image.new("CMYK", (4, 4), (0, 0, 0, 55)),
        "bmp": Image.fromarray(grey).convert("P"),
        "webp": Image.new("RGBA", (4, 4), (200, 200, 200, 255)),
        "tif": Image.fromarray(grey.astype(np.uint16) << 8),
        "PNG": Image.fromarray(np.dstack([grey, grey // 2])),
    }
    for code in miniatures.ids("eurosat"):
        for i, (ending, image) in enumerate(shown.items()):
            path = tmp_path / "eurosat/2750" / code / f"{i}.{ending}"
            path.parent.mkdir(parents=True, exist_ok=True)
            image.save(path)
    adapt("eurosat", {"all": 60})
    dataset = mmcoa.load_dataset("eurosat", "train", root=tmp_path)
    assert (dataset.images.float() - 200).abs().max() <= 2  # JPEG and WebP may lose a little


def test_order_depends_neither_on_threads_nor_on_the_disk(tmp_path, adapt, monkeypatch):
    prints = []
    for reverse, threads in ((False, 1), (True, 4), (False, 4)):
        root = tmp_path / f"{reverse}{threads}"
        adapt("country211", miniatures.write("country211", root, reverse))
        monkeypatch.setattr(pictures, "THREADS", threads)
        monkeypatch.setenv("MMCOA_CACHE", str(root / "cache"))
        prints.append(mmcoa.load_dataset("country211", "test", samples=60, root=root).fingerprint())
    assert len(set(prints)) == 1


def test_sun_is_sorted_whatever_the_disk_says(tmp_path, adapt, monkeypatch):
    from pathlib import Path

    record = adapt("sun397", miniatures.write("sun397", tmp_path))
    keys, listed = [], Path.rglob
    for step in (1, -1):
        monkeypatch.setattr(Path, "rglob", lambda self, pattern: list(listed(self, pattern))[::step])
        keys.append(load_source(record, "test", tmp_path)[0].keys)
    assert keys[0] == keys[1] == sorted(keys[0])


# Data sets made of others


def merged_record(**options):
    return records()["photos/cifar10-shift"].model_copy(
        update={"options": options, "splits": {"test": None}, "sample": {}, "size": 32, "classes": len(options["classes"])}
    )


def test_merged(tmp_path, adapt):
    adapt("cifar10", miniatures.write("cifar10", tmp_path))
    options = {"of": "cifar10", "classes": {"pet": ["dog", "cat"], "plant": [], "vehicle": ["truck"]}}
    source, names = load_source(merged_record(**options), "test", tmp_path)
    assert names == ["pet", "plant", "vehicle"] and source.labels.tolist() == [0, 0, 2]
    assert [label for label, _ in colours(source)] == [3, 5, 9] and [key[-1] for key in source.keys] == ["3", "5", "9"]
    for classes, message in (
        ({"pet": ["dogs"]}, "'dogs' of cifar10 is named 0 times"),
        ({"a": ["dog"], "b": ["dog"]}, "twice in the record"),
    ):
        with pytest.raises(UserError, match=message):
            load_source(merged_record(**{**options, "classes": classes}), "test", tmp_path)
    with pytest.raises(UserError, match="missing or no text"):
        load_source(merged_record(**{**options, "ids": "wnids.txt"}), "test", tmp_path)
    (tmp_path / "cifar-10-batches-bin/wnids.txt").write_text("n1\n")
    with pytest.raises(UserError, match="1 ids for 10 classes"):
        load_source(merged_record(**{**options, "ids": "wnids.txt"}), "test", tmp_path)


# Real pictures


def test_photos(shared_data):
    for name, record in records().items():
        if name.startswith("photos/"):
            source, names = load_source(record, "test", shared_data)
            assert (
                len(source) == record.splits["test"]
                and len(names) == record.classes
                and set(record.sample) == set(record.splits)
            )


def test_imagenet_pictures_of_cifars_classes(shared_data):
    dataset = mmcoa.load_dataset("photos/cifar10-shift", root=shared_data)
    assert dataset.prompts == mmcoa.load_dataset("photos/cifar10", samples=1, root=shared_data).prompts
    assert torch.bincount(dataset.labels, minlength=10).tolist() == [1, 3, 30, 2, 0, 59, 2, 0, 10, 2]
    assert dataset.images.shape == (109, 3, 160, 160)
