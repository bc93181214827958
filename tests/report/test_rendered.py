"""The published book as it is rendered: numbered tables whose data are offered, no broken link, the Python interface.

That terms, citations, labels and pages exist says Sphinx itself: the book is built with warnings as errors."""

import inspect
import re
from html import unescape

import pytest

import mmcoa
from mmcoa import defenses
from mmcoa.attacks.catalog import ATTACKS
from mmcoa.report import site as checks

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site(published):
    """Folder of the published pages."""
    return published / "_build" / "html"


@pytest.fixture(scope="module")
def articles(site):
    """{page: HTML of its article}, of pages that have one."""
    pages = {path.stem: path.read_text(encoding="utf8") for path in site.glob("*.html")}
    return {name: html.split("<article")[1].split("</article")[0] for name, html in pages.items() if "<article" in html}


def words(html):
    """Words without markup, one space between them."""
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", "", html))).strip()


def test_tables_and_figures_are_numbered_and_the_data_of_tables_offered(published, site, articles):
    sources = {path.stem: path.read_text(encoding="utf8") for path in published.glob("*.md")}
    for page, html in articles.items():
        captions = [words(text) for text in re.findall(r"<caption>(.*?)</caption>", html, re.S)]
        assert all(re.match(r"Table \d+ \S", text) for text in captions), page
        offered = re.findall(r'<p class="table-source">.*?href="([^"]+)"', html, re.S)
        shown = re.sub(r"````.*?````", "", sources.get(page, ""), flags=re.S).count("{csv-table}")  # less the examples
        assert len(offered) == len(captions) == shown, page
        assert all((site / path).is_file() for path in offered), page
        figures = [words(text) for text in re.findall(r"<figcaption>(.*?)</figcaption>", html, re.S)]
        assert all(re.match(r"Fig\. \d+ \S", text) for text in figures), page


def test_no_markup_and_no_missing_value_is_left_in_the_words(articles):
    for page, html in articles.items():
        text = re.sub(r"<(pre|code|script|style)[\s\S]*?</\1>", "", html)
        assert "`" not in text and "{glue" not in text and "None of type" not in text, page
        assert not re.search(r"\bnan\b", words(text)), page


def test_the_site_has_no_broken_link_loads_nothing_from_elsewhere_and_is_small(site):
    assert checks.problems(site)[0] == []
    index = (site / "index.html").read_text(encoding="utf8")
    assert not re.search(r'fontawesome/\S+\.js|as="font"|mathjax/', index)  # what it does not use
    assert (site / "mathjax" / "tex-mml-chtml.js").is_file()
    assert not [path for ending in ("map", "po", "mo") for path in site.rglob(f"*.{ending}")]


def plain(text):
    """Letters and digits alone: quotes, dashes and dots are set otherwise on a page."""
    return re.sub(r"\W+", "", text)


def test_the_python_interface_is_on_its_page(articles):
    html = articles["api"]
    text = words(html)
    for name in mmcoa.__all__:
        first = inspect.getdoc(getattr(mmcoa, name)).splitlines()[0]
        assert f'id="mmcoa.{name}"' in html and plain(re.sub(r" \(trap \w+\)", "", first)) in plain(text), name
    for name in ("mmcoa.attacks.catalog.find", "mmcoa.defenses.load", "mmcoa.study.profiles.load_profile"):
        assert f'id="{name}"' in html
    assert "trap" not in text and " at 0x" not in html
    assert "text_budget: int = 1# words a prompt" in text and "ids: Tensor# int64 [N]" in text
    assert re.search(r"attacks \(.*?\) – names of mmcoa\.attacks\.catalog\.", text) and "Parameters:" in text
    assert "optimizer=make_optimizer" in text  # as written, no address
    assert "Type: " not in text, "napoleon takes what stands before a colon in a `#:` comment for the field's type"
    for attack in ATTACKS.values():
        assert plain(attack.name + attack.summary + attack.source) in plain(text), attack.name
    for name in defenses.names():
        assert plain(name + defenses.describe(name)) in plain(text), name
