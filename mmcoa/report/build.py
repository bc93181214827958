"""The book of a profile: report notebooks are run on its results, then Jupyter Book renders them between the pages.

The results of a published profile are rendered in book/ itself, which is committed; those of any other profile in a copy
of it, book/_build/PROFILE, so that no tracked file changes.
"""

import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path

import papermill

from mmcoa.errors import UserError
from mmcoa.report import results as stored
from mmcoa.report import schematic, sections, source, style
from mmcoa.study.cells import expand
from mmcoa.study.papermill_run import NotebookFailed, run_notebook
from mmcoa.study.profiles import load_profile

SOURCES, NOTEBOOKS = Path("book"), Path("notebooks")  # in the project's folder, from which the commands run
PUBLISHED = ("openmoji",)
MADE = ("_build", "tables", "figures", "report_*.ipynb")  # what a build writes: never copied from book/


def build_book(profile, output=None, results=Path("results"), holes=False):
    """Build the book of a profile and return the path of its first page.

    Arguments
        profile: a shipped profile's name or the path of a profile.
        output: folder of the book; default book/ for a published profile, book/_build/PROFILE for another.
        results: folder of all results.
        holes: build it although results are missing or stale; pages then say which, and mark what needs them.

    Raises `UserError` that names the cell where a result is missing or stale (but for `holes`), and with the first warning where a page
    does not build.
    """
    name = load_profile(profile).name
    if not (SOURCES / "_config.yml").is_file() or not NOTEBOOKS.is_dir():
        raise UserError(f"no {SOURCES}/_config.yml and {NOTEBOOKS}/ here ({Path.cwd()}); run this in the project's folder")
    for package in ("jupyter_book", "myst_nb"):
        if importlib.util.find_spec(package) is None:
            raise UserError(f"building the book needs {package}; install it with: pip install 'mmcoa[book]'")
    study = stored.load(profile, results, holes)  # a missing result ends here, before anything is written
    folder = Path(output) if output else SOURCES if name in PUBLISHED else SOURCES / "_build" / name
    copy_sources(folder)
    style.save(schematic.losses(), folder / "figures" / "losses.svg")
    keys = sections.available(study, results)
    source.begin(folder / "tables")
    for notebook in sorted(NOTEBOOKS.glob("report_*.ipynb")):
        run_report(notebook, folder, profile, results, keys, holes)
        source.claim(folder / "tables", folder / notebook.name)
    source.finish(folder / "tables", profile, expand(profile, results=results), results, NOTEBOOKS, [hole.cell for hole in study.holes])
    return render(folder)


def copy_sources(folder):
    """The book's sources as they are now, in `folder`; what an earlier build made there is removed."""
    if folder.resolve() == SOURCES.resolve():
        return
    if folder.exists() and any(folder.iterdir()) and not (folder / "_toc.yml").is_file():
        raise UserError(f"{folder} holds other files than a book; choose an empty folder")
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(SOURCES, folder, ignore=shutil.ignore_patterns(*MADE))


def run_report(notebook, folder, profile, results, keys, holes=False):
    """Run one report notebook, as far as the study has results for it; the book's folder receives it executed, with its
    tables and figures. `keys`: see `sections.available`; `holes`: see `build_book`."""
    fitting = sections.write_fitting(notebook, folder / "_build" / "notebooks" / notebook.name, keys)
    parameters = {"profile": str(profile), "results": str(results), "output": str(folder)}
    if holes and "holes" in papermill.inspect_notebook(str(fitting)):  # not of one that reads no study
        parameters["holes"] = True
    try:
        run_notebook(fitting, folder / notebook.name, parameters)
    except NotebookFailed as failure:
        raise UserError(f"{notebook} failed: {failure} (see {failure.notebook})") from failure


def render(folder):
    """`jupyter-book build -W`; returns index.html. Raises `UserError` with the first warning."""
    command = [sys.executable, "-c", "from jupyter_book.cli.main import main; main()"]  # of this interpreter, not of the PATH
    command += ["build", "-W", "--keep-going", "--all", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf8", errors="replace")
    output = re.sub(r"\x1b\[[0-9;]*m", "", done.stdout + done.stderr)
    log = folder / "_build" / "build.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text(output, encoding="utf8")
    index = folder / "_build" / "html" / "index.html"
    if done.returncode != 0 or not index.is_file():
        raise UserError(f"the book did not build: {first_problem(output)}; the whole output is in {log}")
    return index


def first_problem(output):
    """The first line of a Sphinx log that says warning or error, else its last line."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    found = (line for line in lines if re.search(r"\b(WARNING|ERROR|CRITICAL|Error):", line))
    return next(found, lines[-1] if lines else "no output")
