import json
from pathlib import Path

import open_clip
import pytest
import torch

from mmcoa.datasets.records import class_list, paper_names, records, template_list
from mmcoa.errors import UserError
from mmcoa.evaluation.prompts import class_embeddings
from mmcoa.prompts import class_prompts, clean_name, duplicate_prompts, record_prompts


@pytest.mark.parametrize(
    "raw,clean", [("Faces_easy", "faces easy"), ("yin-yang", "yin yang"), ("n/a", "n a"), (" Cat ", "cat")]
)
def test_names_are_cleaned_as_the_reference_does(raw, clean):
    assert clean_name(raw) == clean


def test_templates_of_both_layouts():
    assert class_prompts(["Sea_lion"], "a {}.") == class_prompts(["Sea_lion"], "a {c}.") == ["a sea lion."]
    with pytest.raises(UserError, match="no {}"):
        class_prompts(["a"], "a photo")


def test_duplicates_are_listed():
    """Trap E4: ImageNet's two cranes."""
    assert duplicate_prompts(class_prompts(["crane", "Crane", "dog"], "a {}")) == ["a crane"]


def test_a_data_set_with_duplicates_warns(tmp_path):
    import mmcoa
    from tests.datasets.test_webdataset import write_folder

    folder = write_folder(tmp_path / "wds", [(8, 8)] * 2, [0, 1], classes=("crane", "Crane"))
    with pytest.warns(UserWarning, match="a photo of a crane"):
        mmcoa.load_dataset(f"wds:{folder}")


GOLDEN = Path(__file__).parent / "datasets" / "golden"


def known_names(name):
    return [label for _, label in class_list(records()[name].names)]


@pytest.mark.parametrize("name", paper_names())
def test_prompts_of_the_paper_s_data_sets(name):
    """The reference's rules, against prompts that were written out by another program."""
    expected = json.loads((GOLDEN / "prompts.json").read_text(encoding="utf8"))
    assert record_prompts(records()[name], known_names(name)) == [expected[name]]
    shared = json.loads((GOLDEN / "duplicates.json").read_text(encoding="utf8"))
    assert duplicate_prompts(expected[name]) == sorted(shared.get(name, []))


def test_the_paper_s_data_sets_are_those_of_its_public_code():
    assert set(json.loads((GOLDEN / "prompts.json").read_text(encoding="utf8"))) == set(paper_names())
    assert all(len(known_names(name)) == record.classes for name, record in records().items() if record.names)


def test_the_ensemble_of_imagenet_is_open_clip_s(tiny):
    """Templates, names and the mean embedding of each class."""
    assert [one.format("cat") for one in template_list("imagenet")] == [
        make("cat") for make in open_clip.OPENAI_IMAGENET_TEMPLATES
    ]
    sets = record_prompts(records()["imagenet"], known_names("imagenet"), "openclip")
    assert len(sets) == 80 and [prompts[134] for prompts in sets][:1] == ["a bad photo of a crane bird."]
    names, makers = list(open_clip.IMAGENET_CLASSNAMES[:6]), open_clip.OPENAI_IMAGENET_TEMPLATES[:5]
    weights = open_clip.build_zero_shot_classifier(
        tiny.clip, tiny.tokenizer, names, makers, num_classes_per_batch=None, device="cpu"
    )
    ours = class_embeddings(tiny, [prompts[:6] for prompts in sets[:5]])
    assert torch.allclose(ours, weights.T, atol=1e-5)  # unit vectors in single precision


def test_presets_and_own_templates():
    cars = records()["cars"]
    assert record_prompts(cars, ["Audi S4 Sedan 2012"]) == [["A photo of a audi s4 sedan."]]
    assert record_prompts(cars, ["Audi S4 Sedan 2012"], template="my {}") == [["my audi s4 sedan"]]
    assert record_prompts(cars, known_names("cars"), "openclip")[0][0] == "a photo of a AM General Hummer SUV 2000."
    with pytest.raises(UserError, match="unknown prompt preset 'opencilp'; nearest: openclip"):
        record_prompts(cars, ["x"], "opencilp")
    with pytest.raises(UserError, match="has no prompts of the preset 'openclip'"):
        record_prompts(records()["openmoji/birds"], ["x"], "openclip")


def test_duplicates_can_be_an_error(tmp_path):
    import mmcoa
    from tests.datasets.test_webdataset import write_folder

    folder = write_folder(tmp_path / "wds", [(8, 8)] * 2, [0, 1], classes=("crane", "Crane"))
    with pytest.raises(UserError, match="no classifier can tell"):
        mmcoa.load_dataset(f"wds:{folder}", strict=True)
