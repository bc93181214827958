"""The book of a study: report notebooks are run on its packed results, then Jupyter Book renders them between the pages.

    build_book("openmoji")       # in book/_build/openmoji, a copy of the book's sources: no tracked file changes
    jupyter-book build book/     # the same pages in book/ itself, among files that git ignores (book/_ext/made.py)

A page is run again only where its notebook, the results that it reads or the code that it imports have changed.
"""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nbformat
import yaml

from mmcoa.errors import UserError, unknown
from mmcoa.report import imported, sections
from mmcoa.report import results as stored
from mmcoa.store.files import digest, file_digest, write_json, write_text
from mmcoa.study.papermill_run import NotebookFailed, run_notebook
from mmcoa.study.profiles import load_profile, shipped_profiles

SOURCES, NOTEBOOKS = Path("book"), Path("notebooks")  # in the project's folder, from which the commands run
STUDY = "openmoji"  # of the published book
VARIANTS = {"openmoji": "resnet"}  # study of the same data and defences with another base model: the page report_variants
NAMES = {"report_summary": "index", "report_explorer": "explorer"}  # pages that are not called as their notebooks are
READS = {  # folders of results/ that a page shows beside those of its study
    **dict.fromkeys(("report_ablations", "report_released"), ("ablations",)),
    **dict.fromkeys(("report_summary", "report_claims", "report_finetuning", "report_training"), ("learning-rates",)),
    "report_strength": ("strength", "speed"),
    "report_reproduce": ("cost", "*/cells.csv"),
}
MADE = ("_build", "_toc.yml", "tables", "figures", "*.ipynb", "study_*.js", "studies.js")  # by a build, in a book's folder
MADE_BEFORE = "MMCOA_PAGES_MADE"  # environment: tells book/_ext/made.py that the pages are there


def build_book(study=STUDY, output=None, results="results", variant=None):
    """Build the book of a study and return the path of its first page.

    Arguments:
        study: name of the study, or the path of its profile.
        output: folder of the book; default book/_build/STUDY.
        results: folder of all results.
        variant: study with the same data and defences and another base model; default what VARIANTS says.

    Raises `UserError` where results are missing, where a notebook fails, and with the first warning where a page does not
    build.
    """
    name = name_of(study, results)
    if not (SOURCES / "_config.yml").is_file() or not NOTEBOOKS.is_dir():
        raise UserError(f"no {SOURCES}/_config.yml and {NOTEBOOKS}/ here ({Path.cwd()}); run this in the project's folder")
    for package in ("jupyter_book", "myst_nb"):
        if importlib.util.find_spec(package) is None:
            raise UserError(f"building the book needs {package}; install it with: pip install 'mmcoa[book]'")
    folder = Path(output) if output else SOURCES / "_build" / name
    loaded = stored.load(name, results)  # a missing result ends here, before anything is written
    whole = copy_sources(folder)
    make_pages(loaded, folder, results, variant)
    write_contents(folder)
    return render(folder, whole=whole)


def name_of(study, results="results"):
    """The name of a study, given that or the path of its profile. Raises `UserError` with the nearest names for another."""
    if str(study).endswith((".yaml", ".yml")):
        return load_profile(study).name
    known = [*shipped_profiles(), *(path.parent.name for path in Path(results).glob("*/cells.csv"))]
    if study not in known:
        raise unknown("study", study, dict.fromkeys(known))
    return study


def copy_sources(folder):
    """Bring the book's sources into `folder`; what has not changed is left alone. Returns whether all pages have to be
    rendered."""
    if folder.exists() and any(folder.iterdir()) and not (folder / "_config.yml").is_file():
        raise UserError(f"{folder} holds other files than a book; choose an empty folder")
    wanted = {path.relative_to(SOURCES) for path in SOURCES.rglob("*") if path.is_file()}
    wanted = {path for path in wanted if not is_made(path)}
    there = {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()} if folder.exists() else set()
    for path in there - wanted:
        if not is_made(path):
            (folder / path).unlink()
    changed = {path for path in wanted if path not in there or file_digest(SOURCES / path) != file_digest(folder / path)}
    for path in changed:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(SOURCES / path, folder / path)
    return any(path.suffix != ".md" for path in changed)  # extensions and settings are about all pages


def is_made(path):
    """Whether a path in a book's folder is one of MADE, or in one."""
    return "__pycache__" in path.parts or any(Path(part).match(pattern) for part in path.parts for pattern in MADE)


def make_pages(study, folder, results="results", variant=None):
    """Run those report notebooks of a study (`Results`) into a book's folder that are not current there, two at a time.

    Returns the names of the pages that were made.
    """
    variant = variant or VARIANTS.get(study.name)
    keys = sections.available(study, results, variant)
    state = folder / "_build" / "pages.json"
    known = json.loads(state.read_text(encoding="utf8")) if state.is_file() else {}
    todo = {}
    for notebook in sorted(NOTEBOOKS.glob("report_*.ipynb")):
        content, page = sections.fitting(notebook, keys), folder / f"{NAMES.get(notebook.stem, notebook.stem)}.ipynb"
        if content is None:  # a page about what the study lacks
            page.unlink(missing_ok=True)
            continue
        own = {"name": study.name, "results": str(results), "output": str(folder)}
        reads = (study.name, *READS.get(notebook.stem, ()))
        if notebook.stem == "report_variants":
            own, reads = own | {"variant": variant}, (*reads, variant)
        key = page_key(content, own, results, reads)
        if known.get(page.name) != key or not page.is_file():
            todo[page] = notebook, content, own, key

    def make(page):
        notebook, content, own, key = todo[page]
        run_report(content, notebook, page, own)
        known[page.name] = key
        write_json(state, dict(known), indent=1)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(make, todo))
    for path in folder.glob("*.md"):  # pages that say what another page has found
        if todo and ".ipynb::" in path.read_text(encoding="utf8"):
            path.touch()
    return [page.stem for page in todo]


def page_key(content, parameters, results, reads):
    """Digest of all that a page is made of: its cells, parameters, the code that they import, and the results that it reads."""
    cells = [[cell.cell_type, cell.source, cell.metadata.get("tags", [])] for cell in content.cells]
    files = imported.files([cell.source for cell in content.cells if cell.cell_type == "code"])
    for pattern in reads:
        for path in sorted(Path(results).glob(pattern)):
            files += sorted(path.rglob("*")) if path.is_dir() else [path]
    return digest([cells, parameters, {str(path): file_digest(path) for path in files if path.is_file()}])


def run_report(content, notebook, path, parameters):
    """Run the content of a report notebook; `path` receives it executed, the book's folder its tables and figures."""
    fitting = path.parent / "_build" / "notebooks" / path.name
    fitting.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(content, fitting)
    try:
        run_notebook(fitting, path, parameters)
    except NotebookFailed as failure:
        raise UserError(f"{notebook} failed: {failure} (see {failure.notebook})") from failure


def write_contents(folder):
    """_toc.yml of the pages that there are."""
    toc = yaml.safe_load((SOURCES / "_toc.yml").read_text(encoding="utf8"))
    for part in toc["parts"]:
        pages = [item["file"] for item in part["chapters"]]
        part["chapters"] = [
            {"file": page} for page in pages if any(folder.glob(f"{page}.md")) or any(folder.glob(f"{page}.ipynb"))
        ]
    toc["parts"] = [part for part in toc["parts"] if part["chapters"]]
    text, path = yaml.safe_dump(toc, sort_keys=False), folder / "_toc.yml"
    if not path.is_file() or path.read_text(encoding="utf8") != text:
        write_text(path, text)


def render(folder, builder="html", whole=True):
    """`jupyter-book build -W`; returns index.html. Raises `UserError` with the first warning.

    builder: html, or singlehtml for all pages in one, made of what an html build has read before.
    whole: render all pages, not those alone that have changed since the last build that went well.
    """
    done_before = folder / "_build" / "rendered"
    again = ["--all"] if builder == "html" and (whole or not done_before.is_file()) else []
    command = [sys.executable, "-c", "from jupyter_book.cli.main import main; main()"]  # of this interpreter, not of the PATH
    command += ["build", "-W", "--keep-going", "--builder", builder, *again, str(folder)]
    done_before.unlink(missing_ok=True)
    options = {"capture_output": True, "text": True, "encoding": "utf8", "errors": "replace"}
    done = subprocess.run(command, env=os.environ | {MADE_BEFORE: "1"}, **options)
    output = re.sub(r"\x1b\[[0-9;]*m", "", done.stdout + done.stderr)
    log = folder / "_build" / "build.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text(output, encoding="utf8")
    index = folder / "_build" / builder / "index.html"
    if done.returncode != 0 or not index.is_file():
        raise UserError(f"the book did not build: {first_problem(output)}; the whole output is in {log}")
    done_before.touch()
    return index


def first_problem(output):
    """The first line of a Sphinx log that says warning or error, else its last line."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    found = (line for line in lines if re.search(r"\b(WARNING|ERROR|CRITICAL|Error):", line))
    return next(found, lines[-1] if lines else "no output")
