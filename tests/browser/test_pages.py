"""Every page of the published book, opened from disk in a real browser."""

from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from mmcoa.report import site as checks

from .visiting import NARROW, WIDE, judge

pytestmark = pytest.mark.slow
LOCAL = ("file:", "data:", "blob:")


def on_pages(visits, of):
    """{page: what is wrong there}, of pages where something is."""
    return {name: found for name, visit in visits.items() if (found := of(visit))}


def test_no_page_complains_lacks_a_file_or_asks_the_network(visits):
    assert not on_pages(visits, lambda visit: visit.console + visit.failed)
    assert not on_pages(visits, lambda visit: [url for url in visit.requests if not url.startswith(LOCAL)])
    assert any("report.css" in url for url in visits["index.html"].requests)


def test_what_the_first_page_loads_is_counted(visits, site):
    """`site.problems` limits its size."""
    files = (unquote(urlsplit(url).path) for url in visits["index.html"].requests if url.startswith("file:"))
    assert set(checks.first_page(site.resolve())) >= {Path(path).resolve() for path in files}


def test_equations_are_typeset_and_pictures_there_and_described(visits):
    for what in ("unrendered", "failed", "latex", "missing", "unnamed", "fonts"):
        assert not on_pages(visits, lambda visit, what=what: visit.content[what]), what


@pytest.mark.parametrize("width", [WIDE, NARROW])
def test_pages_show_something_and_do_not_scroll_sideways(visits, width):
    assert not on_pages(visits, lambda visit: visit.widths[width]["bytes"] < 10_000)
    assert not on_pages(visits, lambda visit: visit.widths[width]["sideways"] > 1)
    assert not on_pages(visits, lambda visit: visit.widths[width]["cut"])


def test_pages_are_accessible_the_first_one_in_the_dark_too(visits, open_page, axe):
    assert not on_pages(visits, lambda visit: visit.inaccessible)
    page = open_page("index.html", color_scheme="dark", viewport={"width": WIDE, "height": 900})
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    assert judge(page, axe) == []
