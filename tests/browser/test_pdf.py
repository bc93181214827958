"""The report on paper, as a browser prints it."""

import re
import shutil
import subprocess

import pikepdf
import pytest

from mmcoa.cli import main as cli
from mmcoa.report import pdf, publish, site

pytestmark = pytest.mark.slow

A4 = (594, 841)  # points, rounded down
TEXT_WIDTH = 176 / 25.4 * 96  # pixels; A4 less the margins of paper.css
WIDER = """() => [...document.querySelectorAll("article table, article img, article pre, article .math")].filter(e => {
  const box = e.closest(".wide") || document.body;
  return e.getBoundingClientRect().width > box.clientWidth + 2;
}).map(e => e.id || e.outerHTML.slice(0, 100))"""


@pytest.fixture(scope="module")
def printed(book, tmp_path_factory):
    """Folder of the site with its PDF."""
    folder = shutil.copytree(book / "_build" / "html", tmp_path_factory.mktemp("site") / "site")
    publish.add_pdf(folder, book)
    return folder


def test_the_pdf_holds_the_whole_book_and_the_first_page_links_to_it(printed, book):
    html = (printed / "index.html").read_text(encoding="utf8")
    shown = re.search(r'<p class="edition"><a href="report.pdf">.*?</a> \((\d+) pages, ([\d.]+) MB\)</p>', html)
    with pikepdf.open(printed / publish.PDF) as document:
        assert 10 < len(document.pages) == int(shown[1]) <= 60
        assert {tuple(sorted(int(side) for side in page.mediabox[2:])) for page in document.pages} == {A4}  # upright, or lying
        assert document.Root.MarkInfo.Marked  # a screen reader finds headings and cells
        links = [one.get("/A", {}) for page in document.pages for one in page.get("/Annots", [])]
        addresses = [str(link.URI) for link in links if "/URI" in link]
    assert addresses and not any(one.startswith("file:") or str(book) in one for one in addresses)  # no link to this machine
    assert site.problems(printed)[0] == []


def test_the_page_for_paper_is_typeset_and_fits(printed, book, browser):
    page = browser.new_page()
    page.goto((book / "_build" / "singlehtml" / "paper.html").as_uri())
    page.wait_for_function("'ready' in document.documentElement.dataset")
    assert page.evaluate("document.querySelectorAll('.math').length") > 10
    assert page.evaluate("[...document.querySelectorAll('.math')].every(e => e.querySelector('mjx-container'))")
    assert page.evaluate("document.body.clientWidth") == pytest.approx(TEXT_WIDTH, abs=1)
    assert page.evaluate(WIDER) == []
    assert page.evaluate("document.querySelectorAll('article table caption').length") == 0
    assert page.evaluate(
        "[...document.querySelectorAll('article [href^=\"#\"]')].every(a => document.getElementById(a.hash.slice(1)))"
    )
    page.close()


def test_its_text_can_be_searched(printed):
    if not shutil.which("pdftotext"):
        pytest.skip("pdftotext is not installed (poppler-utils)")
    text = subprocess.run(["pdftotext", printed / publish.PDF, "-"], capture_output=True, text=True, check=True).stdout
    assert "Multimodal robustness of CLIP" in text and "Table 1" in text and "References" in text
    assert not re.search(r"\$\$|\\\(|\\\[", text)
    assert not re.search(r"^Show the code$", text, re.M)  # the line that opens a cell on the web page


def test_without_a_browser_one_line_says_so(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(pdf, "BROWSERS", ("no-such-browser",))
    with pytest.raises(SystemExit) as stop:
        cli.main(["book", "openmoji", "--pdf"])
    assert stop.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert publish.main([str(tmp_path / "site")]) == 2
    assert "Chromium" in capsys.readouterr().err and not (tmp_path / "site").exists()
