"""The page "Explorer" in a browser: all rows, searched, filtered and sorted, by mouse and keyboard."""

import json
import re

import pytest

from mmcoa.report import build, explorer, results, statistics, tables, tasks
from mmcoa.report.names import attack_label, method_label

pytestmark = pytest.mark.slow
HEADS = "heads => heads.map(head => head.placeholder)"
CELLS = "rows => rows.map(row => [...row.cells].map(cell => cell.innerText))"


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
    place = page.eval_on_selector_all("table.explorer thead input", HEADS).index(name)
    return [cells[place] for cells in page.eval_on_selector_all("table.explorer tbody tr", CELLS)]


def test_all_rows_are_there_in_a_small_page_and_a_search_leaves_those_that_fit(page, site):
    everything = len(explorer.rows(results.load(build.MAIN)))
    assert count(page) == (everything, everything) and (site / "explorer.html").stat().st_size < 1.6e6
    page.fill(".dt-search input", "TeCoA")
    page.wait_for_function("document.querySelector('.dt-info').innerText.includes('filtered')")
    fit = count(page)[0]
    assert 0 < fit < everything and set(column(page, "model")) == {"TeCoA"}
    page.locator("thead input[placeholder=attack]").press_sequentially("image")
    page.wait_for_function(
        "[...document.querySelectorAll('table.explorer tbody tr')].every(row => row.innerText.includes('image'))"
    )
    assert 0 < count(page)[0] < fit


def test_the_keyboard_reaches_every_control(page):
    page.focus(".dt-search input")
    reached = set()
    for _ in range(30):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.placeholder || document.activeElement.className"))
    assert {"model", "data set", "attack", "accuracy", "interval"} <= reached
    assert any("dt-paging-button" in name for name in reached)


def test_the_chart_shows_the_data_set_that_is_chosen(page):
    main = results.load(build.MAIN)
    drawn = "document.querySelector('#chart').data.map(one => [one.name, one.x, one.y])"
    before = page.evaluate(drawn)
    page.select_option("#chart-set", label="cifar10")
    page.wait_for_function(f"JSON.stringify({drawn}[0][1]) !== {json.dumps(json.dumps(before[0][1]).replace(' ', ''))}")
    frames = {"cifar10": tables.per_set(main.rows[main.rows.dataset == "photos/cifar10"]).rename(columns={"accuracy": "value"})}
    frames["mean"] = statistics.levels(main, tasks.macro_sets(main))
    for shown, frame in ((before, frames["mean"]), (page.evaluate(drawn), frames["cifar10"])):
        own = {(attack_label(row.attack), method_label(row.method)): row.value for row in frame.itertuples()}
        found = {(attack, method): x for attack, xs, methods in shown for x, method in zip(xs, methods, strict=True)}
        assert found == pytest.approx(own)
