"""The book end to end on synthetic results, and its sources."""

import re
import shutil
from pathlib import Path

import nbformat
import pytest
import yaml

from mmcoa.errors import UserError
from mmcoa.report import build, source
from mmcoa.report.ablations import GROUPS
from mmcoa.report.names import SWEEPS

from . import extensions, synthetic

ROOT = Path(__file__).parents[2]
REPORTS = (
    *(
        "report_data",
        "report_impact",
        "report_gallery",
        "report_strength",
        "report_finetuning",
        "report_training",
        "report_ablations",
    ),
    *("report_released", "report_reproduce", "report_claims", "report_published", "report_in_distribution", "report_modality"),
    *("report_variants", "report_summary", "report_example"),
)
KEYS = {
    *SWEEPS,
    "search",
    "all-sweeps",
    "edits",
    "checks",
    "gaps",
    "text-gaps",
    "strength",
    "prompts",
    "predictions",
    "speed",
    "cost",
    "paper-tables",
    "gallery",
    "example",
    "learning-rates",
}
KEYS |= {
    "training-logs",
    "held-out",
    "ablations",
    "all-ablations",
    "faults",
    "all-faults",
    "ablation-lambda-curve",
    "in-distribution",
    "few-shot",
    "examples",
    "epsilon-methods",
    "attacks-methods",
    "variants",
    *(f"ablation-{name}" for name in GROUPS),
}


@pytest.fixture(autouse=True)
def in_project(monkeypatch):
    monkeypatch.chdir(ROOT)


@pytest.fixture(scope="module")
def site(rich_profile, plain_profile, tmp_path_factory):
    """Folder of the built pages, of a study with everything, ablations, a gallery and a second model too, and of a second study."""
    profile, results = rich_profile
    results = shutil.copytree(results, tmp_path_factory.mktemp("everything") / "results")
    shutil.copytree(plain_profile[1], results, dirs_exist_ok=True)
    synthetic.write_training(profile, results)
    synthetic.write_ablations(results)
    synthetic.write_gallery(profile, results)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        folder = tmp_path_factory.mktemp("book")
        return build.build_book([profile, plain_profile[0]], folder, results, variant=plain_profile[0]).parent


@pytest.fixture(scope="module")
def plain_site(plain_profile, tmp_path_factory):
    """The same of a study without sweeps and benchmarks, by itself."""
    profile, results = plain_profile
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        return build.build_book(profile, tmp_path_factory.mktemp("plain"), results).parent


def text_of(html):
    """The article's words, without code and markup."""
    article = html.split("<article")[1].split("</article")[0]
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", re.sub(r"<(pre|script)[\s\S]*?</\1>", "", article)))


def test_toc_lists_pages_that_exist():
    toc = yaml.safe_load((ROOT / "book" / "_toc_template.yml").read_text())
    for page in (chapter["file"] for part in toc["parts"] for chapter in part["chapters"]):
        source = ROOT / "notebooks" / f"{page}.ipynb" if page in REPORTS else ROOT / "book" / f"{page}.md"
        assert source.is_file(), page
    committed = yaml.safe_load((ROOT / "book" / "_toc.yml").read_text())
    for page in (committed["root"], *(chapter["file"] for part in committed["parts"] for chapter in part["chapters"])):
        assert any((ROOT / "book" / f"{page}{ending}").is_file() for ending in (".md", ".ipynb")), page


@pytest.mark.parametrize("name", REPORTS)
def test_report_notebooks_are_stored_clean(name):
    notebook = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert "parameters" in code[0].metadata.tags
    assert all("#" in line for line in code[0].source.splitlines() if "=" in line)
    for cell in code:
        assert not cell.outputs and cell.execution_count is None
        assert {"hide-input", "remove-input"} & set(cell.metadata.tags)
    conditions = {
        tag for cell in notebook.cells for tag in cell.metadata.get("tags", []) if tag.startswith(("needs-", "lacks-"))
    }
    assert {tag.partition("-")[2] for tag in conditions} <= KEYS


def test_every_citation_is_in_the_bibliography():
    known = set(re.findall(r"@\w+\{(\w+),", (ROOT / "book" / "references.bib").read_text(encoding="utf8")))
    for page in [*(ROOT / "book").glob("*.md"), *(ROOT / "notebooks").glob("report_*.ipynb")]:
        for keys in re.findall(r"\{cite:\w\}`([^`]+)`", page.read_text(encoding="utf8")):
            assert set(keys.split(",")) <= known, page.name


def test_pages_need_no_network(site):
    loaded = re.compile(
        r'<(?:script|link|img|iframe)[^>]*(?:src|href)="(?:https?:)?//[^"]*"|url\(["\']?https?:|@import[^;]*https?:'
    )
    hosts = re.compile(r"https?://[\w.]*(?:unpkg|jsdelivr|cdnjs|googleapis|gstatic)")
    for path in [*site.glob("*.html"), *site.rglob("_static/**/*.css")]:
        text = path.read_text(encoding="utf8")
        assert not loaded.search(text) and not hosts.search(text), path.name
    assert (site / "mathjax" / "tex-mml-chtml.js").is_file()
    assert re.search(r'src="_static/\.\./mathjax/tex-mml-chtml\.js[?"]', (site / "method.html").read_text(encoding="utf8"))


def test_what_no_page_asks_for_is_not_published(site):
    assert not [*site.rglob("*.map"), *site.rglob("*.po"), *site.rglob("*.mo")]


COUNTS = (  # tables of a page in a study with everything, and in a small one
    *(("index", 1, 1), ("report_impact", 5, 2), ("report_strength", 8, 2), ("report_finetuning", 4, 3)),
    *(("report_training", 2, 1), ("report_ablations", 6, 0), ("report_released", 2, 0), ("report_data", 6, 6)),
    *(
        ("report_reproduce", 3, 3),
        ("report_claims", 7, 7),
        ("report_published", 4, 4),
        ("report_example", 2, 2),
        ("report_gallery", 2, 0),
    ),
    *(("report_in_distribution", 4, 3), ("report_modality", 8, 7), ("report_variants", 3, None)),
    *(("plain_impact", 2, None), ("plain_claims", 7, None), ("plain_modality", 7, None)),
)


@pytest.mark.parametrize(("page", "full", "least"), COUNTS)
def test_tables_are_numbered_and_captions_complete(site, plain_site, page, full, least):
    for built, count in ((site, full), (plain_site, least)):
        if count is None:  # a page about what the study lacks, or of a second study
            assert not (built / f"{page}.html").exists()
            continue
        html = (built / f"{page}.html").read_text(encoding="utf8")
        captions = [re.sub(r"<[^>]+>", "", text) for text in re.findall(r"<caption>(.*?)</caption>", html, re.S)]
        assert len(captions) == count
        for text in captions:
            assert re.match(r"\s*Table \d+ ", text), text
            if not re.search(r"Cost|Speed|No model has a part in this table", text):
                assert re.search(r"Threat model: (ℓ∞ ball of 2/255|one word|at most|white box|none)", text), text
                assert re.search(r"rained on|ine-tuned on", text) and re.search(r"\bn\b", text), text
        assert all("alt=" in tag for tag in re.findall(r"<img[^>]*>", html))
        assert "`" not in re.sub(r"<(pre|code|script)[\s\S]*?</\1>", "", html.split("<article")[1].split("</article")[0])


COMMANDS = (
    *(
        ("report_ablations", {"mmcoa run ablations"}),
        ("report_data", set()),
        ("report_impact", {"mmcoa run FIRST"}),
        ("plain_impact", {"mmcoa run SECOND"}),
    ),
    *((page, {"mmcoa run FIRST", "mmcoa run SECOND"}) for page in ("index", "report_variants")),
    ("report_strength", {"mmcoa run FIRST", "python benchmarks/strength.py", "mmcoa bench"}),
)


@pytest.mark.parametrize(("page", "full"), [(page, full) for page, full, _ in COUNTS])
def test_each_table_has_its_file_and_its_notebook(site, page, full):
    lines = re.findall(r'<p class="table-source">(.*?)</p>', (site / f"{page}.html").read_text(encoding="utf8"), re.S)
    assert len(lines) == full
    for line in lines:
        table, notebook = (site / target for target in re.findall(r'href="([^"]+)"', line))
        assert table.suffix == ".csv" and table.is_file() and notebook.suffix == ".ipynb" and notebook.is_file()
        assert page == "index" or notebook.stem == page


@pytest.mark.parametrize(("page", "made"), COMMANDS)
def test_commands_are_those_that_made_the_numbers(site, rich_profile, plain_profile, page, made):
    lines = re.findall(r'<p class="table-source">(.*?)</p>', (site / f"{page}.html").read_text(encoding="utf8"), re.S)
    said = [text for line in lines for text in re.findall(r"<code[^>]*>(.*?)</code>", line, re.S)]
    commands = {
        re.sub(r"<[^>]+>", "", text).replace(rich_profile[0], "FIRST").replace(plain_profile[0], "SECOND") for text in said
    }
    assert commands == made | {"mmcoa book FIRST SECOND"}


def test_figures_have_captions_with_n_and_threat_model(site):
    html = (site / "report_impact.html").read_text(encoding="utf8")
    captions = [re.sub(r"<[^>]+>", "", text) for text in re.findall(r"<figcaption>(.*?)</figcaption>", html, re.S)]
    assert len(captions) == 6
    for text in captions:
        assert re.search(r"n = |One picture", text) and "Threat model: " in text, text


def test_a_study_without_sweeps_says_so(plain_site, site):
    text = text_of((plain_site / "report_impact.html").read_text(encoding="utf8"))
    assert "because the profile plain has no such sweep: all attacks, epsilon, steps, restarts" in text
    assert "How large a perturbation" not in text and "Every attack" not in text
    text = text_of((plain_site / "report_strength.html").read_text(encoding="utf8"))
    for said in ("python benchmarks/strength.py", "mmcoa bench", "has no sweep attacks"):
        assert said in text
    full = text_of((site / "report_impact.html").read_text(encoding="utf8"))
    assert "no such sweep" not in full and "How large a perturbation" in full


def test_a_study_without_ablations_and_logs_says_so(plain_site, site):
    for page, said in (
        (
            "report_training",
            ("No training logs are at hand", "hold no accuracy on held-out training pictures", "mmcoa run PROFILE"),
        ),
        ("report_ablations", ("This part was not run", "mmcoa run ablations")),
        ("report_released", ("This part was not run", "mmcoa run ablations")),
    ):
        text = text_of((plain_site / f"{page}.html").read_text(encoding="utf8"))
        full = text_of((site / f"{page}.html").read_text(encoding="utf8"))
        assert all(words in text for words in said), page
        assert said[0] not in full, page
    text = text_of((site / "report_released.html").read_text(encoding="utf8"))
    assert "has no finished results: misaligned candidates, corner steps and coupled decay; models" in text
    assert re.search(r"gradient leak: clean −\d", text) and "intervals cover zero" in text


def test_the_gallery_and_its_pictures_reach_the_page(site, plain_site):
    html = (site / "report_gallery.html").read_text(encoding="utf8")
    sources = set(re.findall(r'<img[^>]*src="(figures/gallery/[^"]+)"', html))
    assert sources == {f"figures/gallery/{name}.webp" for name in ("clean", "none", "tecoa-seed0")}
    assert all((site / source).is_file() for source in sources)
    assert "CC BY-SA 4.0" in text_of(html) and "Caltech-101" in text_of(html)
    assert "no gallery yet" not in html
    assert "no gallery yet" in text_of((plain_site / "report_gallery.html").read_text(encoding="utf8"))


def test_a_picture_that_is_not_there_stops_the_build(tmp_path):
    shutil.copytree(ROOT / "book" / "_ext", tmp_path / "_ext")
    config = "title: one page\nexecute: {execute_notebooks: 'off'}\nsphinx: {local_extensions: {pictures: _ext}}\n"
    (tmp_path / "_config.yml").write_text(config)
    (tmp_path / "_toc.yml").write_text("format: jb-book\nroot: index\n")
    (tmp_path / "index.md").write_text('# One page\n\n<img src="figures/absent.webp" alt="nothing">\n')
    with pytest.raises(UserError, match=r"WARNING: picture figures/absent\.webp is not there"):
        build.render(tmp_path)


def test_verdicts_reach_the_page(site):
    text = text_of((site / "report_strength.html").read_text(encoding="utf8"))
    assert "1 of 104 checks (26 models) does not pass: PGD, more steps help the defender" in text
    assert "Verdict: 1 of 2 comparisons agree." in text and "Targets met: 2 of 3" in text


def test_marked_words_reach_the_page(site):
    html = (site / "report_impact.html").read_text(encoding="utf8")
    assert '<span class="was">photo</span>' in html and '<span class="now">snapshot</span>' in html


def test_each_study_says_what_its_pages_were_made_from(site, rich_profile, plain_profile):
    book = site.parents[1]
    folders = extensions.load("belongs").folders(book)
    names = {
        folder.relative_to(book).as_posix(): [study["name"] for study in source.read(folder)["studies"]] for folder in folders
    }
    assert names == {
        "tables": ["rich"],
        "tables/summary": ["rich", "plain"],
        "tables/variants": ["rich", "plain"],
        "plain/tables": ["plain"],
    }
    assert [source.problem(folder) for folder in folders] == [None] * len(folders)
    made = source.read(book / "plain" / "tables")
    assert "../../plain_impact.ipynb" in made["pages"] and made["book"] == [rich_profile[0], plain_profile[0]]
    assert list(source.read(book / "tables" / "summary")["tables"]) == ["claims.csv"]


def test_a_book_with_holes_names_them_on_its_pages(plain_profile, tmp_path):
    profile, results = plain_profile
    results = shutil.copytree(results, tmp_path / "results")
    (results / "plain" / "records" / "mmcoa-seed1__openmoji-tools.json").unlink()
    with pytest.raises(UserError, match="no result for cell 'mmcoa-seed1__openmoji-tools'"):
        build.build_book(profile, tmp_path / "book", results)
    site = build.build_book(profile, tmp_path / "book", results, holes=True).parent
    for page in ("index", "report_impact", "report_finetuning"):
        assert (
            text_of((site / f"{page}.html").read_text(encoding="utf8")).count("no current result: mmcoa-seed1__openmoji-tools")
            == 1
        ), page
    assert "missing" in text_of((site / "report_finetuning.html").read_text(encoding="utf8"))


def test_a_second_study_has_pages_of_its_own(site):
    text = text_of((site / "plain_impact.html").read_text(encoding="utf8"))
    assert "Impact of attacks on CLIP (plain)" in text
    first = (site / "report_impact.html").read_text(encoding="utf8")
    second = (site / "plain_impact.html").read_text(encoding="utf8")
    assert 'id="tab-impact"' in first and 'id="plain-tab-impact"' in second and 'href="plain_modality.html"' in second
    assert 'href="report_strength.html"' in second  # there is one such page
    navigation = second.split('<nav class="bd-links')[1].split("</nav>")[0]
    assert [re.sub(r"\s+", " ", caption) for caption in re.findall(r'caption-text">([^<]*)<', navigation)] == [
        "The study", "Part 1: rich", "Part 2: plain", "A second model", "Use it"
    ]  # fmt: skip


def test_the_first_page_shows_both_studies(site, plain_site):
    html = (site / "index.html").read_text(encoding="utf8")
    for column in ("verdict, rich", "verdict, plain", "smallest effect (points), rich"):
        assert column in html
    text = text_of(html)
    assert (
        re.search(r"on rich, \d+ % without attack.*; on plain, \d+ % without attack", text)
        and len(re.findall("<figure", html)) == 1
    )
    alone = text_of((plain_site / "index.html").read_text(encoding="utf8"))
    assert re.search(r"over all data sets: \d+ % without attack", alone) and "on plain," not in alone


def test_pages_of_more_kinds_of_models(site):
    text = text_of((site / "report_in_distribution.html").read_text(encoding="utf8"))
    assert (
        "data sets birds and tools" in text
        and "lack one of the data sets: image only (birds)" in text
        and "with 1 shot" in text
    )
    text = text_of((site / "report_finetuning.html").read_text(encoding="utf8"))
    assert (
        "How large a perturbation each method stands" in text
        and "image only (equal compute)" in text
        and "in distribution)" not in text
    )
    assert "Fine-tuned on: clothing" in text


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
