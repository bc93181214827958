"""Single pictures of the gallery as figures, and the worked example."""

import pytest

from mmcoa.report import gallery, style, worked


@pytest.fixture
def source(folder):
    return gallery.folder_of("rich", folder)


@pytest.fixture
def content(source):
    return gallery.load(source)


def test_the_example_is_the_first_that_every_attack_breaks(content):
    one = worked.choose(content)
    assert (one["kind"], one["sample_id"], one["class_name"]) == ("each", 3, "duck")
    few = content | {"examples": [each for each in content["examples"] if each["kind"] != "each"]}
    assert worked.choose(few) is None


def test_tables_hold_the_right_class_and_every_winner(content):
    one = worked.choose(content)
    table = worked.probabilities_table(one).set_index("class")
    assert list(table.index) == ["duck ✓", "crow", "owl"] and list(table.columns) == ["clean", "image", "text", "sequential"]
    assert table.loc["owl", "clean"] == "–" and table.loc["duck ✓", "image"] == "0"
    (row,) = worked.prompts_table(one).to_dict("records")
    assert row["prompt $t_y$"] == "This is a [photo]{.was} of a duck" and "{.now}" in row["adversarial prompt $t'_y$"]


def test_phrases(content):
    found = worked.facts(content, worked.choose(content))
    assert all(isinstance(text, str) and text for text in found.values())
    assert found["says_image"].startswith("“crow”") and found["right_image"] == "0 %, rank 7"
    assert found["edits"] == "replaces “photo” by “snap<i>shot”" and found["amplified"] == "10"


def test_one_broken_picture_a_data_set(content):
    found = worked.broken(content)
    assert [(one["dataset"], one["kind"]) for one in found] == [("openmoji/birds", "image"), ("photos/caltech101", "image")]


def test_pictures_are_windows_of_the_sheets(content, source):
    picture = worked.crop(content, source, "none", [8, 16, 8, 8])
    assert picture.shape == (8, 8, 3) and abs(picture - 128 / 255).max() < 0.01


def test_figures_are_the_same_each_time(content, source, tmp_path):
    one = worked.choose(content)
    for draw in (
        lambda: worked.bars_figure(content, one, source),
        lambda: worked.images_figure(content, worked.broken(content), source),
    ):
        first, second = (style.save(draw(), tmp_path / f"{name}.svg").read_bytes() for name in "ab")
        assert first == second and first.count(b"<image") in (4, 6)
