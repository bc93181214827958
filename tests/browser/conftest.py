"""The published book and a headless Chromium. Where there is none these tests are skipped; .ci/run installs it."""

from pathlib import Path

import pytest

from mmcoa.errors import UserError
from mmcoa.report import pdf

from .visiting import visit


@pytest.fixture(scope="package")
def browser():
    """A running browser, closed with this folder's last test: its event loop would stop the notebooks of other tests."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (extra dev)")
    try:
        path = pdf.find_browser()
    except UserError as error:
        pytest.skip(str(error))
    with playwright.sync_playwright() as started:
        running = started.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield running
        running.close()


@pytest.fixture(scope="package")
def book(browser, request):
    """Folder of the published book. Needs the browser: nothing is built to be skipped."""
    return request.getfixturevalue("published")


@pytest.fixture(scope="package")
def site(book):
    """Folder of its pages."""
    return book / "_build" / "html"


@pytest.fixture(scope="package")
def axe():
    """axe-core's script, which judges accessibility."""
    package = pytest.importorskip("axe_playwright_python", reason="axe-playwright-python is not installed (extra dev)")
    return (Path(package.__file__).parent / "axe.min.js").read_text(encoding="utf8")


@pytest.fixture(scope="package")
def visits(site, browser, axe):
    """{page: what `visit` returns}: each page of the book, opened once from disk."""
    return {path.name: visit(browser, path, axe) for path in sorted(site.glob("*.html"))}


@pytest.fixture
def open_page(site, browser):
    """Function that opens a page of the book: name, with a query where it has one, then options of the browser's `new_page`."""

    def opener(name, **options):
        page = browser.new_page(**options)
        page.goto(f"{site.as_uri()}/{name}")
        return page

    return opener
