import pytest

from mmcoa.errors import UserError
from mmcoa.prompts import class_prompts, clean_name, duplicate_prompts


@pytest.mark.parametrize("raw,clean", [("Faces_easy", "faces easy"), ("yin-yang", "yin yang"), ("n/a", "n a"), (" Cat ", "cat")])
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
