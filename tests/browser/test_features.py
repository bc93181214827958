"""What a reader can do on the pages: sort, choose, look. A feature that the built book lacks is skipped."""

import re

import pytest

pytestmark = pytest.mark.slow

NUMBER = re.compile(r"^[^\w−-]*([−-]?\d+(?:[.,]\d+)*)")


def pages_with(site, text):
    return [path.name for path in sorted(site.glob("*.html")) if text in path.read_text(encoding="utf8")]


def cells(table, column):
    return table.evaluate(
        "(table, column) => [...table.tBodies[0].rows].map(row => row.cells[column].textContent.trim())", column
    )


def value(cell):
    """What a cell is sorted by: its first number, else its words."""
    found = NUMBER.match(cell)
    return (0, float(found[1].replace("−", "-").replace(",", "")), "") if found else (1, 0.0, cell.lower())


def test_a_click_on_a_header_sorts_the_table(site, open_page):
    for name in pages_with(site, "sortable"):
        page = open_page(name)
        table = page.query_selector("table.sortable")
        if table is None:
            continue
        for column, header in enumerate(table.query_selector_all("thead th")):
            before = cells(table, column)
            if len(set(map(value, before))) < 3 or len({value(cell)[0] for cell in before}) > 1 or not header.is_visible():
                continue
            header.click()
            page.wait_for_timeout(200)  # it may sort in its own time
            once = [value(cell) for cell in cells(table, column)]
            header.click()
            page.wait_for_timeout(200)
            twice = [value(cell) for cell in cells(table, column)]
            assert sorted([once, twice]) == sorted([sorted(once), sorted(once, reverse=True)]), (name, column)
            return
    pytest.skip("the book has no sortable table")


def test_the_gallery_shows_pictures(site, open_page):
    names = [path.name for path in site.glob("*gallery*.html")]
    if not names:
        pytest.skip("the book has no page of examples")
    page = open_page(names[0])
    shown = page.evaluate(
        "[...document.querySelectorAll('article img, article canvas')].filter(e => (e.naturalWidth || e.width) > 0).length"
    )
    assert shown >= 2


def test_a_table_that_scrolls_takes_the_focus(site, open_page):
    """In a narrow window; in a wide one, where it fits, it does not stop who walks through the page with the keyboard."""
    for name in pages_with(site, "csv-table") or pages_with(site, "<caption>"):
        page = open_page(name, viewport={"width": 375, "height": 900})
        page.wait_for_timeout(200)
        box = page.locator("[data-scrolls][aria-label*=Table]").first
        if box.count():
            break
    else:
        pytest.skip("no table of the book is wider than a telephone")
    assert box.get_attribute("tabindex") == "0" and "Table" in box.get_attribute("aria-label")
    page.set_viewport_size({"width": 1400, "height": 900})
    page.wait_for_function("document.querySelectorAll('[data-scrolls]').length === 0 || innerWidth === 1400")
    fits = page.evaluate("[...document.querySelectorAll('[data-scrolls]')].every(box => box.scrollWidth > box.clientWidth)")
    assert fits


def test_search_finds_a_page(open_page):
    page = open_page("search.html?q=epsilon")
    page.wait_for_selector("#search-results li a", timeout=10_000)
    assert page.locator("#search-results li").count() >= 1
