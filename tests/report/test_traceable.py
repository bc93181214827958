"""Where tables come from, and whether they belong to the results: a small book built with a synthetic study."""

import json
import re
import shutil
import subprocess
from html import unescape

import pytest

from mmcoa.errors import UserError
from mmcoa.report import build, source
from mmcoa.study.cells import expand

from . import extensions, synthetic

traceable, belongs = extensions.load("traceable"), extensions.load("belongs")


@pytest.fixture(scope="module")
def project(plain_profile, tmp_path_factory):
    """(folder with book/, results/ and notebooks/, profile): pages that a build of the book would have left."""
    profile, results = plain_profile
    folder = tmp_path_factory.mktemp("project")
    shutil.copytree(results, folder / "results")
    (folder / "notebooks").mkdir()
    (folder / "notebooks" / "report_page.ipynb").write_text("{}")
    book = extensions.write_book(folder / "book", profile)
    source.note(book / "tables" / "small.csv", ["mmcoa bench"])
    source.claim(book / "tables", book / "page.ipynb")
    source.finish(book / "tables", [source.Origin(profile, expand(profile))], folder / "results", folder / "notebooks")
    return folder, profile


@pytest.fixture
def copy(project, tmp_path):
    """The same to damage."""
    shutil.copytree(project[0], tmp_path / "project")
    return tmp_path / "project", project[1]


@pytest.fixture(scope="module")
def site(project, tmp_path_factory):
    return build.render(project[0] / "book").parent


def under(html):
    """[(targets of its links, its text), ...] of the lines under a page's tables."""
    lines = re.findall(r'<p class="table-source">(.*?)</p>', html, re.S)
    return [(re.findall(r'href="([^"]+)"', line), unescape(re.sub(r"<[^>]+>", "", line))) for line in lines]


def test_each_table_has_its_file_its_notebook_and_its_commands(site, project):
    folder, profile = project
    for page, name, made in (("index", "small", "mmcoa bench"), ("page", "large", f"mmcoa run {profile}")):
        [(targets, text)] = under((site / f"{page}.html").read_text(encoding="utf8"))
        assert text == f"Data (CSV) · Notebook · Commands: {made}, mmcoa book {profile}"
        table, notebook = (site / target for target in targets)
        assert table.read_bytes() == (folder / "book" / "tables" / f"{name}.csv").read_bytes()
        assert notebook.read_bytes() == (folder / "book" / "page.ipynb").read_bytes()


def test_scripts_are_loaded_where_a_table_is_large_and_nowhere_else(site):
    html = (site / "page.html").read_text(encoding="utf8")
    loaded = re.findall(r'(?:src|href)="(_static/sortable/[^"?]+)', html)
    assert {name.rpartition("/")[2] for name in loaded} == {"datatables.js", "sortable.js", "datatables.css", "sortable.css"}
    assert all((site / name).is_file() for name in loaded) and 'type="module"' not in html
    assert 'class="results' in html and "sortable large" in html and "<tfoot>" in html
    assert '<td data-order="-4.1">' in html and html.count('data-order=""') == 1
    assert "sortable/" not in (site / "index.html").read_text(encoding="utf8")


CLICK = """<script>
addEventListener("load", async function () {
  var heads = document.querySelectorAll("table.sortable thead th"), seen = { errors: window.failed };
  function column(i) { return Array.from(document.querySelectorAll("table.sortable tbody tr"), function (row) { return row.cells[i].textContent.trim(); }); }
  function pause() { return new Promise(function (done) { setTimeout(done, 500); }); }
  async function click(i) { heads[i].querySelector("[role=button]").click(); await pause(); }
  var box = document.querySelector("div.dt-search input");
  seen.label = box.labels[0].textContent.trim();
  await click(3); seen.falling = column(3); seen.state = Array.from(heads, function (head) { return head.getAttribute("aria-sort"); });
  await click(3); seen.rising = column(3);
  await click(0); seen.words = column(0);
  seen.foot = document.querySelector("table.sortable tfoot td").textContent.trim();
  box.value = "SET 12"; box.dispatchEvent(new Event("input", { bubbles: true })); await pause();
  seen.found = column(0);
  document.body.innerHTML = "<pre id=seen>" + JSON.stringify(seen) + "</pre>";
});
</script>"""


@pytest.mark.skipif(not shutil.which("chromium"), reason="needs chromium")
def test_in_a_browser_from_a_file(site, tmp_path):
    """Clicks and a search, on a page opened from file://."""
    html = (site / "page.html").read_text(encoding="utf8")
    catch = "<script>window.failed = []; addEventListener('error', function (e) { window.failed.push(String(e.message)); });</script>"
    (site / "clicked.html").write_text(
        html.replace("<head>", f"<head>{catch}", 1).replace("</body>", f"{CLICK}</body>", 1), encoding="utf8"
    )
    command = [
        "chromium",
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-sync",
    ]
    command += [f"--user-data-dir={tmp_path}", "--virtual-time-budget=20000", "--dump-dom", (site / "clicked.html").as_uri()]
    dom = subprocess.run(command, capture_output=True, text=True, timeout=240).stdout
    seen = json.loads(unescape(re.search(r'<pre id="seen"[^>]*>(.*?)</pre>', dom, re.S)[1]))
    rising = [f"−{i}.1" for i in range(13, -1, -1) if i != 3]
    assert seen["errors"] == [] and seen["label"] == "Search this table"
    assert seen["rising"] == [*rising, "–"] and seen["falling"] == [*rising[::-1], "–"]  # nothing to compare: last both times
    assert seen["state"] == [None, None, None, "descending"]
    assert seen["words"] == [f"set {i}" for i in range(14)] and seen["foot"] == "macro mean"
    assert seen["found"] == ["set 12"]


def test_origin_of_a_table_without_a_source_file(tmp_path):
    page = extensions.write_notebook(tmp_path / "page.ipynb", "mine.yaml", "# Page\n")
    assert traceable.origin(tmp_path / "tables" / "a.csv", page) == (page, ["mmcoa run mine.yaml", "mmcoa book mine.yaml"])
    assert traceable.origin(tmp_path / "tables" / "a.csv", tmp_path / "index.md") == (None, [])
    (tmp_path / "tables").mkdir()
    source.note(tmp_path / "tables" / "a.csv", [])
    assert traceable.origin(tmp_path / "tables" / "a.csv", page) == (page, ["mmcoa book mine.yaml"])


def test_pages_belong_to_their_results(project):
    folder, _ = project
    assert belongs.folders(folder / "book") == [folder / "book" / "tables"]
    assert source.problem(folder / "book" / "tables") is None and source.absent(folder / "book" / "tables") == []


RECORD = "plain/records/mmcoa-seed1__openmoji-tools.json"


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ("another record", r"record of cell 'mmcoa-seed1__openmoji-tools' is another one; run: mmcoa book .*plain\.yaml$"),
        (
            "no record",
            r"record of cell 'mmcoa-seed1__openmoji-tools' is missing; run: mmcoa run .*plain\.yaml, then mmcoa book",
        ),
        ("benchmark", r"results/speed/cpu\.csv is new; run: mmcoa book"),
        ("notebook", r"another notebooks/report_page\.ipynb; run"),
        ("page", r"page\.ipynb is not what the book"),
        ("table", r"tables/large\.csv is not what the book"),
        ("stopped", r"SOURCE\.json is not whole"),
        ("code", r"other code of mmcoa\.report"),
        ("profile", r"says something else"),
    ],
)
def test_what_does_not_belong_is_named_with_the_command(damage, said, copy, monkeypatch):
    folder, _ = copy
    book, record = folder / "book", folder / "results" / RECORD
    if damage == "another record":
        record.write_text(record.read_text().replace('"accuracy": ', '"accuracy": 1'))
    elif damage == "no record":
        record.unlink()
    elif damage == "benchmark":
        synthetic.write_benchmarks(folder / "results")
        shutil.rmtree(folder / "results" / "strength")
    elif damage in ("code", "profile"):
        monkeypatch.setattr(source, {"code": "report_code", "profile": "settings"}[damage], lambda *_: "other")
    elif damage == "stopped":
        source.begin(book / "tables")
        source.claim(book / "tables", book / "page.ipynb")
    else:
        path = {
            "notebook": folder / "notebooks" / "report_page.ipynb",
            "page": book / "page.ipynb",
            "table": book / "tables" / "large.csv",
        }[damage]
        path.write_text(path.read_text() + "\n")
    assert re.search(said, source.problem(book / "tables"))


def test_a_build_of_the_pages_alone_fails_where_they_do_not_belong(copy):
    folder, profile = copy
    (folder / "results" / RECORD).unlink()
    with pytest.raises(
        UserError,
        match=r"did not build: WARNING: the pages of profile .* 'mmcoa-seed1__openmoji-tools' is missing; run: mmcoa run",
    ):
        build.render(folder / "book")


def test_a_book_without_results_beside_it_is_not_compared_with_them(copy):
    folder, _ = copy
    shutil.rmtree(folder / "results")
    assert source.problem(folder / "book" / "tables") is None and source.absent(folder / "book" / "tables") == ["results"]


def test_holes_stand_on_top_of_each_page(copy):
    folder, profile = copy
    (folder / "results" / RECORD).unlink()
    tables = folder / "book" / "tables"
    source.finish(
        tables,
        [source.Origin(profile, expand(profile), ["mmcoa-seed1__openmoji-tools"])],
        folder / "results",
        folder / "notebooks",
    )
    assert source.problem(tables) is None
    site = build.render(folder / "book").parent
    for page in ("index", "page"):
        html = unescape(re.sub(r"<[^>]+>", "", (site / f"{page}.html").read_text(encoding="utf8")))
        assert "1 cell of the study plain has no current result: mmcoa-seed1__openmoji-tools. " in html
    (folder / "results" / RECORD).write_text("made meanwhile")
    assert re.search("'mmcoa-seed1__openmoji-tools' is another one; run: mmcoa book .* --allow-holes", source.problem(tables))


def test_a_damaged_source_is_one_line(tmp_path):
    (tmp_path / source.NAME).write_text("{")
    with pytest.raises(UserError, match="damaged .*SOURCE.json.*mmcoa book"):
        source.read(tmp_path)
