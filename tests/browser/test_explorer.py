"""The page "Explorer" in a browser: all rows, searched, filtered and sorted, by mouse and keyboard."""

import re

import pytest

from mmcoa.report import build, explorer, results

pytestmark = pytest.mark.slow


@pytest.fixture
def page(open_page):
    page = open_page("explorer.html", viewport={"width": 1400, "height": 900})
    page.wait_for_selector("table.explorer.dataTable tbody tr")
    return page


def count(page):
    """(rows that fit, all rows), as the line above the table says."""
    found = re.findall(r"[\d,]+(?= (?:total )?entries)", page.inner_text(".dt-info"))
    return tuple(int(number.replace(",", "")) for number in (found[0], found[-1]))


def column(page, name):
    """Texts of a column in view."""
    place = page.eval_on_selector_all(
        "table.explorer thead input", "(all, name) => all.findIndex(e => e.placeholder === name)", name
    )
    return page.eval_on_selector_all(
        "table.explorer tbody tr", "(rows, place) => rows.map(row => row.cells[place].innerText)", place
    )


def test_all_rows_are_there_in_a_small_page(page, site):
    assert count(page) == (len(explorer.rows(results.load(build.MAIN))),) * 2
    assert (site / "explorer.html").stat().st_size < 1.5e6


def test_a_search_and_filters_leave_the_rows_that_fit(page):
    everything = count(page)[1]
    page.fill(".dt-search input", "TeCoA")
    page.wait_for_function("document.querySelector('.dt-info').innerText.includes('filtered')")
    fit = count(page)[0]
    assert 0 < fit < everything and set(column(page, "model")) == {"TeCoA"}
    page.locator("thead input[placeholder=attack]").press_sequentially("image")
    page.wait_for_function(
        "[...document.querySelectorAll('table.explorer tbody tr')].every(row => row.innerText.includes('image'))"
    )
    assert 0 < count(page)[0] < fit
    page.fill(".dt-search input", "no such words")
    page.wait_for_selector("table.explorer td.dt-empty")


def test_a_click_sorts(page):
    head = page.locator("table.explorer thead th:has(input[placeholder=accuracy])")
    head.locator(".dt-column-order").click()
    page.wait_for_selector("table.explorer thead th.dt-ordering-asc")
    values = [float(text) for text in column(page, "accuracy")]
    assert values == sorted(values)


def test_the_keyboard_reaches_every_control(page):
    page.focus(".dt-search input")
    reached = set()
    for _ in range(30):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.placeholder || document.activeElement.className"))
    assert {"model", "data set", "attack", "accuracy", "interval"} <= reached
    assert any("dt-paging-button" in name for name in reached)


def test_the_chart_shows_the_data_set_that_is_chosen(page):
    place = "document.querySelector('#chart').data[0].x"
    mean = page.evaluate(place)
    page.select_option("#chart-set", label="cifar10")
    page.wait_for_function(f"{place}[0] !== {mean[0]}")
    rows = results.load(build.MAIN).rows
    clean = rows[(rows.dataset == "photos/cifar10") & (rows.attack == "clean") & (rows.method == "none")]
    assert page.evaluate(place)[0] == clean.accuracy.item()
