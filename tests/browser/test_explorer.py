"""The results explorer in a browser, opened from a file, on made-up results."""

import re
import shutil
from pathlib import Path

import nbformat
import pytest

from mmcoa.report import explorer, results, tables
from mmcoa.store import packed
from tests.report import synthetic

pytestmark = pytest.mark.slow

BOOK = Path(__file__).parents[2] / "book"
CHROMIUM = Path("/usr/bin/chromium")


@pytest.fixture(scope="module")
def explored(tmp_path_factory):
    """(study, page): the page's own markup with the data of a made-up study beside it."""
    folder = tmp_path_factory.mktemp("explorer")
    shutil.copytree(BOOK / "extra" / "explorer", folder / "explorer", ignore=shutil.ignore_patterns("stud*.js"))
    packed.write(folder / "results" / "synthetic", synthetic.study())
    study = results.load("synthetic", folder / "results")
    explorer.write(study, folder / "explorer")
    notebook = nbformat.read(BOOK.parent / "notebooks" / "report_explorer.ipynb", as_version=4)
    markup = re.findall(r"```\{raw\} html\n(.*?)```", notebook.cells[-1].source, re.S)[0]
    page = folder / "explorer.html"
    page.write_text(
        f'<!doctype html><html lang="en"><meta charset="utf8"><title>x</title><body>{markup}</body></html>', encoding="utf8"
    )
    return study, page.as_uri()


@pytest.fixture(scope="module")
def browser():
    """A browser; what needs one is skipped where there is none."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install playwright")
    if not CHROMIUM.is_file():
        pytest.skip(f"no {CHROMIUM}")
    with api.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def view(browser, explored):
    """Opens the page with a hash and returns it; an error in its script fails the test."""
    pages, errors = [], []

    def opened(hash_="", width=1400):
        page = browser.new_page(viewport={"width": width, "height": 900})
        page.on("pageerror", lambda error: errors.append(error))
        page.goto(explored[1] + hash_)
        page.wait_for_selector("#explorer tbody tr")
        pages.append(page)
        return page

    yield opened
    for page in pages:
        page.close()
    assert not errors


def cells(page):
    """The table's body, text by row."""
    rows = page.locator("[data-part=table] tbody tr").all()
    return [[cell.inner_text() for cell in row.locator("th, td").all()] for row in rows]


def accuracy(study, method, attack, dataset=None):
    """As the page writes it: `61.3 (58.2–64.1)`, and n."""
    frame = tables.macro(study) if dataset is None else tables.by_dataset(study).query("dataset == @dataset")
    row = frame[(frame.method == method) & (frame.attack == attack)].iloc[0]
    return f"{row.accuracy:.1f} ({row.low:.1f}–{row.high:.1f})", str(row.n)


def test_a_choice_changes_the_numbers_and_the_address(explored, view):
    study, page = explored[0], view("#profile=synthetic&model=mmcoa")
    for method in ("mmcoa", "none"):
        page.select_option("[name=model]", method)
        for attack in ("text", "image"):
            for box in page.locator("[name=attack]:checked").all():
                box.click()
            page.check(f"[name=attack][value={attack}]")
            text, n = accuracy(study, method, attack)
            assert cells(page) == [[attack, n, text]]
            assert page.url.endswith(f"#profile=synthetic&model={method}&attack={attack}")


def test_the_address_restores_the_view(explored, view):
    study = explored[0]
    chosen = "#profile=synthetic&model=mmcoa&against=none&dataset=openmoji/tools&attack=image,text"
    page = view(chosen)
    expected = [[attack, *accuracy(study, "mmcoa", attack, "openmoji/tools")[::-1]] for attack in ("image", "text")]
    assert [row[:3] for row in cells(page)] == expected
    assert [row[3] for row in cells(page)] == [
        accuracy(study, "none", attack, "openmoji/tools")[0] for attack in ("image", "text")
    ]
    assert page.url.endswith(chosen) and page.input_value("[data-part=link]") == page.url
    assert page.input_value("[name=against]") == "none" and page.is_checked("[name=attack][value=text]")


def test_two_models_have_a_paired_difference_of_either_sign(explored, view):
    row = tables.macro(explored[0], against="none").query("method == 'mmcoa' and attack == 'text'").iloc[0]
    there = cells(view("#profile=synthetic&model=mmcoa&against=none&attack=text"))[0][-1]
    assert there == f"{tables.signed(row.accuracy)} ({tables.signed(row.low)} to {tables.signed(row.high)})"
    back = cells(view("#profile=synthetic&model=none&against=mmcoa&attack=text"))[0][-1]
    assert back == f"{tables.signed(-row.accuracy)} ({tables.signed(-row.high)} to {tables.signed(-row.low)})"


def test_a_number_never_stands_alone(explored, view):
    page = view("#profile=synthetic&model=mmcoa&attack=sequential&dataset=openmoji/birds")
    text = page.inner_text("#explorer")
    for words in (
        "ℓ∞ ball of 2/255",
        "1 words from table:eval",
        "weights, label",
        "n: pictures",
        "95 % intervals",
        "MMCoA, mean over 2 seeds: birds",
    ):
        assert words in text, words
    page.click("summary")
    records = page.inner_text("[data-part=records]")
    for seed in (0, 1):
        assert f"mmcoa run synthetic --only mmcoa-seed{seed}__openmoji-birds" in records
    assert page.inner_text("[data-part=count]") == "2" and "cpu" in records


def test_a_sweep_is_one_row_a_value(view):
    page = view("#profile=synthetic&model=none&sweep=epsilon&attack=image")
    assert [row[0] for row in cells(page)] == ["1/255", "2/255", "4/255", "8/255"]
    assert "ℓ∞ ball of 1/255, 10 steps, 1 starts, ℓ∞ ball of 2/255" in page.inner_text("[data-part=threat]")
    page.select_option("[name=model]", "tecoa")  # which has no sweep
    assert page.input_value("[name=sweep]") == "" and "Not in these results: sweep “epsilon”" in page.inner_text(
        "[data-part=status]"
    )


def test_what_does_not_exist_is_disabled(view):
    page = view("#profile=synthetic&model=none")
    disabled = page.eval_on_selector_all(
        "option:disabled", "found => found.map((option) => option.parentNode.name + '=' + option.value)"
    )
    assert {"task=in_distribution", "task=out_of_distribution", "against=none"} <= set(disabled)
    assert page.is_disabled("[name=attack][value=square]") and page.is_enabled("[name=attack][value=text]")
    page.select_option("[name=model]", "mmcoa")
    page.select_option("[name=task]", "out_of_distribution")
    assert "macro mean over 2 data sets" in page.inner_text("[data-part=table] caption")
    page.select_option("[name=seed]", "1")
    assert "MMCoA, seed 1" in page.inner_text("[data-part=trained]") and page.url.endswith("&task=out_of_distribution&seed=1")


def test_an_address_with_what_is_not_there_says_so(view):
    page = view("#profile=nowhere&model=mmcoa&attack=sideways&dataset=%zz")
    assert "Not in these results: profile “nowhere”, attack “sideways”." in page.inner_text("[data-part=status]")
    assert page.url.endswith("#profile=synthetic&model=mmcoa") and len(cells(page)) == 4


def test_keyboard_reaches_every_control_and_nothing_is_cut_off(view):
    page = view("#profile=synthetic&model=mmcoa&against=none&dataset=each", width=375)
    page.focus("[name=model]")
    reached = set()
    for _ in range(12):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.name"))
    assert {"against", "seed", "task", "dataset", "sweep", "attack"} <= reached
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
