"""The book of a study: pages are MyST text whose cells run when Jupyter Book renders them.

    build_book()           # of the study main, in book/ itself, among files that git ignores: as `jupyter-book build book/`
    build_book("quick")    # in book/_build/quick, a small book about any study: book/study.md and what needs no results

Pages run again only where what they read or call has changed (book/_ext/fresh.py).
"""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

from mmcoa.errors import UserError, unknown
from mmcoa.report import results
from mmcoa.report.book import MAIN, RESULTS, STUDY
from mmcoa.report.sources import SOURCES, copy, small_book, whole_book
from mmcoa.store.files import write_json
from mmcoa.study.profiles import load_profile, shipped_profiles


def build_book(study=MAIN, output=None):
    """Build the book of a study and return the path of its first page.

    Arguments:
        study: name of the study, or the path of its profile.
        output: folder of the book; default book/ for the study main, book/_build/STUDY for another.

    Raises `UserError` where results are missing, and with the first warning where a page does not run or build.
    """
    name = name_of(study)
    if not (SOURCES / "_config.yml").is_file():
        raise UserError(f"no {SOURCES}/_config.yml here ({Path.cwd()}); run this in the project's folder")
    for package in ("jupyter_book", "myst_nb"):
        if importlib.util.find_spec(package) is None:
            raise UserError(f"building the book needs {package}; install it with: pip install 'mmcoa[book]'")
    results.load(name)  # a missing result ends here, before anything is written
    folder = Path(output) if output else SOURCES if name == MAIN else SOURCES / "_build" / name
    if folder != SOURCES:
        copy(whole_book() if name == MAIN else small_book(), folder)
    path = folder / "_build" / "study.json"
    if folder == SOURCES:
        path.unlink(missing_ok=True)
    else:
        write_json(path, {STUDY: name, RESULTS: str(Path("results").resolve())})
    return render(folder)


def name_of(study):
    """The name of a study, given that or the path of its profile. Raises `UserError` with the nearest names for another."""
    if str(study).endswith((".yaml", ".yml")):
        return load_profile(study).name
    known = [*shipped_profiles(), *(path.parent.name for path in Path("results").glob("*/cells.csv"))]
    if study not in known:
        raise unknown("study", study, dict.fromkeys(known))
    return study


def render(folder, builder="html"):
    """`jupyter-book build -W`; returns index.html. Raises `UserError` with the first warning.

    builder: html, or singlehtml for all pages in one, made of what an html build has read before.
    """
    command = [sys.executable, "-c", "from jupyter_book.cli.main import main; main()"]  # of this interpreter, not of the PATH
    command += ["build", "-W", "--keep-going", "--builder", builder, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf8", errors="replace")
    output = re.sub(r"\x1b\[[0-9;]*m", "", done.stdout + done.stderr)
    log = folder / "_build" / "build.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text(output, encoding="utf8")
    index = folder / "_build" / builder / "index.html"
    if done.returncode != 0 or not index.is_file():
        raise UserError(f"the book did not build: {first_problem(output)}; the whole output is in {log}")
    return index


def first_problem(output):
    """The first line of a Sphinx log that says warning or error, else its last line; of a cell that failed what it raised."""
    lines = [line.strip() for line in output.splitlines() if line.strip()] or ["no output"]
    found = next((line for line in lines if re.search(r"\b(WARNING|ERROR|CRITICAL|Error):", line)), lines[-1])
    raised = [line for line in lines if re.match(r"[A-Z]\w*(Error|Exception|Exit|Interrupt): ", line)]
    place, failed, _ = found.partition("Executing notebook failed")
    return place + raised[-1] if failed and raised else found
