"""Checks of a built site, on sites of a few small files."""

import importlib.util
from pathlib import Path

import pytest

from mmcoa.errors import UserError
from mmcoa.report import links, site

FINISH = Path(__file__).parents[2] / "book" / "_ext" / "finish.py"


@pytest.fixture
def folder(tmp_path):
    """A site of two pages, a style sheet and a picture, without a fault."""
    write(
        tmp_path,
        {
            "index.html": '<link rel="stylesheet" href="_static/a.css?v=1"><link rel="next" href="two.html">'
            '<h1 id="top-of">One</h1><a href="two.html#there">two</a><a href="#top-of">up</a><a href="#">top</a>'
            '<img src="a%20b.svg" srcset="a%20b.svg 2x"><a href="https://example.org/x">out</a><a href="mailto:a@b.c">us</a>'
            '<p style="background: url(a%20b.svg)"></p><img src="data:image/gif;base64,R0lG">',
            "two.html": '<p id="there">Two</p><a name="old"></a><a href="index.html">back</a><a href="two.html#old">old</a>',
            "_static/a.css": "/* url(gone.png) */ @font-face { src: url('f.woff2') format('woff2'), url(f.ttf) }",
            "_static/f.woff2": "x" * 100,
            "_static/f.ttf": "x" * 1000,
            "a b.svg": '<svg xmlns="http://www.w3.org/2000/svg"><g id="g"/><use xlink:href="#g"/></svg>',
        },
    )
    return tmp_path


def write(folder, files):
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf8")


def test_a_site_without_a_fault_has_none(folder):
    problems, outside = links.check(folder)
    assert problems == [] and outside == {"https://example.org/x": {"index.html"}}


@pytest.mark.parametrize(
    ("html", "said"),
    [
        ('<a href="three.html">', "three.html does not exist"),
        ('<a href="two.html#gone">', "nothing there has the id gone"),
        ('<a href="#gone">', "nothing there has the id gone"),
        ('<img src="no.png">', "no.png does not exist"),
        ('<img src="a%20b.svg" srcset="no.png 2x">', "no.png does not exist"),
        ('<script src="../x.js"></script>', "leaves the site's folder"),
        ('<a href="/two.html">', "starts at the host's root"),
        ('<script src="https://cdn.example.org/x.js"></script>', "loads https://cdn.example.org/x.js from another host"),
        ('<script src="//cdn.example.org/x.js"></script>', "from another host"),
        ('<link rel="preconnect" href="https://fonts.example.org">', "from another host"),
        ('<style>@import "https://fonts.example.org/a.css";</style>', "from another host"),
        ('<p style="background: url(http://example.org/a.png)">', "from another host"),
        ('<svg><image href="http://example.org/a.png"/></svg>', "from another host"),
        ('<iframe src="https://example.org"></iframe>', "from another host"),
    ],
)
def test_each_fault_is_a_line_with_its_place(folder, html, said, capsys):
    write(folder, {"two.html": f'<p id="there">\n{html}'})
    problems, _ = links.check(folder)
    assert len(problems) == 1 and problems[0].startswith("two.html:2: ") and said in problems[0]
    assert site.main([str(folder)]) == 1
    assert problems[0] in capsys.readouterr().out.splitlines()


def test_style_sheets_and_pictures_are_read_too(folder):
    write(folder, {"_static/a.css": "a { background: url(gone.png) } b { background: url(https://example.org/x.png) }"})
    write(folder, {"a b.svg": '<svg><use href="#gone"/></svg>'})
    problems, _ = links.check(folder)
    assert [line.split(":")[0] for line in problems] == ["_static/a.css", "_static/a.css", "a b.svg"]


def test_the_first_page_is_what_a_browser_loads(folder):
    loaded = [path.relative_to(folder).as_posix() for path in site.first_page(folder.resolve())]
    assert loaded == ["_static/a.css", "_static/f.woff2", "a b.svg", "index.html"]
    sizes = site.sizes(folder)
    assert sizes["site"] == sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    assert 0 < sizes["own content"] < sizes["first page"]


def test_what_is_too_large_is_a_problem(folder, monkeypatch):
    monkeypatch.setattr(site, "LIMITS", {"site": 1000, "first page": 1, "own content": 1e6})
    monkeypatch.setattr(site, "PDF_LIMIT", 3)
    write(folder, {"report.pdf": "%PDF"})
    lines, _, _ = site.problems(folder)
    assert [line.split(":")[0] for line in lines] == ["site", "first page", "report.pdf"]


def test_no_site_is_one_line(tmp_path, capsys):
    with pytest.raises(UserError, match="make book"):
        site.problems(tmp_path)
    assert site.main([str(tmp_path)]) == 2 and site.main([]) == 2
    assert capsys.readouterr().err.count("\n") == 2


def test_pages_keep_what_they_use():
    spec = importlib.util.spec_from_file_location("finish", FINISH)
    finish = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(finish)
    head = """<link rel="preload" as="font" href="_static/f.woff2" />
<script src="_static/vendor/fontawesome/6.5.2/js/all.min.js?digest=1"></script>
<script src="_static/doctools.js"></script>
<script>window.MathJax = {"options": {}}</script>
<script defer="defer" src="_static/../mathjax/tex-mml-chtml.js?v=1"></script>
"""
    assert finish.without_unused(head) == '<script src="_static/doctools.js"></script>\n'
    kept = finish.without_unused(f'{head}<span class="math notranslate">')
    assert "mathjax/tex" in kept and "window.MathJax" in kept and "fontawesome" not in kept
