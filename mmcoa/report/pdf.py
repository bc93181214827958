"""The whole report as one PDF: Jupyter Book's single page, in a layout for paper, printed by a headless Chromium.

No TeX is needed. Figures stay vectors, links between pages of the book lead to places in the PDF; what answers choices, a cell
with the tag `screen-only`, is left out.
"""

import html
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import pikepdf
import yaml

from mmcoa import __version__
from mmcoa.errors import UserError
from mmcoa.report import build

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
TYPESETTING = 120_000  # milliseconds of the page's own clock for equations and layout; it does not wait when it is done
FLAGS = (  # no profile of the user, no network, no header with the file's path; --no-sandbox, as a container's root prints too
    *("--headless", "--disable-gpu", "--no-sandbox", "--no-first-run", "--disable-sync", "--disable-component-update"),
    *("--disable-background-networking", "--no-pdf-header-footer", "--generate-pdf-document-outline"),
    f"--virtual-time-budget={TYPESETTING}",
)
PATIENCE = 600  # seconds
HERE = Path(__file__).parent
# pages to look things up in, not to read on paper
WEB_ONLY = ("speed", "explorer", "add_a_defence", "architecture", "api", "glossary")


def find_browser():
    """Path of Chromium or Chrome. Raises `UserError` where there is none."""
    for name in BROWSERS:
        if path := shutil.which(name):
            return path
    raise UserError("a PDF needs Chromium or Chrome, and none is on the PATH; on Debian: apt-get install chromium")


def write_pdf(folder, output):
    """Print the book in `folder`, whose pages were built before, to the file `output`; returns the number of its pages.

    Raises `UserError` without a browser, or if nothing was printed.
    """
    browser = find_browser()  # before the pages are built
    single = build.render(folder, "singlehtml")
    title = yaml.safe_load((folder / "_config.yml").read_text(encoding="utf8"))["title"]
    paper = single.with_name("paper.html")
    paper.write_text(for_paper(single.read_text(encoding="utf8"), title), encoding="utf8")
    print_page(browser, paper, output)
    return packed(output)


def for_paper(page, title):
    """The single page of a book as a page for paper: title, contents, article, and nothing of the web site around them."""
    article = re.search(r'<article class="bd-article">.*?</article>', page, re.S)[0]
    article = re.sub(r"<script\b.*?</script>", "", article, flags=re.S)
    for name in WEB_ONLY:  # each from its mark to the next page's
        article = re.sub(rf'<span id="document-{name}"></span>.*?(?=<span id="document-)', "", article, flags=re.S)
    first = re.search(r'id="([^"]+)">\s*<h1>(.*?)</?[ah]', article, re.S)
    others = re.search(r'<nav class="bd-toc-nav page-toc">(.*?)</nav>', page, re.S)  # none where one page follows the first
    body = f"""<header class="title"><h1>{html.escape(title)}</h1>
<p>{html.escape(edition())}</p>
<p>Files that it names as data are on the web pages that it was printed from.</p></header>
<nav class="contents"><h2>Contents</h2><ul><li><a href="#{first[1]}">{first[2]}</a></li></ul>{others[1] if others else ""}</nav>
{article}"""
    running = title.replace("\\", "").replace('"', "")
    return f"""<!DOCTYPE html>
<html lang="en" data-theme="light"><head><meta charset="utf-8"><title>{html.escape(title)}</title>
<link rel="stylesheet" href="_static/pygments.css">
<link rel="stylesheet" href="_static/report.css">
<style>{(HERE / "paper.css").read_text(encoding="utf8")}
:root {{ --running-title: "{running}"; }}</style>
<script>{(HERE / "paper.js").read_text(encoding="utf8")}</script>
<script defer src="mathjax/tex-mml-chtml.js"></script></head>
<body>{within(body)}</body></html>
"""


def edition():
    """Which state of the project was printed: version and, in a checkout, its commit."""
    done = subprocess.run(["git", "-C", str(HERE), "describe", "--always", "--dirty"], capture_output=True, text=True)
    return f"mmcoa {__version__}" + (f", commit {done.stdout.strip()}" if done.returncode == 0 else "")


def within(body):
    """Links to other places of the report lead there in the PDF; in place of a link to a file, which a reader of the PDF does
    not have beside it, stands the name of that file."""
    body = re.sub(r'href="index\.html#', 'href="#', body)
    body = re.sub(r'<a\b[^>]*\bhref="_downloads/[^"]*/([^"/]+)"[^>]*>.*?</a>', r"<code>\1</code>", body, flags=re.S)
    body = re.sub(r'<a\b[^>]*\bhref="(?!#|https?:|mailto:)[^"]*"[^>]*>(.*?)</a>', r"\1", body, flags=re.S)
    for name in WEB_ONLY:
        body = re.sub(rf'<li\b[^>]*><a\b[^>]*\bhref="#document-{name}".*?</li>', "", body, flags=re.S)
    there = set(re.findall(r'\bid="([^"]+)"', body))
    return re.sub(r'<a\b[^>]*\bhref="#([^"]*)"[^>]*>(.*?)</a>', lambda a: a[0] if a[1] in there else a[2], body, flags=re.S)


def print_page(browser, page, output):
    """A page as it is printed by a browser, to the file `output`."""
    output.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory() as profile:
        command = [browser, *FLAGS, f"--user-data-dir={profile}", f"--print-to-pdf={output.resolve()}", page.resolve().as_uri()]
        try:
            done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=PATIENCE)
        except subprocess.TimeoutExpired as error:
            raise UserError(f"{browser} had not printed {page} after {PATIENCE} s") from error
    if not output.is_file():
        raise UserError(f"{browser} printed nothing: {build.first_problem(done.stderr)}")


def packed(path):
    """Pack the objects of a PDF, in its place; returns the number of its pages.

    Chromium writes the tags that a screen reader needs, one for each cell of a table, as objects without compression: a
    quarter of the file.
    """
    with pikepdf.open(path, allow_overwriting_input=True) as document:
        document.save(path, object_stream_mode=pikepdf.ObjectStreamMode.generate)
        return len(document.pages)
