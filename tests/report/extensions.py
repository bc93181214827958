"""The book's Sphinx extensions as modules, and a small book of one table to build with them."""

import importlib.util
import json
import shutil
from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

BOOK = Path(__file__).parents[2] / "book"
CONFIG = """title: small
only_build_toc_files: true
execute: {execute_notebooks: "off"}
sphinx:
  local_extensions: {offline: _ext, traceable: _ext, belongs: _ext, sortable: _ext}
  config: {numfig: true, numfig_secnum_depth: 0}
"""
TABLE = ":::{csv-table} Numbers of the page.\n:file: tables/FILE\n:header-rows: 1\n:name: tab-NAME\n:class: results\n:::\n"


def load(name):
    """One of book/_ext as a module."""
    spec = importlib.util.spec_from_file_location(name, BOOK / "_ext" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def table(name):
    """MyST of a table that shows tables/NAME.csv."""
    return TABLE.replace("FILE", f"{name}.csv").replace("NAME", name)


def write_notebook(path, profile, text):
    """An executed notebook as `mmcoa book` leaves them: default and injected parameters, then text."""
    cells = [
        new_code_cell('profile = "quick"  # whose results are shown', metadata={"tags": ["parameters", "remove-input"]}),
        new_code_cell(
            f"# Parameters\nprofile = {json.dumps(profile)}", metadata={"tags": ["injected-parameters", "remove-input"]}
        ),
    ]
    nbformat.write(
        new_notebook(cells=[new_markdown_cell(text.partition("\n")[0]), *cells, new_markdown_cell(text.partition("\n")[2])]),
        path,
    )
    return path


def write_book(folder, profile):
    """Sources of a small book: index.md, which shows tables/large.csv and tables/note.csv, and page.ipynb, which shows the
    former too."""
    shutil.copytree(BOOK / "_ext", folder / "_ext")
    shutil.copytree(BOOK / "_static", folder / "_static")
    (folder / "tables").mkdir()
    (folder / "_config.yml").write_text(CONFIG)
    (folder / "_toc.yml").write_text("format: jb-book\nroot: index\nchapters:\n  - file: page\n")
    sets = "".join(f"set {i},{40 + i},{10 * i}.5 (1.0–{i}.0),{'–' if i == 3 else f'−{i}.1'}\n" for i in range(14))
    (folder / "tables" / "large.csv").write_text(f"data set,n,image,gain\n{sets}macro mean,700,70.1 (1.0–2.0),+1.0\n")
    (folder / "tables" / "small.csv").write_text("a,b\nx,1\ny,2\n")
    (folder / "index.md").write_text(f"# Small\n\n{table('small')}")
    write_notebook(folder / "page.ipynb", profile, f"# Page\n\n{table('large')}")
    return folder
