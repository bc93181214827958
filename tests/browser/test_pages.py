"""Every page of the published book, opened from disk in a real browser."""

import gzip
import io
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest
import yaml
from PIL import Image

from mmcoa.report import site as checks

from .conftest import BOOK
from .visiting import NARROW, WIDE, judge

pytestmark = pytest.mark.slow


def on_pages(visits, of):
    """{page: what is wrong there}, of pages where something is."""
    return {name: found for name, visit in visits.items() if (found := of(visit))}


def files_asked_for(visit):
    """Files on disk that a page loaded, itself among them."""
    return {Path(unquote(urlsplit(url).path)).resolve() for url in visit.requests if url.startswith("file:")}


def test_every_page_of_the_contents_is_visited(visits):
    toc = yaml.safe_load((BOOK / "_toc.yml").read_text(encoding="utf8"))
    wanted = [toc["root"], *(chapter["file"] for part in toc["parts"] for chapter in part["chapters"])]
    assert {f"{name}.html" for name in wanted} <= set(visits) and "search.html" in visits


def test_no_page_complains_or_lacks_a_file(visits):
    assert not on_pages(visits, lambda visit: visit.console)
    assert not on_pages(visits, lambda visit: visit.failed)


def test_no_page_asks_the_network(visits):
    assert not on_pages(
        visits, lambda visit: [url for url in visit.requests if not url.startswith(("file:", "data:", "blob:"))]
    )
    assert any(url.endswith("report.css") or "report.css?" in url for url in visits["index.html"].requests)


def test_equations_are_typeset(visits):
    assert not on_pages(visits, lambda visit: visit.content["unrendered"] + visit.content["failed"])
    assert not on_pages(visits, lambda visit: visit.content["latex"])
    with_mathjax = {name for name, visit in visits.items() if any("/mathjax/" in url for url in visit.requests)}
    assert {"threat.html", "method.html"} <= with_mathjax and "index.html" not in with_mathjax


def test_pictures_are_there_and_described(visits):
    assert not on_pages(visits, lambda visit: visit.content["missing"])
    assert not on_pages(visits, lambda visit: visit.content["unnamed"])
    assert not on_pages(visits, lambda visit: visit.content["fonts"])


@pytest.mark.parametrize("width", [WIDE, NARROW])
def test_no_page_scrolls_sideways(visits, width):
    wide = on_pages(visits, lambda visit: visit.widths[width]["page"] > visit.widths[width]["window"] + 1)
    assert not wide
    assert not on_pages(visits, lambda visit: visit.widths[width]["cut"])
    assert not on_pages(visits, lambda visit: visit.widths[width]["captions"])  # a table scrolls, its caption does not


@pytest.mark.parametrize("width", [WIDE, NARROW])
def test_pages_show_something(visits, width):
    """Text and its background: at least a hundredth of the window in view is not the commonest colour."""
    for name, visit in visits.items():
        pixels = np.asarray(Image.open(io.BytesIO(visit.shots[width])).convert("L"))
        assert pixels.shape == (900, width), name
        commonest = np.bincount(pixels.ravel(), minlength=256).max()
        assert 0.3 < commonest / pixels.size < 0.99, name


def test_pages_are_accessible(visits, axe):
    if axe is None:
        pytest.skip("axe-core is not installed (extra dev: axe-playwright-python)")
    assert not on_pages(visits, lambda visit: visit.inaccessible)


def test_the_first_page_is_accessible_in_the_dark(open_page, axe):
    if axe is None:
        pytest.skip("axe-core is not installed (extra dev: axe-playwright-python)")
    page = open_page("index.html", color_scheme="dark", viewport={"width": WIDE, "height": 900})
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    assert judge(page, axe) == []


def test_what_the_first_page_really_loads_is_small(visits):
    """Files that the browser asked for, gzipped; `site.sizes` must not count fewer."""
    loaded = sum(len(gzip.compress(path.read_bytes(), 6)) for path in files_asked_for(visits["index.html"]))
    assert 50e3 < loaded <= checks.LIMITS["first page"]


def test_the_site_has_no_broken_link_and_is_small(site, visits):
    assert checks.problems(site)[0] == []
    assert set(checks.first_page(site.resolve())) >= files_asked_for(visits["index.html"])
