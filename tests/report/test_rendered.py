"""The published book as it is rendered: numbered tables whose data are offered, described pictures, nothing from elsewhere."""

import re

import pytest

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


def plain(html):
    return re.sub(r"<[^>]+>", "", html).strip()


def test_tables_are_numbered_and_their_data_offered(site, articles):
    count = 0
    for page, html in articles.items():
        captions = [plain(text) for text in re.findall(r"<caption>(.*?)</caption>", html, re.S)]
        assert all(re.match(r"Table \d+ \S", text) for text in captions), page
        offered = re.findall(r'<p class="table-source">.*?href="([^"]+)"', html, re.S)
        assert len(offered) == len(captions) and all((site / path).is_file() for path in offered), page
        count += len(captions)
    assert count


def test_figures_are_numbered_and_described(articles):
    for page, html in articles.items():
        figures = [plain(text) for text in re.findall(r"<figcaption>(.*?)</figcaption>", html, re.S)]
        assert all(re.match(r"Fig\. \d+ \S", text) for text in figures), page
        assert all(re.search(r'alt="[^"]', tag) for tag in re.findall(r"<img[^>]*>", html)), page


def test_no_markup_and_no_missing_value_is_left_in_the_words(articles):
    for page, html in articles.items():
        words = re.sub(r"<(pre|code|script|style)[\s\S]*?</\1>", "", html)
        assert "`" not in words and "{glue" not in words and "None of type" not in words, page
        assert not re.search(r"\bnan\b", plain(words)), page


def test_pages_need_no_network_and_carry_nothing_that_none_asks_for(site):
    loaded = re.compile(
        r'<(?:script|link|img|iframe)[^>]*(?:src|href)="(?:https?:)?//[^"]*"|url\(["\']?https?:|@import[^;]*https?:'
    )
    hosts = re.compile(r"https?://[\w.]*(?:unpkg|jsdelivr|cdnjs|googleapis|gstatic)")
    for path in [*site.glob("*.html"), *site.rglob("_static/**/*.css")]:
        text = path.read_text(encoding="utf8")
        assert not loaded.search(text) and not hosts.search(text), path.name
    assert (site / "mathjax" / "tex-mml-chtml.js").is_file()
    assert not [*site.rglob("*.map"), *site.rglob("*.po"), *site.rglob("*.mo")]
