"""Miniatures of the paper's data sets in their true layouts on disk: one picture a class and split, its label in its colour."""

import io
import json

import numpy as np
from PIL import Image

from mmcoa.datasets.records import class_list, find_record

SPLITS = ("train", "val", "test")


def colour(label, split="train"):
    """(red, green, blue) that names a label and a split."""
    return label % 256, label // 256, 50 * SPLITS.index(split)


def decoded(pixel):
    """(label, split) of a colour."""
    red, green, blue = (int(value) for value in pixel)
    return red + 256 * green, SPLITS[blue // 50]


def picture(path, label, split="train", side=4):
    """A picture of one colour. PNG whatever its ending says, so that colours stay exact: decoders go by the content."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data = io.BytesIO()
    Image.new("RGB", (side, side), colour(label, split)).save(data, "PNG")
    path.write_bytes(data.getvalue())


def text(path, lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))


def ids(name):
    return [code for code, _ in class_list(find_record(name).names)]


def write(name, root, reverse=False):
    """The miniature of a data set under `root`: {split: samples}, `{"all": samples}` without official splits.

    reverse: files are made in the reverse order, where a data set is a tree of class folders.
    """
    codes = ids(name)
    if name in TREES:
        splits, place = TREES[name]
        entries = [(split, label) for split in splits for label in range(len(codes))]
        for split, label in reversed(entries) if reverse else entries:
            picture(root / place.format(split=splits[split], code=codes[label]), label, "train" if split == "all" else split)
        EXTRAS.get(name, lambda root: None)(root)
        return dict.fromkeys(splits, len(codes))
    return WRITERS[name](root, codes)


TREES = {  # {split: its folder}, path of a picture
    "imagenet": ({"train": "train", "test": "val"}, "imagenet/{split}/{code}/{code}_1.JPEG"),
    "caltech101": ({"all": ""}, "caltech101/101_ObjectCategories/{code}/image_0001.jpg"),
    "caltech256": ({"all": ""}, "caltech256/256_ObjectCategories/{code}/001_0001.jpg"),
    "eurosat": ({"all": ""}, "eurosat/2750/{code}/{code}_1.jpg"),
    "country211": ({"train": "train", "val": "valid", "test": "test"}, "country211/{split}/{code}/1.jpg"),
}


def caltech101_extras(root):
    picture(root / "caltech101/101_ObjectCategories/BACKGROUND_Google/image_0001.jpg", 0)
    text(root / "caltech101/101_ObjectCategories/BACKGROUND_Google/tmp", ["x"])
    text(root / "caltech101/101_ObjectCategories/accordion/._image_0001.jpg", ["what macOS leaves"])


def caltech256_extras(root):
    picture(root / "caltech256/256_ObjectCategories/056.dog/greg/vision309/056_0001.jpg", 0)
    text(root / "caltech256/256_ObjectCategories/198.spider/RENAME2", ["#!/bin/sh"])


EXTRAS = {"caltech101": caltech101_extras, "caltech256": caltech256_extras}


def tiny_imagenet(root, codes):
    folder = root / "tiny-imagenet-200"
    for label, code in enumerate(codes):
        picture(folder / "train" / code / "images" / f"{code}_0.JPEG", label)
        text(folder / "train" / code / f"{code}_boxes.txt", [f"{code}_0.JPEG\t0\t0\t3\t3"])
        picture(folder / "val" / "images" / f"val_{label}.JPEG", label, "test")
    text(folder / "val" / "val_annotations.txt", [f"val_{i}.JPEG\t{code}\t0\t0\t3\t3" for i, code in enumerate(codes)])
    text(folder / "wnids.txt", reversed(codes))
    return {"train": len(codes), "test": len(codes)}


def cifar_batch(path, labels, split, coarse=False):
    path.parent.mkdir(exist_ok=True)
    rows = []
    for label in labels:
        pixels = np.repeat(np.array(colour(label, split), np.uint8), 32 * 32)
        rows.append(bytes([*([label // 5] if coarse else []), label]) + pixels.tobytes())
    path.write_bytes(b"".join(rows))


def cifar10(root, codes):
    folder = root / "cifar-10-batches-bin"
    for i in range(1, 6):
        cifar_batch(folder / f"data_batch_{i}.bin", range(10), "train")
    cifar_batch(folder / "test_batch.bin", range(10), "test")
    text(folder / "batches.meta.txt", [*codes, ""])
    return {"train": 50, "test": 10}


def cifar100(root, codes):
    folder = root / "cifar-100-binary"
    for split in ("train", "test"):
        cifar_batch(folder / f"{split}.bin", range(100), split, coarse=True)
    text(folder / "fine_label_names.txt", codes)
    text(folder / "coarse_label_names.txt", [f"coarse {i}" for i in range(20)])
    return {"train": 100, "test": 100}


def stl10(root, codes):
    """Its files hold pictures by columns; row r has the value r in the last column's blue: a transposed one is noticed."""
    folder = root / "stl10_binary"
    for split in ("train", "test"):
        pixels = np.empty((10, 3, 96, 96), np.uint8)
        for label in range(10):
            pixels[label] = np.array(colour(label, split), np.uint8)[:, None, None]
        pixels[:, 2, :, 95] = np.arange(96)
        text(folder / "class_names.txt", codes)
        (folder / f"{split}_X.bin").write_bytes(pixels.transpose(0, 1, 3, 2).tobytes())
        (folder / f"{split}_y.bin").write_bytes(bytes(range(1, 11)))
    (folder / "unlabeled_X.bin").write_bytes(pixels[:1].tobytes())
    return {"train": 10, "test": 10}


def pets(root, codes):
    folder = root / "oxford-iiit-pet"
    for number, split, listed in ((1, "train", "trainval"), (2, "test", "test")):
        lines = []
        for label, code in enumerate(codes):
            stem = f"{code.replace(' ', '_') if label % 3 else code.replace(' ', '_').lower()}_{number}"
            picture(folder / "images" / f"{stem}.jpg", label, split)
            lines.append(f"{stem} {label + 1} {1 + label % 2} 1")
        text(folder / "annotations" / f"{listed}.txt", lines)
    text(folder / "images" / "Abyssinian_100.mat", ["stray"])
    return {"train": len(codes), "test": len(codes)}


def flowers102(root, codes):
    from scipy.io import savemat

    folder, labels, numbers = root / "flowers-102", [], {}
    for key, split in (("tstid", "test"), ("trnid", "train"), ("valid", "val")):
        for label in reversed(range(len(codes))):
            labels.append(label + 1)
            numbers.setdefault(key, []).append(len(labels))
            picture(folder / "jpg" / f"image_{len(labels):05d}.jpg", label, split)
    savemat(folder / "imagelabels.mat", {"labels": np.array([labels], np.uint8)})
    savemat(folder / "setid.mat", {key: np.array([places], np.uint16) for key, places in numbers.items()})
    return dict.fromkeys(SPLITS, len(codes))


def food101(root, codes):
    folder = root / "food-101"
    for number, split in ((1, "train"), (2, "test")):
        for label, code in enumerate(codes):
            picture(folder / "images" / code / f"{number}.jpg", label, split)
        (folder / "meta").mkdir(exist_ok=True)
        (folder / "meta" / f"{split}.json").write_text(json.dumps({code: [f"{code}/{number}"] for code in reversed(codes)}))
    return {"train": len(codes), "test": len(codes)}


def cars(root, codes):
    from scipy.io import savemat

    folder = root / "stanford_cars"
    (folder / "devkit").mkdir(parents=True)
    savemat(folder / "devkit" / "cars_meta.mat", {"class_names": np.array([codes], object)})
    fields = [*((f"bbox_{axis}{i}", "O") for axis in "xy" for i in (1, 2)), ("class", "O"), ("fname", "O")]
    for split, path in (("train", "devkit/cars_train_annos.mat"), ("test", "cars_test_annos_withlabels.mat")):
        rows = np.empty((1, len(codes)), fields)
        for label in range(len(codes)):
            rows[0, label] = (1, 1, 3, 3, np.uint8(label + 1), f"{label + 1:05d}.jpg")
            picture(folder / f"cars_{split}" / f"{label + 1:05d}.jpg", label, split)
        savemat(folder / path, {"annotations": rows})
    return {"train": len(codes), "test": len(codes)}


def aircraft(root, codes):
    folder = root / "fgvc-aircraft-2013b" / "data"
    text(folder / "variants.txt", codes)
    for i, split in enumerate(SPLITS):
        numbers = [f"{i}{label:06d}" for label in range(len(codes))]
        for label, number in enumerate(numbers):
            picture(folder / "images" / f"{number}.jpg", label, split)
        text(folder / f"images_variant_{split}.txt", [f"{n} {code}" for n, code in zip(numbers, codes, strict=True)])
    return dict.fromkeys(SPLITS, len(codes))


def sun397(root, codes):
    text(root / "SUN397" / "ClassName.txt", [f"/{code[0]}/{code}" for code in codes])
    for label, code in enumerate(codes):
        picture(root / "SUN397" / code[0] / code / f"sun_{label:03d}.jpg", label)
    return {"all": len(codes)}


def dtd(root, codes):
    folder = root / "dtd" / "dtd"
    for number, split in enumerate(SPLITS):
        names = [f"{code}/{code}_{number:04d}.jpg" for code in codes]
        for label, name in enumerate(names):
            picture(folder / "images" / name, label, split)
        text(folder / "labels" / f"{split}1.txt", reversed(names))
    return dict.fromkeys(SPLITS, len(codes))


def pcam(root, codes):
    import h5py

    (root / "pcam").mkdir()
    for split, spelled in (("train", "train"), ("val", "valid"), ("test", "test")):
        labels = [1, 0, 1]
        with h5py.File(root / "pcam" / f"camelyonpatch_level_2_split_{spelled}_x.h5", "w") as file:
            file["x"] = np.stack([np.full((96, 96, 3), colour(label, split), np.uint8) for label in labels])
        with h5py.File(root / "pcam" / f"camelyonpatch_level_2_split_{spelled}_y.h5", "w") as file:
            file["y"] = np.array(labels, np.uint8).reshape(-1, 1, 1, 1)
    return dict.fromkeys(SPLITS, 3)


WRITERS = {
    "tiny-imagenet": tiny_imagenet,
    "cifar10": cifar10,
    "cifar100": cifar100,
    "stl10": stl10,
    "pets": pets,
    "flowers102": flowers102,
    "food101": food101,
    "cars": cars,
    "aircraft": aircraft,
    "sun397": sun397,
    "dtd": dtd,
    "pcam": pcam,
}
NAMES = sorted([*WRITERS, *TREES])
