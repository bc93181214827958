"""Attacked pictures: of the gallery of the study main."""

import shutil

import pytest

from mmcoa.errors import UserError
from mmcoa.report import pictures, style


@pytest.fixture(scope="module")
def gallery(committed):
    return pictures.load("main", committed)


def test_a_strip_has_five_panels_and_says_right_and_wrong(gallery, tmp_path):
    content, place = gallery
    one = pictures.broken_by_all(content)
    attacks = one["models"]["none"]["attacks"]
    assert attacks["clean"]["correct"] and not attacks["image"]["correct"] and not attacks["text"]["correct"]
    figure = pictures.strip(content, place, one)
    said = [axes.get_xlabel().replace("\n", " ") for axes in figure.axes]
    tops = [attacks[name]["top"][0][0] for name in ("image", "text", "sequential")]
    assert len(said) == 5 and said[0].startswith("right: ") and said[1] == ""
    assert all(text.startswith(f"wrong: {top}") for text, top in zip(said[2:], tops, strict=True))
    assert style.save(figure, tmp_path / "one.svg").stat().st_size > 1000


def test_counts_and_credits(gallery):
    content, _ = gallery
    shown, _ = pictures.outcomes(content)
    right = [one["models"]["none"]["attacks"]["image"]["correct"] for one in content["examples"]]
    assert shown.set_index("model").image["undefended"] == sum(right) < len(right) == shown.n[0]
    shown_sets = {one["dataset"] for one in content["examples"]}
    assert all((one["attribution"] in pictures.credits(content)) == (one["name"] in shown_sets) for one in content["datasets"])
    unchanged = [not one["models"]["none"]["edits"] for one in content["examples"]]
    assert (pictures.prompts(content)[0]["after the attack"] == "as it is").tolist() == unchanged


def test_a_damaged_gallery_is_one_line(committed, tmp_path):
    copy = shutil.copytree(committed / "main" / "gallery", tmp_path / "main" / "gallery")
    (copy / "none.webp").unlink()
    with pytest.raises(UserError, match=r"lacks none\.webp; make the gallery again"):
        pictures.load("main", tmp_path)
    (copy / "gallery.json").write_text("{")
    with pytest.raises(UserError, match=r"no readable gallery .* mmcoa gallery main"):
        pictures.load("main", tmp_path)
