"""The book of one or several studies: report notebooks are run on their results, then Jupyter Book renders them between the pages.

The published studies are rendered in book/ itself, which is committed; any others in a copy of it, book/_build/PROFILE, so that
no tracked file changes.
"""

import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import yaml

from mmcoa.errors import UserError
from mmcoa.report import explorer, schematic, sections, source, studies, style
from mmcoa.report import results as stored
from mmcoa.report.names import study_label
from mmcoa.study.cells import expand
from mmcoa.study.papermill_run import NotebookFailed, run_notebook
from mmcoa.study.profiles import load_profile

SOURCES, NOTEBOOKS = Path("book"), Path("notebooks")  # in the project's folder, from which the commands run
PUBLISHED = ("openmoji", "photos")
VARIANTS = {"openmoji": "resnet"}  # study of the same data and defences with another base model: the page report_variants
SUMMARY, VARIANT, FIRST = "report_summary", "report_variants", "report_impact"  # FIRST: a page that every study has
# What a build writes: never copied from book/.
MADE = ("_build", "_toc.yml", "tables", "figures", "*.ipynb", "study_*.js", "studies.js", *PUBLISHED[1:])


def build_book(profiles, output=None, results=Path("results"), variant=None, holes=False):
    """Build the book of one or several studies and return the path of its first page.

    Arguments:
        profiles: a shipped profile's name or the path of a profile, or a list of them, in the order of the book's parts.
        output: folder of the book; default book/ for published profiles, where the pages of those that are not named are kept
            as they are, and book/_build/PROFILE for others.
        results: folder of all results.
        variant: profile with the same data and defences and another base model; default what VARIANTS says of the first.
        holes: build it although results are missing or stale; pages then say which, and mark what needs them.

    Raises `UserError` that names the cell where a result is missing or stale (but for `holes`), and with the first warning where a page
    does not build.
    """
    profiles = [profiles] if isinstance(profiles, (str, Path)) else list(profiles)
    named = {load_profile(profile).name: str(profile) for profile in profiles}
    if not (SOURCES / "_config.yml").is_file() or not NOTEBOOKS.is_dir():
        raise UserError(f"no {SOURCES}/_config.yml and {NOTEBOOKS}/ here ({Path.cwd()}); run this in the project's folder")
    for package in ("jupyter_book", "myst_nb"):
        if importlib.util.find_spec(package) is None:
            raise UserError(f"building the book needs {package}; install it with: pip install 'mmcoa[book]'")
    published = output is None and set(named) <= set(PUBLISHED)
    folder = Path(output) if output else SOURCES if published else SOURCES / "_build" / "-".join(named)
    parts = parts_of(named, folder, published)
    loaded = {
        part.name: stored.load(part.profile, results, holes) for part in parts
    }  # a missing result ends here, before anything is written
    variant = variant or VARIANTS.get(parts[0].name)
    keys = {
        part.name: sections.available(loaded[part.name], results, None if part.prefix else variant, holes)
        for part in parts
        if part.name in named
    }
    copy_sources(folder)
    for part in parts:
        if part.name in named:
            for made in ("tables", "figures"):  # of pages that have changed since
                shutil.rmtree(part.folder(folder) / made, ignore_errors=True)
            book = [part.profile] if published else list(named.values())  # what builds its pages again
            run_study(part, folder, results, keys[part.name], book, variant, holes)
    style.save(schematic.losses(), folder / "figures" / "losses.svg")
    style.save(schematic.defences(), folder / "figures" / "defences.svg")
    for part in parts:
        explorer.write(loaded[part.name], folder / "extra" / "explorer")
    run_summary(parts, folder, results, holes)
    write_contents(parts, folder)
    return render(folder)


def parts_of(named, folder, published):
    """The parts of a book: the named studies {name: profile}, and of a published book those whose pages are there."""
    order = list(PUBLISHED) if published else list(named)
    prefixes = dict(zip(order, ["", *order[1:]], strict=True))

    def there(name):
        return (folder / f"{studies.Part(name, name, prefixes[name]).page(FIRST)}.ipynb").is_file()

    names = [name for name in order if name in named or there(name)]
    if names[0] != order[0]:
        raise UserError(f"{folder} has no pages of the study '{order[0]}' yet; build both: mmcoa book {' '.join(order)}")
    several = len(names) > 1
    return [studies.Part(named.get(name, name), name, prefixes[name], study_label(name) if several else "") for name in names]


def copy_sources(folder):
    """The book's sources as they are now, in `folder`; what an earlier build made there is removed."""
    if folder.resolve() == SOURCES.resolve():
        return
    if folder.exists() and any(folder.iterdir()) and not (folder / "_config.yml").is_file():
        raise UserError(f"{folder} holds other files than a book; choose an empty folder")
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(SOURCES, folder, ignore=shutil.ignore_patterns(*MADE))


def run_study(part, folder, results, keys, book, variant=None, holes=False):
    """Run the report notebooks of one study. `keys`: see `sections.available`; `book`: profiles of the command that does so."""
    notebooks = {path.stem: path for path in sorted(NOTEBOOKS.glob("report_*.ipynb")) if path.stem != SUMMARY}
    if part.prefix:
        empty = (
            set() if "gallery" in keys else {"report_gallery"}
        )  # one page in a book that says how to make a gallery is enough
        notebooks = {page: notebooks[page] for page in studies.LATER if page in notebooks and page not in empty}
    fitting = {page: sections.fitting(path, keys) for page, path in notebooks.items()}
    tables = part.folder(folder) / "tables"
    names = set().union(*(studies.labels(cell.source) for content in fitting.values() if content for cell in content.cells))
    for page, content in fitting.items():
        path = folder / f"{part.page(page)}.ipynb"
        if content is None:  # a page about what the study lacks
            path.unlink(missing_ok=True)
            continue
        for cell in content.cells:
            if cell.cell_type == "markdown":
                cell.source = studies.rewritten(cell.source, part, names, [name for name, own in fitting.items() if own])
        if page in studies.LATER:
            content.cells[0].source = studies.titled(content.cells[0].source, part)
        parameters = {"profile": part.profile, "results": str(results), "output": str(part.folder(folder))}
        own = parameters | ({"variant": str(variant)} if page == VARIANT else {})
        run_report(content, notebooks[page], path, own, holes)
        source.claim(tables / "variants" if page == VARIANT else tables, path)
    origins = [origin(part.profile, results, holes)]
    source.finish(tables, origins, results, NOTEBOOKS, book)
    if fitting.get(VARIANT):
        source.finish(tables / "variants", [*origins, origin(variant, results, holes)], results, NOTEBOOKS, book)


def origin(profile, results, holes):
    """What SOURCE.json says of a study that pages show."""
    study = stored.load(profile, results, holes)
    return source.Origin(str(profile), expand(profile, results=results), [hole.cell for hole in study.holes])


def run_summary(parts, folder, results, holes=False):
    """Run the notebook of the first page, which is about all studies of the book."""
    tables = folder / "tables" / "summary"
    source.begin(tables)
    keys = {"several" if len(parts) > 1 else "one"}
    content = sections.fitting(NOTEBOOKS / f"{SUMMARY}.ipynb", keys)
    pages = [page for page in studies.LATER if all((folder / f"{part.page(page)}.ipynb").is_file() for part in parts)]
    for cell in content.cells:
        if cell.cell_type == "markdown" and "{glue:" in cell.source:  # where it speaks of results
            cell.source = studies.linked(cell.source, parts, pages)
    told = [{"profile": part.profile, "title": part.title, "folder": str(part.folder(folder))} for part in parts]
    parameters = {"studies": told, "results": str(results), "output": str(folder)}
    run_report(content, NOTEBOOKS / f"{SUMMARY}.ipynb", folder / "index.ipynb", parameters, holes)
    source.claim(tables, folder / "index.ipynb")
    source.finish(
        tables, [origin(part.profile, results, holes) for part in parts], results, NOTEBOOKS, [part.profile for part in parts]
    )


def run_report(content, notebook, path, parameters, holes=False):
    """Run the content of a report notebook; `path` receives it executed, the book's folder its tables and figures. `holes`: see `build_book`."""
    if holes and any(
        "parameters" in cell.metadata.get("tags", []) and re.search(r"^holes = ", cell.source, re.M) for cell in content.cells
    ):
        parameters = parameters | {"holes": True}  # not of a page that reads no study
    fitting = path.parent / "_build" / "notebooks" / path.name
    fitting.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(content, fitting)
    try:
        run_notebook(fitting, path, parameters)
    except NotebookFailed as failure:
        raise UserError(f"{notebook} failed: {failure} (see {failure.notebook})") from failure


def write_contents(parts, folder):
    """_toc.yml of the pages that there are."""
    template = yaml.safe_load((SOURCES / "_toc_template.yml").read_text(encoding="utf8"))
    toc = studies.contents(
        template, parts, lambda page: any((folder / f"{page}{ending}").is_file() for ending in (".md", ".ipynb"))
    )
    (folder / "_toc.yml").write_text(yaml.safe_dump(toc, sort_keys=False), encoding="utf8")


def render(folder, builder="html"):
    """`jupyter-book build -W`; returns index.html. Raises `UserError` with the first warning.

    builder: html, or singlehtml for all pages in one, made of what an html build has read before.
    """
    command = [sys.executable, "-c", "from jupyter_book.cli.main import main; main()"]  # of this interpreter, not of the PATH
    command += ["build", "-W", "--keep-going", "--builder", builder, *(["--all"] if builder == "html" else []), str(folder)]
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
    """The first line of a Sphinx log that says warning or error, else its last line."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    found = (line for line in lines if re.search(r"\b(WARNING|ERROR|CRITICAL|Error):", line))
    return next(found, lines[-1] if lines else "no output")
