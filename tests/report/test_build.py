"""The book: a small one of a made-up study is built, built again and broken."""

import shutil
import sys
from pathlib import Path

import pytest

from mmcoa.errors import UserError
from mmcoa.report import build

ROOT = Path(__file__).parents[2]
HEAD = """---
jupytext:
  text_representation: {extension: .md, format_name: myst}
kernelspec: {name: python3, display_name: Python 3}
---
"""
PAGE = """# Page

```{code-cell}
:tags: [remove-cell]
import sys
from pathlib import Path
from mmcoa.report.book import figure, points, say, study, table
from mmcoa.report import style

with open("_build/runs", "a") as file:
    file.write(f"{sys.executable} {'torch' in sys.modules}\\n")
rows = study().rows
table("rows", rows[["model", "attack"]].head(3), rows.head(3))
figure("line", style.plt.subplots()[0])
say("page", name=study().name, n=len(rows), gain=points(-3.21))
```

Study {glue:text}`page_name`, gain {glue:text}`page_gain`.

:::{csv-table} Rows.
:file: tables/rows.csv
:header-rows: 1
:::

:::{figure} figures/line.svg
:alt: nothing

Nothing.
:::
"""


@pytest.fixture
def project(tmp_path, monkeypatch, folder):
    """A project's folder, from which commands run, with a book of one page and results of the study `plain`."""
    others = shutil.ignore_patterns("*.md", "_build", "tables", "figures", "mathjax")
    shutil.copytree(ROOT / "book", tmp_path / "book", ignore=others)
    (tmp_path / "book" / "extra" / "robots.txt").write_text("")
    (tmp_path / "book" / "_toc.yml").write_text("format: jb-book\nroot: index\n")
    for name in ("index", "study"):
        (tmp_path / "book" / f"{name}.md").write_text(HEAD + PAGE, encoding="utf8")
    shutil.copytree(folder / "plain", tmp_path / "results" / "plain")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("JUPYTER_PATH", raising=False)
    return tmp_path


def runs(folder):
    """How often the page ran, and where: `sys.executable`, whether torch was loaded."""
    return (folder / "_build" / "runs").read_text().splitlines()


@pytest.mark.slow
def test_a_page_runs_where_something_has_changed_and_not_else(project, monkeypatch):
    stranger = project / "stranger" / "kernels" / "python3"
    stranger.mkdir(parents=True)
    (stranger / "kernel.json").write_text('{"argv": ["/nowhere/python", "{connection_file}"], "display_name": "x"}')
    monkeypatch.setenv("JUPYTER_PATH", str(stranger.parents[1]))
    folder = project / "book" / "_build" / "plain"
    index = build.build_book("plain")
    assert index == Path("book/_build/plain/_build/html/index.html")
    html = index.read_text(encoding="utf8")
    assert "Study <span" in html and ">plain<" in html and ">−3.2<" in html and html.count("Data (CSV)") == 1
    assert next((folder / "_build" / "html" / "_downloads").rglob("*.csv")).name == "rows_numbers.csv"
    assert runs(folder) == [f"{sys.executable} False"]
    made = index.stat().st_mtime_ns
    build.build_book("plain")
    assert len(runs(folder)) == 1 and index.stat().st_mtime_ns == made
    page = project / "book" / "study.md"
    page.write_text(page.read_text(encoding="utf8") + "\nMore words.\n", encoding="utf8")
    build.build_book("plain")
    assert len(runs(folder)) == 1 and "More words" in index.read_text(encoding="utf8")
    with (project / "results" / "plain" / "rows.csv").open("a") as file:
        file.write("\n")
    build.build_book("plain")
    assert len(runs(folder)) == 2
    (folder / "tables" / "rows.csv").unlink()
    build.build_book("plain")
    assert len(runs(folder)) == 3 and (folder / "tables" / "rows.csv").is_file()
    assert not (project / "book" / "tables").exists()  # the sources are as they were


@pytest.mark.slow
def test_what_a_cell_raises_and_what_a_page_lacks_is_said_in_one_line(project):
    page = project / "book" / "study.md"
    page.write_text(HEAD + '# Page\n\n```{code-cell}\nraise ValueError("no " + "numbers")\n```\n')
    with pytest.raises(UserError, match=r"did not build: \S+index\.md: WARNING: ValueError: no numbers; the whole"):
        build.build_book("plain")
    page.write_text("# Page\n\n{ref}`nowhere`\n")
    for _ in range(2):  # what has been said once is said again
        with pytest.raises(UserError, match=r"did not build: .*WARNING: undefined label: 'nowhere'"):
            build.build_book("plain")


def test_mistakes_end_before_anything_is_written(project, monkeypatch, tmp_path_factory):
    assert build.first_problem("a\n\nb\n") == "b" and build.first_problem("") == "no output"
    with pytest.raises(UserError, match="unknown study 'plane'; nearest: plain"):
        build.build_book("plane")
    with pytest.raises(UserError, match="no results: .*mmcoa run quick"):
        build.build_book("quick")
    other = tmp_path_factory.mktemp("other")
    (other / "thesis.tex").write_text("years of work")
    with pytest.raises(UserError, match="other files"):
        build.build_book("plain", output=other)
    assert [path.name for path in other.iterdir()] == ["thesis.tex"]
    with monkeypatch.context() as patch:
        patch.setattr(build.importlib.util, "find_spec", lambda name: None)
        with pytest.raises(UserError, match=r"needs jupyter_book; install it with: pip install 'mmcoa\[book\]'"):
            build.build_book("plain")
    monkeypatch.chdir(other)
    with pytest.raises(UserError, match="project's folder"):
        build.build_book("quick")
    assert not (project / "book" / "_build").exists()
