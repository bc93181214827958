"""Publishing, but for what needs a browser (tests/browser/test_pdf.py)."""

import re
import shutil

import pytest

from mmcoa.cli import main as cli
from mmcoa.errors import UserError
from mmcoa.report import build, pdf, publish
from mmcoa.report import site as checks

PAGE = '<title>A report</title><h1>Menu</h1><main><article class="bd-article"><h1>Summary</h1><p>{}</p></article></main>'


def make_archive(folder, version):
    """A version's archive, as the workflow packs it: the files of a site, no folder around them."""
    (folder / version).mkdir()
    (folder / version / "index.html").write_text(PAGE.format(version), encoding="utf8")
    shutil.make_archive(folder / f"site-{version}", "gztar", folder / version)


def test_versions_lie_beside_the_latest(tmp_path):
    archives, site = tmp_path / "archives", tmp_path / "site"
    archives.mkdir(), site.mkdir()
    (site / "index.html").write_text(PAGE.format("latest"), encoding="utf8")
    assert publish.add_versions(site, archives) == [] and [path.name for path in site.iterdir()] == ["index.html"]
    assert "versions" not in (site / "index.html").read_text(encoding="utf8")
    for version in ("v0.9.0", "v0.10.0", "v0.10.1-rc1"):
        make_archive(archives, version)
    (archives / "site-notes.tar.gz").write_text("of another kind")
    assert publish.add_versions(site, archives) == ["v0.10.1-rc1", "v0.10.0", "v0.9.0"]
    assert checks.broken(site) == []
    listed = re.findall(r'href="([^"]+)"', (site / "versions.html").read_text(encoding="utf8"))
    assert listed == ["index.html", "v0.10.1-rc1/index.html", "v0.10.0/index.html", "v0.9.0/index.html"]
    old = (site / "v0.9.0" / "index.html").read_text(encoding="utf8")
    line = '<p class="edition">This is version v0.9.0; <a href="../versions.html">all versions</a></p>'
    assert "<h1>Menu</h1><main>" in old and f"<h1>Summary</h1>\n{line}<p>v0.9.0</p>" in old
    assert 'href="versions.html"' in (site / "index.html").read_text(encoding="utf8")
    (site / "index.html").write_text("no article")
    with pytest.raises(UserError, match="no article"):
        publish.add_line(site / "index.html", "one")


def test_a_folder_of_something_else_is_left_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(pdf, "find_browser", lambda: "browser")
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(UserError, match="empty folder"):
        publish.make_site(tmp_path)
    assert (tmp_path / "thesis.tex").is_file()


def test_the_page_for_paper_is_title_contents_and_article():
    single = """<html><nav class="menu">Menu</nav>
<article class="bd-article"><section id="summary"><h1>Summary</h1>
<a class="x" href="index.html#id9">Zhou</a>
<a class="reference download internal" download="" href="_downloads/0a/impact.csv"><span>this table</span></a>
<a href="genindex.html">Index</a>
<a href="https://example.org">out</a></section>
<span id="document-question"></span><section><p id="id9">Asked: <a href="#term-cell">cell</a></p></section>
<span id="document-glossary"></span><section><p id="term-cell">A cell.</p></section>
<span id="document-references"></span><section>Read.</section></article>
<nav class="bd-toc-nav page-toc"><ul><li><a href="#document-question">The question</a></li>
<li><a href="#document-glossary">Glossary</a></li></ul></nav></html>"""
    page = pdf.for_paper(single, 'A "study" of <x>')
    assert "Menu" not in page and page.count("<article") == 1 and '<a href="#document-question">' in page
    assert '<a class="x" href="#id9">Zhou</a>' in page and "<code>impact.csv</code>" in page
    assert "\nIndex\n" in page and '<a href="https://example.org">out</a>' in page
    assert "<h1>A &quot;study&quot; of &lt;x&gt;</h1>" in page and '--running-title: "A study of <x>"' in page
    assert f"mmcoa {pdf.__version__}" in page
    assert "A cell." not in page and "Glossary" not in page and "Asked: cell<" in page and "Read." in page  # for the web alone


def test_a_browser_that_prints_nothing_or_never_ends_is_one_line(tmp_path, monkeypatch):
    browser, old = tmp_path / "browser", tmp_path / "old.pdf"
    browser.write_text("#!/bin/sh\necho 'ERROR: no room' >&2\n")
    browser.chmod(0o755)
    old.write_text("of an earlier call")
    with pytest.raises(UserError, match=r"printed nothing: ERROR: no room"):
        pdf.print_page(str(browser), tmp_path / "page.html", old)
    browser.write_text("#!/bin/sh\nexec sleep 60\n")
    monkeypatch.setattr(pdf, "PATIENCE", 0.2)
    with pytest.raises(UserError, match="had not printed"):
        pdf.print_page(str(browser), tmp_path / "page.html", old)


def test_the_command_prints_the_book_it_built(tmp_path, monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(build, "build_book", lambda study: tmp_path / "book" / "_build" / "html" / "index.html")
    monkeypatch.setattr(publish, "add_pdf", lambda pages, source: asked.append((pages, source)) or pages / publish.PDF)
    monkeypatch.setattr(pdf, "find_browser", lambda: "browser")
    with pytest.raises(SystemExit) as stop:
        cli.main(["book", "openmoji", "--pdf", "--no-summary"])
    assert stop.value.code == 0
    assert asked == [(tmp_path / "book" / "_build" / "html", tmp_path / "book")]
    assert capsys.readouterr().out.splitlines()[-1] == f"PDF: {tmp_path}/book/_build/html/report.pdf"
