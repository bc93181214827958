"""What a reader can do on the pages: sort, scroll, search."""

import pytest

pytestmark = pytest.mark.slow


def test_a_click_on_a_header_sorts_the_table(open_page):
    """By the first number of a cell."""
    page = open_page("impact.html")
    values = """() => [...document.querySelector("table.sortable").tBodies[0].rows].map(row =>
        parseFloat(row.cells[1].innerText.replace(",", "")))"""
    before = page.evaluate(values)
    header = page.locator("table.sortable").first.locator("thead th").nth(1)
    for _ in range(2):
        header.click()
        page.wait_for_timeout(200)  # it may sort in its own time
        after = page.evaluate(values)
        assert after in (sorted(before), sorted(before, reverse=True)) and after != before
        before = after


def test_a_table_that_scrolls_takes_the_focus(open_page):
    """In a narrow window; in a wide one, where it fits, it does not stop who walks through the page with the keyboard."""
    page = open_page("out_of_distribution.html", viewport={"width": 375, "height": 900})
    page.wait_for_timeout(200)
    box = page.locator("[data-scrolls][aria-label*=Table]").first
    assert box.get_attribute("tabindex") == "0" and "Table" in box.get_attribute("aria-label")
    page.set_viewport_size({"width": 1400, "height": 900})
    page.wait_for_timeout(200)
    fits = page.evaluate("[...document.querySelectorAll('[data-scrolls]')].every(box => box.scrollWidth > box.clientWidth)")
    assert fits


def test_search_finds_a_page(open_page):
    page = open_page("search.html?q=epsilon")
    page.wait_for_selector("#search-results li a", timeout=10_000)
    assert page.locator("#search-results li").count() >= 1
