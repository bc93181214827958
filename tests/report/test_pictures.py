"""Attacked pictures: of a made-up gallery."""

import shutil

import pytest

from mmcoa.errors import UserError
from mmcoa.report import pictures, style


@pytest.fixture(scope="module")
def gallery(folder):
    return pictures.load("rich", folder)


def test_a_strip_has_five_panels_and_says_right_and_wrong(gallery, tmp_path):
    content, place = gallery
    one = pictures.broken_by_all(content)
    attacks = one["models"]["none"]["attacks"]
    assert attacks["clean"]["correct"] and not attacks["image"]["correct"] and not attacks["text"]["correct"]
    figure = pictures.strip(content, place, one)
    said = [axes.get_xlabel().replace("\n", " ") for axes in figure.axes]
    assert len(said) == 5 and said[0].startswith("right: duck") and said[2].startswith("wrong: crow") and said[1] == ""
    assert style.save(figure, tmp_path / "one.svg").stat().st_size > 1000


def test_counts_and_credits(gallery):
    content, _ = gallery
    shown, _ = pictures.outcomes(content)
    assert shown.clean.eq(10).all() and shown.image.eq(6).all()
    assert "CC BY-SA 4.0" in pictures.credits(content) and "CC BY 4.0" in pictures.credits(content)
    assert (pictures.prompts(content)[0]["after the attack"] == "as it is").sum() == 2


def test_a_damaged_gallery_is_one_line(folder, tmp_path):
    copy = shutil.copytree(folder / "rich" / "gallery", tmp_path / "rich" / "gallery")
    (copy / "none.webp").unlink()
    with pytest.raises(UserError, match=r"lacks none\.webp; make the gallery again"):
        pictures.load("rich", tmp_path)
    (copy / "gallery.json").write_text("{")
    with pytest.raises(UserError, match=r"no readable gallery .* mmcoa gallery rich"):
        pictures.load("rich", tmp_path)
