"""What a data set is to a model, and the one list of data sets that means out of distribution are taken over."""

import pytest

from mmcoa.datasets.records import Record, records
from mmcoa.datasets.roles import BASE, NAMES, PICTURES, UNKNOWN, UNSEEN, known_models, out_of_distribution, role
from mmcoa.study.profiles import load_profile

TINY, CIFAR, PETS = "photos/tiny-imagenet", "photos/cifar10", "photos/pets3"


def test_the_base_comes_from_the_study_and_the_rest_from_the_record():
    assert role(TINY, "lite-clip") == NAMES and role(TINY, "lite-clip", base=TINY) == BASE
    assert role(CIFAR, "lite-clip", base=TINY) == UNSEEN == role("openmoji/birds", "lite-clip")
    assert role("openmoji/birds", "openmoji-clip") == PICTURES and role("openmoji/office", "openmoji-clip") == UNSEEN
    assert role(CIFAR, "ViT-B-32/openai") == UNKNOWN == role("wds:mine", "lite-clip")
    assert role(CIFAR, "results/photos/models/photos-clip/") == PICTURES


def test_sets_of_imagenets_classes_are_no_news_to_lite_clip():
    met = {name for name in records() if role(name, "lite-clip") != UNSEEN}
    assert {f"photos/{name}" for name in ("imagenet-sample", "imagenette", "imagewoof", "tiny-imagenet")} < met
    assert not any(role(name, "lite-clip") != UNSEEN for name in ("photos/cifar100", PETS, "photos/dtd10"))


def test_a_profile_that_pretrains_has_the_roles_of_what_it_pretrains_on():
    profile = load_profile("photos")
    assert {name for name in records() if role(name, profile.base_model) == PICTURES} == set(profile.pretrain.data)
    assert profile.base_model in known_models()


def test_a_role_that_does_not_exist_is_refused():
    about = records()[CIFAR].model_dump() | {"roles": {"lite-clip": "base"}}
    with pytest.raises(ValueError, match="roles.lite-clip"):
        Record(**about)


def test_out_of_distribution_is_unseen_no_base_and_over_three_times_chance():
    classes = {TINY: 200, "photos/imagenette": 10, CIFAR: 10, "photos/caltech101": 101, "photos/mnist": 10, PETS: 3}
    clean = {TINY: 40.0, "photos/imagenette": 86.0, CIFAR: 30.1, "photos/caltech101": 41.0, "photos/mnist": 30.0, PETS: 99.9}
    assert out_of_distribution("lite-clip", [TINY], classes, clean) == (CIFAR, "photos/caltech101")
    assert out_of_distribution("lite-clip", [TINY, CIFAR], classes, clean) == ("photos/caltech101",)
    assert out_of_distribution("lite-clip", [], classes, {}) == (CIFAR, "photos/caltech101", "photos/mnist", PETS)


def test_a_model_that_has_met_every_set_is_judged_where_it_was_not_fine_tuned():
    classes = {"openmoji/others": 819, "openmoji/birds": 21, "openmoji/tools": 25}
    clean = dict.fromkeys(classes, 90.0)
    assert out_of_distribution("openmoji-clip", ["openmoji/others"], classes, clean) == ("openmoji/birds", "openmoji/tools")
    assert out_of_distribution("openmoji-clip", ["openmoji/others"], classes, clean | {"openmoji/birds": 14.0}) == (
        "openmoji/tools",
    )
