"""Checks of a built site, on sites of a few small files."""

import pytest

from mmcoa.errors import UserError
from mmcoa.report import site


@pytest.fixture
def folder(tmp_path):
    """A site of two pages, a style sheet and a picture, without a fault."""
    files = {
        "index.html": '<link rel="stylesheet" href="_static/a.css?v=1"><link rel="next" href="two.html">'
        '<h1 id="top-of">One</h1><a href="two.html#there">two</a><a href="#top-of">up</a><a href="#">top</a>'
        '<img src="a%20b.svg" srcset="a%20b.svg 2x"><a href="https://example.org/x">out</a><a href="mailto:a@b.c">us</a>'
        f'<p style="background: url(a%20b.svg)"></p><img src="data:image/gif;base64,{"R0lG" * 2000}">',
        "two.html": '<p id="there">Two</p><a name="old"></a><a href="index.html">back</a><a href="two.html#old">old</a>',
        "_static/a.css": "/* url(gone.png) */ @font-face { src: url('f.woff2') format('woff2'), url(f.ttf) }",
        "_static/f.woff2": "x" * 100,
        "_static/f.ttf": "x" * 1000,
        "a b.svg": '<svg xmlns="http://www.w3.org/2000/svg"><g id="g"/><use xlink:href="#g"/></svg>',
    }
    write(tmp_path, files)
    return tmp_path


def write(folder, files):
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf8")


def test_each_fault_is_a_line_with_its_place(folder, capsys):
    assert site.broken(folder) == []
    faults = {
        '<a href="three.html">': "three.html does not exist",
        '<a href="two.html#gone">': "nothing there has the id gone",
        '<a href="#gone">': "nothing there has the id gone",
        '<img src="a%20b.svg" srcset="no.png 2x">': "no.png does not exist",
        '<script src="../x.js"></script>': "not exist in the site's folder",
        '<a href="/two.html">': "not exist in the site's folder",  # the host's root, where this site need not be
        '<script src="https://cdn.example.org/x.js"></script>': "loads https://cdn.example.org/x.js from another host",
        '<script src="//cdn.example.org/x.js"></script>': "from another host",
        '<link rel="preconnect" href="https://fonts.example.org">': "from another host",
        '<style>@import "https://fonts.example.org/a.css";</style>': "from another host",
        '<p style="background: url(http://example.org/a.png)">': "from another host",
        '<svg><image href="http://example.org/a.png"/></svg>': "from another host",
        '<iframe src="https://example.org"></iframe>': "from another host",
    }
    write(folder, {"two.html": '<p id="there">\n' + "\n".join(faults)})
    write(folder, {"_static/b.css": "a { background: url(gone.png) }", "c.svg": '<svg><use href="#gone"/></svg>'})
    assert site.report(folder) == len(faults) + 2
    two = {int(line.split(":")[1]): line for line in capsys.readouterr().out.splitlines() if line.startswith("two.html:")}
    assert all(said in two[place] for place, said in enumerate(faults.values(), 2))


def test_the_first_page_is_what_a_browser_loads_and_what_is_too_large_is_a_problem(folder, monkeypatch):
    loaded = [path.relative_to(folder).as_posix() for path in site.first_page(folder.resolve())]
    assert loaded == ["_static/a.css", "_static/f.woff2", "a b.svg", "index.html"]
    sizes = site.sizes(folder)
    assert sizes["site"] == sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    assert 0 < sizes["own content"] < sizes["first page"]
    monkeypatch.setattr(site, "LIMITS", {"site": 1000, "first page": 1, "own content": 1e6})
    monkeypatch.setattr(site, "PDF_LIMIT", 3)
    write(folder, {"report.pdf": "%PDF"})
    assert [line.split(":")[0] for line in site.problems(folder)[0]] == ["site", "first page", "report.pdf"]
    (folder / "index.html").unlink()
    with pytest.raises(UserError, match="make book"):
        site.problems(folder)
