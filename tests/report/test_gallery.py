"""The page "Gallery" from a made-up gallery: what it says, that it hurts no markup, and that every picture has words."""

import re
import shutil
from html import unescape
from html.parser import HTMLParser

import pytest

from mmcoa.errors import UserError
from mmcoa.report import gallery


@pytest.fixture
def content(folder):
    return gallery.load(gallery.folder_of("rich", folder))


@pytest.fixture
def html(content):
    return gallery.page(content, "figures/gallery")


class Tags(HTMLParser):
    """Checks that what is opened is closed, and keeps the text outside scripts."""

    def __init__(self, html):
        super().__init__()
        self.open, self.seen, self.text = [], [], []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.seen.append((tag, dict(attributes)))
        if tag != "img":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "script" not in self.open:
            self.text.append(data)


def words(html):
    return re.sub(r"\s+", " ", " ".join(Tags(html).text))


def test_markup_is_whole_and_names_are_escaped(html):
    tags = Tags(html)
    assert tags.open == []
    assert {tag for tag, _ in tags.seen} == {
        *("div", "form", "label", "select", "option", "output", "section", "h3", "p", "figure", "figcaption"),
        *("b", "span", "img", "ol", "li", "i", "script"),
    }
    assert 'fish & "chips" <b>' in words(html) and "&lt;b&gt;" in html and '"chips"' not in html
    assert '<span class="now">snap&lt;i&gt;shot</span>' in html and '<span class="was">photo</span>' in html
    assert (
        html.count('class="was"') == html.count('class="now"') == 2 * 2 * 4
    )  # two data sets and models, four of five prompts are changed
    assert html.count("The text attack leaves it as it is.") == 2 * 2


def test_every_picture_says_what_is_seen(html, content):
    images = [attributes for tag, attributes in Tags(html).seen if tag == "img"]
    assert len(images) == 10 * 2 * (1 + 2 + 1 + 2)
    for attributes in images:
        assert attributes["src"].startswith("figures/gallery/") and len(attributes["alt"]) > 20
    said = [attributes["alt"] for attributes in images]
    one = content["examples"][1]  # broken by the image attack
    found = one["models"]["none"]["attacks"]["image"]["top"][0]
    assert f"duck, adversarial picture. undefended, image attack: says crow with {gallery.percent(found[1])}." in said
    assert (
        sum("clean picture" in text for text in said) == 2 * 2 * 10
        and sum("Perturbation" in text for text in said) == 2 * 2 * 10
    )


def test_tiles_are_windows_on_the_sheet(content):
    content["sheets"]["none"] |= {"width": 256, "height": 640}
    made = gallery.tile(content, "none", [64, 128, 64, 64], "words", "figures/gallery")
    assert "--w:400%;--x:-100%;--y:-200%" in made and 'src="figures/gallery/none.webp"' in made


def test_predictions(content):
    one = content["examples"][1]
    right, wrong = (one["models"]["none"]["attacks"][attack] for attack in ("clean", "image"))
    text = words(gallery.predictions(one, right))
    assert text.startswith("duck") and "rank" not in text and text.endswith("all others 10 %")
    html = gallery.predictions(one, wrong)
    assert "<li class=own><b>duck (rank 7)</b>" in html and "&lt;\u00a00.1\u00a0%" in html and html.count("<li") == 4
    widths = [float(width) for width in re.findall(r"width:([\d.]+)%", html)]
    assert widths == pytest.approx([100 * wrong["top"][0][1], 100 * wrong["top"][1][1], 0.04, 10 - 0.04], abs=0.06)
    assert [gallery.percent(value) for value in (0.931, 0.0996, 0.014, 0.0009, 0)] == [
        "93\u00a0%",
        "10\u00a0%",
        "1.4\u00a0%",
        *["<\u00a00.1\u00a0%"] * 2,
    ]


def test_verdicts_are_told_without_colour(html, content):
    rights = [
        found["correct"] for one in content["examples"] for made in one["models"].values() for found in made["attacks"].values()
    ]
    assert html.count("✓ right") == sum(rights) and html.count("✗ wrong") == len(rights) - sum(rights) > 0


def test_choosers_offer_what_is_there(html, content):
    options = re.findall(r'<option value="([^"]*)">', html)
    assert options == ["", "openmoji/birds", "photos/caltech101", "", *content["kinds"]]
    sections = re.findall(r'data-dataset="([^"]+)" data-kind="([^"]+)"', html)
    assert sections == [(one["dataset"], one["kind"]) for one in content["examples"]]
    assert "<form hidden" in html  # without a script all pictures are there, and nothing to choose by
    assert "fetch(" not in html and "http" not in html and "import " not in html


def test_pictures_that_may_not_be_shown_are_refused(content):
    content["examples"][0]["dataset"] = "photos/cifar10"
    with pytest.raises(UserError, match="photos/cifar10' may not be shown"):
        gallery.page(content, "figures/gallery")


def test_tables(content):
    kinds = gallery.kinds_table(content)
    assert (
        kinds["pictures"].tolist() == ["6"] * 5
        and kinds["share"].tolist() == ["20 %"] * 5
        and kinds["shown here"].tolist() == ["2"] * 5
    )
    models = gallery.models_table(content)
    assert models.model.tolist() == ["undefended", "TeCoA, seed 0"] and models["trained on"].tolist() == ["–", "birds"]
    assert models[["n", "clean", "image", "text", "sequential"]].to_numpy().tolist() == [["10", "10", "6", "6", "2"]] * 2


def test_facts(content):
    facts = gallery.facts(content, "rich")
    assert facts["gallery_shown"] == "10" and facts["gallery_right"] == "30" and facts["gallery_looked"] == "20"
    assert facts["gallery_models"] == "undefended and TeCoA, seed 0"
    assert (
        facts["gallery_compared"].startswith("Of 160 outcomes") and "models (undefended), pictures" in facts["gallery_compared"]
    )
    assert facts["gallery_compared"].endswith("1 came out otherwise here: undefended, birds, picture 3, image.")
    assert "OpenMoji" in facts["gallery_credits"] and "Caltech-101" in facts["gallery_credits"]
    assert facts["gallery_commit"] == "0123456" and facts["gallery_study"] == "rich"


def test_nothing_to_compare_with(content):
    content["compared"] = {"outcomes": 0, "models": [], "differ": []}
    assert "stored no outcome" in gallery.facts(content, "rich")["gallery_compared"]


def test_names_of_models():
    names = {"none": "none", "mmcoa-seed0": "mmcoa", "tecoa-caltech-seed1": "tecoa"}
    labels = [gallery.model_label({"name": name, "defense": defense}) for name, defense in names.items()]
    assert labels == ["undefended", "MMCoA, seed 0", "TeCoA (caltech), seed 1"]


def test_sheets_are_copied_and_older_ones_go(content, folder, tmp_path):
    (tmp_path / "gallery").mkdir()
    (tmp_path / "gallery" / "older.webp").touch()
    gallery.copy_sheets(content, gallery.folder_of("rich", folder), tmp_path / "gallery")
    assert sorted(path.name for path in (tmp_path / "gallery").iterdir()) == ["clean.webp", "none.webp", "tecoa-seed0.webp"]


def test_no_gallery(folder, tmp_path):
    source = gallery.folder_of("rich", folder)
    assert gallery.there(source) and not gallery.there(gallery.folder_of("plain", folder))
    with pytest.raises(UserError, match=r"no readable gallery .*mmcoa gallery"):
        gallery.load(gallery.folder_of("plain", folder))
    copy = shutil.copytree(source, tmp_path / "copy")
    (copy / "none.webp").unlink()
    with pytest.raises(UserError, match=r"lacks none\.webp.*make it again"):
        gallery.load(copy)


def test_alt_texts_keep_their_letters(html):
    assert any('fish & "chips" <b>, clean picture' in unescape(text) for text in re.findall(r'alt="([^"]*)"', html))
