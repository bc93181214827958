"""The book: pages of synthetic results, which hold every case; the published one as it is rendered; and its sources."""

import ast
import re
import shutil
from pathlib import Path

import nbformat
import pytest
import yaml
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from mmcoa.errors import UserError
from mmcoa.report import build, imported
from mmcoa.report import results as stored
from mmcoa.report.ablations import GROUPS
from mmcoa.report.names import SWEEPS

ROOT = Path(__file__).parents[2]
REPORTS = sorted(path.stem for path in (ROOT / "notebooks").glob("report_*.ipynb"))
KEYS = {*SWEEPS, "search", "all-sweeps", "edits", "checks", "gaps", "text-gaps", "strength", "prompts", "predictions", "speed"}
KEYS |= {"cost", "paper-tables", "gallery", "example", "examples", "learning-rates", "training-logs", "held-out", "variants"}
KEYS |= {
    "ablations",
    "all-ablations",
    "faults",
    "all-faults",
    "ablation-lambda-curve",
    *(f"ablation-{name}" for name in GROUPS),
}
KEYS |= {"at-test", "in-distribution", "few-shot", "epsilon-methods", "attacks-methods"}


@pytest.fixture(autouse=True)
def in_project(monkeypatch):
    monkeypatch.chdir(ROOT)


@pytest.fixture(scope="module")
def book(folder, tmp_path_factory):
    """Folder with the pages, run but not rendered, of a study with everything: ablations, a gallery and a second model too."""
    made = tmp_path_factory.mktemp("book")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        build.copy_sources(made)
        build.make_pages(stored.load("rich", folder), made, folder, "plain")
    return made


def markdown_of(book, page):
    """The markdown of a page that ran, its numbers in place."""
    cells = nbformat.read(book / f"{page}.ipynb", as_version=4).cells
    outputs = [output for cell in cells for output in cell.get("outputs", []) if "scrapbook" in output.get("metadata", {})]
    said = {out.metadata.scrapbook.name: ast.literal_eval(*out.data.values()) for out in outputs}
    text = "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    return re.sub(r"\{glue:text\}`(\w+)`", lambda found: said[found[1]], text)


def text_of(book, page):
    """The words of a page, without what makes them bold or code."""
    return re.sub(r"\s+", " ", re.sub(r"[*`]", "", markdown_of(book, page)))


def test_toc_lists_pages_that_exist():
    toc = yaml.safe_load((ROOT / "book" / "_toc.yml").read_text())
    made = {build.NAMES.get(name, name) for name in REPORTS}
    pages = [toc["root"], *(chapter["file"] for part in toc["parts"] for chapter in part["chapters"])]
    assert {page for page in pages if not (ROOT / "book" / f"{page}.md").is_file()} == made
    assert len(pages) == len(set(pages))


@pytest.mark.parametrize("name", REPORTS)
def test_report_notebooks_are_stored_clean(name):
    notebook = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert "parameters" in code[0].metadata.tags
    assert all("#" in line for line in code[0].source.splitlines() if "=" in line)
    for cell in code:
        assert not cell.outputs and cell.execution_count is None
        assert {"hide-input", "remove-input", "remove-cell"} & set(cell.metadata.tags)
    conditions = {
        tag for cell in notebook.cells for tag in cell.metadata.get("tags", []) if tag.startswith(("needs-", "lacks-"))
    }
    assert {tag.partition("-")[2] for tag in conditions} <= KEYS
    assert set(build.READS) <= set(REPORTS)


def test_every_citation_is_in_the_bibliography():
    known = set(re.findall(r"@\w+\{(\w+),", (ROOT / "book" / "references.bib").read_text(encoding="utf8")))
    for page in [*(ROOT / "book").glob("*.md"), *(ROOT / "notebooks").glob("report_*.ipynb")]:
        for keys in re.findall(r"\{cite:\w\}`([^`]+)`", page.read_text(encoding="utf8")):
            assert set(keys.split(",")) <= known, page.name


def write_page(path, code, text="# Page"):
    """A report notebook of one title and one line of code."""
    parameters = 'name = "quick"  # a\nresults = "results"  # b\noutput = "."  # c'
    cells = [new_markdown_cell(text, id="a"), new_code_cell(parameters, metadata={"tags": ["parameters"]}, id="b")]
    path.parent.mkdir(exist_ok=True)
    nbformat.write(new_notebook(cells=[*cells, new_code_cell(code, id="c")]), path)


def test_a_page_is_made_again_where_its_notebook_results_or_code_changed(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    results, book, ran = tmp_path / "results", tmp_path / "book", []
    shutil.copytree(folder / "plain", results / "plain")
    monkeypatch.setattr(build, "run_notebook", lambda source, page, own: ran.append(page.stem) or shutil.copy(source, page))
    write_page(tmp_path / "notebooks" / "report_data.ipynb", "from mmcoa.report import names")
    write_page(tmp_path / "notebooks" / "report_ablations.ipynb", "1")
    study = stored.load("plain", results)

    def made():
        ran.clear()
        assert sorted(build.make_pages(study, book, results)) == sorted(ran)
        return sorted(ran)

    assert made() == ["report_ablations", "report_data"] and made() == []
    write_page(tmp_path / "notebooks" / "report_data.ipynb", "from mmcoa.report import names\n1")
    assert made() == ["report_data"] and made() == []
    (results / "ablations").mkdir()
    (results / "ablations" / "checks.csv").write_text("a\n")
    assert made() == ["report_ablations"]  # which alone reads that study
    (results / "plain" / "rows.csv").write_text((results / "plain" / "rows.csv").read_text() + "\n")
    assert made() == ["report_ablations", "report_data"]
    changed = imported.ROOT / "report" / "names.py"
    monkeypatch.setattr(build, "file_digest", lambda path, real=build.file_digest: "other" if path == changed else real(path))
    assert made() == ["report_data"]
    (book / "report_data.ipynb").unlink()
    assert made() == ["report_data"]
    write_page(tmp_path / "notebooks" / "report_data.ipynb", "1", "# Another")
    monkeypatch.setattr(build, "run_notebook", fails)
    with pytest.raises(UserError, match=r"report_data\.ipynb failed: Error: no"):
        build.make_pages(study, book, results)
    assert "# Page" in (book / "report_data.ipynb").read_text()  # the page as it was, until the next one is whole


def fails(source, page, own):
    raise build.NotebookFailed("Error: no", page)


def test_modules_are_found_through_each_other():
    found = {path.relative_to(imported.ROOT).as_posix() for path in imported.files(["from mmcoa.report import variants"])}
    assert {"report/variants.py", "report/tables.py", "evaluation/statistics.py", "store/packed.py", "errors.py"} <= found
    assert "report/published/paper.csv" in found and "training/loop.py" not in found
    assert imported.files(["import numpy\n%matplotlib inline\n!ls"]) == []


def test_a_copy_follows_the_sources_and_keeps_what_was_made(tmp_path, monkeypatch):
    sources, book = tmp_path / "book", tmp_path / "made"
    for name in ("_config.yml", "page.md", "_ext/a.py", "tables/rows.csv"):
        (sources / name).parent.mkdir(parents=True, exist_ok=True)
        (sources / name).write_text(name)
    monkeypatch.setattr(build, "SOURCES", sources)
    assert build.copy_sources(book) and not (book / "tables").exists()
    (book / "index.ipynb").write_text("made")
    (sources / "page.md").write_text("new")
    (sources / "other.md").write_text("new")
    before = (book / "_config.yml").stat().st_mtime_ns
    assert not build.copy_sources(book)  # pages alone
    assert (book / "page.md").read_text() == "new" and (book / "index.ipynb").is_file()
    assert (book / "_config.yml").stat().st_mtime_ns == before
    (sources / "other.md").unlink()
    (sources / "_ext" / "a.py").write_text("new")
    assert build.copy_sources(book) and not (book / "other.md").exists()


def test_missing_result_stops_the_build_before_anything_is_written(tmp_path):
    with pytest.raises(UserError, match="no results: .*mmcoa run quick"):
        build.build_book("quick", tmp_path / "book", tmp_path / "nothing")
    assert not (tmp_path / "book").exists()


def test_foreign_folder_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(UserError, match="other files"):
        build.copy_sources(tmp_path)
    assert (tmp_path / "thesis.tex").is_file()


def test_outside_the_project(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="project's folder"):
        build.build_book("quick")


@pytest.mark.slow
def test_a_broken_page_and_a_picture_that_is_not_there_name_the_first_warning(tmp_path):
    shutil.copytree(ROOT / "book" / "_ext", tmp_path / "_ext")
    config = "title: one page\nexecute: {execute_notebooks: 'off'}\nsphinx: {local_extensions: {pictures: _ext}}\n"
    (tmp_path / "_config.yml").write_text(config)
    (tmp_path / "_toc.yml").write_text("format: jb-book\nroot: index\n")
    (tmp_path / "index.md").write_text("# One page\n\n{ref}`nowhere`\n")
    with pytest.raises(UserError, match=r"did not build: .*WARNING: undefined label: 'nowhere'"):
        build.render(tmp_path)
    (tmp_path / "index.md").write_text('# One page\n\n<img src="figures/absent.webp" alt="nothing">\n')
    with pytest.raises(UserError, match=r"WARNING: picture figures/absent\.webp is not there"):
        build.render(tmp_path, whole=False)  # a build that failed is done again as a whole


@pytest.mark.slow
@pytest.mark.parametrize("notebook", REPORTS)
def test_tables_are_numbered_captions_complete_and_their_data_offered(published, notebook):
    page = build.NAMES.get(notebook, notebook)
    html = (published / "_build" / "html" / f"{page}.html").read_text(encoding="utf8")
    site, count = published / "_build" / "html", markdown_of(published, page).count(":::{csv-table}")
    captions = [re.sub(r"<[^>]+>", "", text) for text in re.findall(r"<caption>(.*?)</caption>", html, re.S)]
    assert len(captions) == count and (
        count or page in ("explorer", "report_at_test")
    )  # the second: of studies with such defences
    for text in captions:
        assert re.match(r"\s*Table \d+ ", text), text
        if not re.search(r"Cost|Speed|No (model|accuracy) has a part in this table", text):
            assert re.search(r"Threat model: (\S|$)", text), text
            assert re.search(r"rained on|ine-tuned on", text) and re.search(r"\bn\b", text), text
    figures = [re.sub(r"<[^>]+>", "", text) for text in re.findall(r"<figcaption>(.*?)</figcaption>", html, re.S)]
    figures = [text for text in figures if re.match(r"\s*Fig\. \d+ ", text)]  # not those of the gallery's pictures
    assert len(figures) == markdown_of(published, page).count(":::{figure}")
    for text in figures if page == "report_impact" else []:
        assert re.search(r"n = |The first pictures", text) and "Threat model: " in text, text
    assert all("alt=" in tag for tag in re.findall(r"<img[^>]*>", html))
    assert "`" not in re.sub(r"<(pre|code|script)[\s\S]*?</\1>", "", html.split("<article")[1].split("</article")[0])
    lines = re.findall(r'<p class="table-source">(.*?)</p>', html, re.S)
    assert len(lines) == count
    for line in lines:
        table, own = (site / target for target in re.findall(r'href="([^"]+)"', line))
        assert table.suffix == ".csv" and table.is_file() and own.stem == page and own.is_file()
    if page == "report_finetuning":
        assert [Path(name).stem for name in re.findall(r'href="([^"]+\.csv)"', "".join(lines))] == [
            "methods_numbers", "gains_numbers", "datasets_numbers", "attacks_methods"
        ]  # fmt: skip


@pytest.mark.slow
def test_pages_need_no_network_and_carry_nothing_that_none_asks_for(published):
    site = published / "_build" / "html"
    loaded = re.compile(
        r'<(?:script|link|img|iframe)[^>]*(?:src|href)="(?:https?:)?//[^"]*"|url\(["\']?https?:|@import[^;]*https?:'
    )
    hosts = re.compile(r"https?://[\w.]*(?:unpkg|jsdelivr|cdnjs|googleapis|gstatic)")
    for path in [*site.glob("*.html"), *site.rglob("_static/**/*.css")]:
        text = path.read_text(encoding="utf8")
        assert not loaded.search(text) and not hosts.search(text), path.name
    assert (site / "mathjax" / "tex-mml-chtml.js").is_file()
    assert re.search(r'src="_static/\.\./mathjax/tex-mml-chtml\.js[?"]', (site / "method.html").read_text(encoding="utf8"))
    assert not [*site.rglob("*.map"), *site.rglob("*.po"), *site.rglob("*.mo")]
    large = {path.stem for path in site.glob("*.html") if "datatables" in path.read_text(encoding="utf8")}
    assert "report_data" in large and "index" not in large
    changed = (site / "report_impact.html").read_text(encoding="utf8")
    assert '<span class="was">' in changed and '<span class="now">' in changed


@pytest.mark.slow
def test_what_the_numbers_say_reaches_the_pages(book):
    text = text_of(book, "report_strength")
    assert "1 of 104 checks (26 models) does not pass: PGD, more steps help the defender" in text
    assert "Verdict: 1 of 2 comparisons agree." in text and "Targets met: 2 of 3" in text
    prompts = (book / "tables" / "prompts.csv").read_text(encoding="utf8")
    assert "[photo]{.was}" in prompts and "[snapshot]{.now}" in prompts
    text = text_of(book, "report_impact")
    assert "no such sweep" not in text and "How large a perturbation" in text
    figures = re.findall(r":::\{figure\}.*?\n:::", markdown_of(book, "report_impact"), re.S)
    assert len(figures) == 6
    for figure in figures:
        assert re.search(r"n = |The first pictures", figure) and "Threat model: " in figure, figure
    text = text_of(book, "report_in_distribution")
    assert "data sets birds and tools" in text and "lack one of the data sets: image only (birds)" in text
    assert "with 1 shot" in text
    text = text_of(book, "report_finetuning")
    assert "How large a perturbation each method stands" in text and "image only (equal compute)" in text
    assert "in distribution)" not in text and "Fine-tuned on: clothing" in text
    text = text_of(book, "report_released")
    assert "has no finished results: misaligned candidates, corner steps and coupled decay; models" in text
    assert re.search(r"gradient leak: clean −\d", text) and "intervals cover zero" in text
    assert re.search(r"over all data sets: \d+ % without attack", text_of(book, "index"))
    assert "of an unknown number of cells computed" in text_of(book, "report_reproduce")
    assert "nan" not in text_of(book, "report_training").split()
    for page in book.glob("*.ipynb"):  # each table and figure that a page shows is there
        for name in re.findall(r":::\{figure\} (\S+)|^:file: (\S+)", markdown_of(book, page.stem), re.M):
            assert (book / "".join(name)).is_file(), (page.stem, name)


@pytest.mark.slow
def test_the_gallery_and_the_explorer_have_what_they_show(book):
    cells = nbformat.read(book / "report_gallery.ipynb", as_version=4).cells
    html = "".join(output.get("data", {}).get("text/html", "") for cell in cells for output in cell.get("outputs", []))
    sources = set(re.findall(r'<img[^>]*src="(figures/gallery/[^"]+)"', html))
    assert sources == {f"figures/gallery/{name}.webp" for name in ("clean", "none", "tecoa-seed0")}
    assert all((book / source).is_file() for source in sources)
    said = html + text_of(book, "report_gallery")
    assert "CC BY-SA 4.0" in said and "Caltech-101" in said
    assert (book / "extra" / "explorer" / "study_rich.js").is_file()
    assert "explorer/explorer.js" in markdown_of(book, "explorer")


@pytest.mark.slow
def test_published_pictures_and_scripts_are_beside_their_pages(published):
    site = published / "_build" / "html"
    html = (site / "report_gallery.html").read_text(encoding="utf8")
    sources = set(re.findall(r'<img[^>]*src="(figures/gallery/[^"]+)"', html))
    assert sources and all((site / source).is_file() for source in sources)
    assert (site / "explorer" / "study_openmoji.js").is_file()
    assert "explorer/explorer.js" in (site / "explorer.html").read_text(encoding="utf8")


@pytest.mark.slow
def test_built_again_only_what_changed_is_made(book, folder, monkeypatch):
    monkeypatch.setattr(build, "run_report", lambda *given: pytest.fail("no page has changed"))
    assert build.make_pages(stored.load("rich", folder), book, folder, "plain") == []
    cell = next(cell for cell in nbformat.read(book / "index.ipynb", 4).cells if "injected" in str(cell.metadata))
    assert cell.id == "injected-parameters"


@pytest.mark.slow
def test_pages_of_a_small_study_say_what_it_lacks(plain, bare, tmp_path):
    """As they are before they run; the notebooks are those of the study with everything."""
    from mmcoa.report import sections

    keys = sections.available(plain, bare)
    said = {
        "report_impact": "has no such sweep",
        "report_training": "No training logs are at hand",
        "report_ablations": "This part was not run",
        "report_released": "This part was not run",
        "report_gallery": "no gallery yet",
        "report_strength": "has no sweep `attacks`",
        "report_example": "has no picture for it",
    }
    for page, words in said.items():
        content = sections.fitting(ROOT / "notebooks" / f"{page}.ipynb", keys)
        assert words in "\n".join(cell.source for cell in content.cells).replace("\n", " "), page
    assert sections.fitting(ROOT / "notebooks" / "report_variants.ipynb", keys) is None
    content = sections.fitting(ROOT / "notebooks" / "report_training.ipynb", keys)
    build.run_report(
        content, "report_training", tmp_path / "page.ipynb", {"name": "plain", "results": str(bare), "output": str(tmp_path)}
    )
