"""The book end to end on synthetic results, and its sources."""

import re
from pathlib import Path

import nbformat
import pytest
import yaml

from mmcoa.errors import UserError
from mmcoa.report import build

ROOT = Path(__file__).parents[2]
REPORTS = ("report_impact", "report_finetuning")


@pytest.fixture(autouse=True)
def in_project(monkeypatch):
    monkeypatch.chdir(ROOT)


@pytest.fixture(scope="module")
def site(synthetic_profile, tmp_path_factory):
    """Folder of the built pages."""
    profile, results = synthetic_profile
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        return build.build_book(profile, tmp_path_factory.mktemp("book"), results).parent


def test_toc_lists_pages_that_exist():
    toc = yaml.safe_load((ROOT / "book" / "_toc.yml").read_text())
    pages = [toc["root"], *(chapter["file"] for part in toc["parts"] for chapter in part["chapters"])]
    for page in pages:
        source = ROOT / "notebooks" / f"{page}.ipynb" if page in REPORTS else ROOT / "book" / f"{page}.md"
        assert source.is_file(), page


@pytest.mark.parametrize("name", REPORTS)
def test_report_notebooks_are_stored_clean(name):
    notebook = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert "parameters" in code[0].metadata.tags
    assert all("#" in line for line in code[0].source.splitlines() if "=" in line)
    for cell in code:
        assert not cell.outputs and cell.execution_count is None
        assert {"hide-input", "remove-input"} & set(cell.metadata.tags)


def test_every_citation_is_in_the_bibliography():
    known = set(re.findall(r"@\w+\{(\w+),", (ROOT / "book" / "references.bib").read_text(encoding="utf8")))
    for page in (ROOT / "book").glob("*.md"):
        for keys in re.findall(r"\{cite:\w\}`([^`]+)`", page.read_text(encoding="utf8")):
            assert set(keys.split(",")) <= known, page.name


def test_pages_need_no_network(site):
    loaded = re.compile(r'<(?:script|link|img|iframe)[^>]*(?:src|href)="(?:https?:)?//[^"]*"|url\(["\']?https?:|@import[^;]*https?:')
    hosts = re.compile(r"https?://[\w.]*(?:unpkg|jsdelivr|cdnjs|googleapis|gstatic)")
    for path in [*site.glob("*.html"), *site.rglob("_static/**/*.css")]:
        text = path.read_text(encoding="utf8")
        assert not loaded.search(text) and not hosts.search(text), path.name
    assert (site / "mathjax" / "tex-mml-chtml.js").is_file()
    assert re.search(r'src="_static/\.\./mathjax/tex-mml-chtml\.js[?"]', (site / "method.html").read_text(encoding="utf8"))


def test_tables_are_numbered_and_captions_complete(site):
    for page, count in (("index", 1), ("report_impact", 2), ("report_finetuning", 4)):
        html = (site / f"{page}.html").read_text(encoding="utf8")
        captions = re.findall(r"<caption>(.*?)</caption>", html, re.S)
        assert len(captions) == count
        for caption in captions:
            text = re.sub(r"<[^>]+>", "", caption)
            assert re.match(r"\s*Table \d+ ", text), text
            if "Cost" not in text:
                assert "Threat model: ℓ∞ ball of 2/255" in text and re.search(r"rained on|ine-tuned on", text) and "n:" in text
        assert all("alt=" in tag for tag in re.findall(r"<img[^>]*>", html))
        assert "`" not in re.sub(r"<(pre|code|script)[\s\S]*?</\1>", "", html.split("<article")[1].split("</article")[0])


def test_marked_words_reach_the_page(site):
    html = (site / "report_impact.html").read_text(encoding="utf8")
    assert '<span class="was">photo</span>' in html and '<span class="now">snapshot</span>' in html


def test_missing_result_stops_the_build_before_anything_is_written(synthetic_profile, tmp_path):
    with pytest.raises(UserError, match="no result for cell"):
        build.build_book(synthetic_profile[0], tmp_path / "book", tmp_path / "nothing")
    assert not (tmp_path / "book").exists()


def test_broken_page_names_the_first_warning(tmp_path):
    (tmp_path / "_config.yml").write_text("title: one page\nexecute: {execute_notebooks: 'off'}\n")
    (tmp_path / "_toc.yml").write_text("format: jb-book\nroot: index\n")
    (tmp_path / "index.md").write_text("# One page\n\n{ref}`nowhere`\n")
    with pytest.raises(UserError, match=r"did not build: .*WARNING: undefined label: 'nowhere'"):
        build.render(tmp_path)


def test_foreign_folder_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(UserError, match="other files"):
        build.copy_sources(tmp_path)
    assert (tmp_path / "thesis.tex").is_file()


def test_outside_the_project(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="project's folder"):
        build.build_book("quick")
