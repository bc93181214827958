"""Sphinx extension: pages run again where what they read has changed, in the interpreter that builds the book.

The cache of executed pages compares their code alone. So digests of all else lie beside it: of the results and the package,
for a change of which everything is made anew, and of the book's looks, for which pages are rendered again but not run. The
same goes for a build that ended with a warning, which would else be silent the next time.
"""

import json
import os
import shutil
from pathlib import Path

from ipykernel.kernelspec import get_kernel_dict
from sphinx.errors import ExtensionError

import mmcoa
from mmcoa.errors import UserError
from mmcoa.report.book import STUDY, results_folder
from mmcoa.store.files import digest, file_digest, write_json

RENDERED = (".doctrees", "html", "singlehtml")  # of _build
RUN = (".jupyter_cache", "jupyter_execute", "numbers")
WRITTEN = ("tables", "figures")  # by pages, beside _build
LOOKS = ("_config.yml", "_toc.yml", "_ext", "_static")
CODE = (".py", ".csv", ".yaml", ".json", ".txt")


def setup(app):
    built, sources = Path(app.outdir).parent, Path(app.srcdir)
    if (given := built / "study.json").is_file():  # of a book of another study (mmcoa/report/build.py)
        os.environ.update(json.loads(given.read_text(encoding="utf8")))
    use_this_interpreter(built)
    try:
        forget(built, sources, digests(sources))
    except UserError as problem:
        raise ExtensionError(str(problem)) from problem
    for folder in (app.outdir, app.doctreedir):
        Path(folder).mkdir(parents=True, exist_ok=True)
    app.connect("env-get-outdated", remove_pages)
    app.connect("build-finished", remember)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def use_this_interpreter(built):
    """A kernel `python3` that comes before any that is installed, as that may be of another environment."""
    spec = get_kernel_dict(["--IPKernelApp.log_level=50"])
    write_json(built / "kernel" / "kernels" / "python3" / "kernel.json", spec)
    os.environ["JUPYTER_PATH"] = os.pathsep.join(filter(None, (str(built / "kernel"), os.environ.get("JUPYTER_PATH"))))


def digests(sources):
    """{"run", "looks"}: of what pages read and what the cells call, and of what makes pages look as they do."""
    package, results = Path(mmcoa.__file__).parent, results_folder(sources)
    code = [path for path in files(package) if path.suffix in CODE and path.relative_to(package).parts[0] != "assets"]
    stored = [path for path in files(results) if "partial" not in path.parts]
    read = [os.environ.get(STUDY), named(code, package), named(stored, results)]
    looks = [path for name in LOOKS for path in files(sources / name)]
    return {"run": digest(read), "looks": digest(named(looks, sources))}


def files(path):
    """All files of a folder, or the file itself."""
    found = sorted(path.rglob("*")) if path.is_dir() else [path]
    return [each for each in found if each.is_file() and "__pycache__" not in each.parts]


def named(paths, folder):
    return {path.relative_to(folder).as_posix(): file_digest(path) for path in paths}


def forget(built, sources, now):
    """Remove what was made of something else than there is now."""
    state = built / "made.json"
    before = json.loads(state.read_text(encoding="utf8")) if state.is_file() else {}
    lost = [name for name in before.get("files", ()) if not (sources / name).is_file()]
    gone = []
    if before.get("run") != now["run"] or lost:
        gone = [*(built / name for name in (*RUN, *RENDERED)), *(sources / name for name in WRITTEN)]
    elif before.get("looks") != now["looks"] or not before.get("whole"):
        gone = [built / name for name in RENDERED]
    for folder in gone:
        shutil.rmtree(folder, ignore_errors=True)
    write_json(state, {**now, "whole": False, "files": before.get("files", []) if not gone else []})


def remove_pages(app, env, added, changed, removed):
    """Sphinx's event: a page that is no longer in the book leaves the site."""
    for name in removed:
        Path(app.outdir, f"{name}.html").unlink(missing_ok=True)
    return []


def remember(app, exception):
    """Sphinx's event: what was made, and whether without a warning."""
    sources, built = Path(app.srcdir), Path(app.outdir).parent
    made = [path for folder in (*(sources / name for name in WRITTEN), built / "numbers") for path in files(folder)]
    state = json.loads((built / "made.json").read_text(encoding="utf8"))
    state |= {"whole": exception is None and app._warncount == 0}
    write_json(built / "made.json", state | {"files": [os.path.relpath(path, sources) for path in made]})
