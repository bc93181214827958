"""Tables of models and data sets: what they state is what checkpoints, recipe and records say."""

import json
import math
import struct
from importlib.resources import files

import pytest
import timm

from mmcoa.datasets.overlaps import overlaps
from mmcoa.datasets.records import paper_names
from mmcoa.model.lite.align import Recipe, hidden_units
from mmcoa.model.lite.towers import IMAGE_MODEL
from mmcoa.report import data, tasks
from mmcoa.report.names import dataset_label
from mmcoa.study.profiles import load_profile, shipped_profiles


@pytest.mark.parametrize("name", [name for name in data.CARDS if name != "lite-clip"])
def test_a_card_says_what_the_checkpoint_holds(name):
    folder, card = files("mmcoa.assets") / name, data.CARDS[name]
    weights = (folder / "model.safetensors").read_bytes()
    header = json.loads(weights[8 : 8 + struct.unpack("<Q", weights[:8])[0]])
    sizes = {key: math.prod(entry["shape"]) for key, entry in header.items() if key not in ("__metadata__", "logit_scale")}
    assert card["image parameters"] == sum(size for key, size in sizes.items() if key.startswith("visual."))
    assert card["text parameters"] == sum(size for key, size in sizes.items() if not key.startswith("visual."))
    config = json.loads((folder / "open_clip_config.json").read_text())["model_cfg"]
    assert (card["pixels"], card["dimensions"]) == (config["vision_cfg"]["image_size"], config["embed_dim"])
    made = json.loads((folder / "mmcoa.json").read_text())["pretraining"]
    assert (made["steps"], made["batch_size"]) == (card["steps"], 128)
    assert "of 1282 OpenMoji glyphs" in (folder / "README.md").read_text()


def test_the_card_of_lite_clip_follows_from_its_recipe():
    card, trunk = data.CARDS["lite-clip"], timm.create_model(IMAGE_MODEL, num_classes=0)
    classes, width, own = card["dimensions"], trunk.num_features, sum(value.numel() for value in trunk.state_dict().values())
    assert card["image parameters"] == own + 2 * classes * (width + 1) + classes * (2 * classes + 1)
    heads = hidden_units(384, classes) * (384 + classes)
    assert card["text parameters"] == 22_565_376 + heads and card["pixels"] == Recipe().image_size
    assert f"{Recipe().epochs} epochs" in data.JOINED
    shown, numbers = data.models()
    assert list(shown.columns[1:]) == list(numbers.model) == list(data.CARDS) and not shown.isna().any().any()
    assert shown.set_index("").loc["parameters", "lite-clip"] == "31.5 M (8.0 image, 23.5 text)"


def test_data_sets_say_their_role_and_what_enters_the_mean(main):
    shown, numbers = data.datasets(main)
    rows = numbers.set_index("data set")
    assert set(rows.index[rows["in the mean"]]) == set(map(dataset_label, tasks.macro_sets(main)))
    assert rows.role["tiny imagenet"] == "base" and set(rows.role[rows["in the mean"]]) == {"unseen"}
    assert rows.loc[["tiny imagenet", "cifar10"], "pixels"].tolist() == [64, 32]
    cifar = main.rows[(main.rows.dataset == "photos/cifar10") & (main.rows.attack == "clean") & (main.rows.method == "none")]
    assert shown.set_index("data set").loc["cifar10", "clean (chance)"] == f"{cifar.accuracy.item():.1f} (10.0)"


def test_no_test_picture_of_the_study_is_in_its_base_set():
    profile = load_profile(shipped_profiles()["main"])
    sets = profile.evaluate.datasets
    assert data.shared_with(profile.train.dataset, [name for name in sets if name != profile.train.dataset]) == "none"
    assert data.shared_with("photos/caltech101", sets) == "caltech101 and pacs photo"
    found = data.twins(sets)[1]
    assert found.pictures.is_monotonic_decreasing and len(found) == 9
    assert len(data.twins([one.dataset for one in overlaps()] + [one.other for one in overlaps()])[1]) > len(found)


def test_the_papers_sets():
    shown, numbers = data.by_name()
    rows = shown.set_index("data set")
    assert list(rows.index) == list(numbers["data set"]) == paper_names() and not numbers.licence.isna().any()
    assert rows.loc["cifar10", ["test pictures", "pixels", "comes by"]].tolist() == ["10,000", "32", "mmcoa data get"]
    assert rows["test pictures"]["caltech101"] == "a fifth of 8,677" and rows["met by lite-clip"]["imagenet"] == "pictures"
