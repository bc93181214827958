"""Sphinx extension: under each table that is read from a file, links to that file, to the notebook that made it, and its commands.

The notebook is the page itself, or the one that `tables/SOURCE.json` names (see mmcoa/report/source.py) where the page is none; the
profile is the parameter that this notebook was run with. On top of every page whose study has holes stands which cells are missing.
"""

import ast
import json
import os
from pathlib import Path

from docutils import nodes
from sphinx import addnodes
from sphinx.directives.patches import CSVTable

from mmcoa.report import source


def setup(app):
    app.add_directive("csv-table", TracedTable, override=True)
    app.connect("doctree-read", tell_holes)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


class TracedTable(CSVTable):
    """`csv-table`; one with a `file` is followed by where it comes from."""

    def run(self):
        made = super().run()
        if "file" not in self.options or not made or not isinstance(made[0], nodes.table):
            return made
        env = self.state.document.settings.env
        table = Path(env.relfn2path(self.options["file"], env.docname)[1])
        page = Path(env.doc2path(env.docname))
        made[0]["file"] = str(table)
        notebook, commands = origin(table, page)
        for path in (table.parent / source.NAME, notebook):
            if path and path.is_file():
                env.note_dependency(str(path))
        return [*made, line(table, notebook, commands, page.parent, env.docname)]


def origin(table, page):
    """(notebook that made a table or None, commands that make it), given the table's file and that of the page."""
    made = source.read(table.parent)
    notebook = page if page.suffix == ".ipynb" else None
    if notebook is None and (named := made.get("tables", {}).get(table.name, {}).get("notebook")):
        notebook = Path(os.path.normpath(table.parent / named))
    profile = profile_of(notebook) if notebook else None
    own = [f"mmcoa run {profile}"] if profile else []
    return notebook, made.get("commands", {}).get(table.name, own) + ([f"mmcoa book {profile}"] if profile else [])


def profile_of(notebook):
    """The `profile` that a notebook was run with: what papermill injected, else its default; None where it has none."""
    found = None
    for cell in json.loads(Path(notebook).read_text(encoding="utf8"))["cells"]:
        if {"parameters", "injected-parameters"} & set(cell["metadata"].get("tags", [])):
            for statement in ast.parse("".join(cell["source"])).body:
                if isinstance(statement, ast.Assign) and statement.targets[0].id == "profile":
                    found = ast.literal_eval(statement.value)
    return found


def line(table, notebook, commands, folder, docname):
    """The paragraph under a table. `folder`: of the page, to which download links are relative."""
    paragraph = nodes.paragraph(classes=["table-source"])
    for path, text in ((table, "Data (CSV)"), (notebook, "Notebook")):
        if path is not None:
            target = Path(os.path.relpath(path, folder)).as_posix()
            link = addnodes.download_reference(target, "", nodes.inline(text, text), reftype="download", refdoc=docname, reftarget=target, refexplicit=True)
            paragraph += [link, nodes.Text(" · ")]
    paragraph += nodes.Text("Command: " if len(commands) == 1 else "Commands: ")
    for command in commands:
        paragraph += [nodes.literal(command, command), nodes.Text(", ")]
    paragraph.pop()  # the last separator
    return paragraph


def tell_holes(app, doctree):
    """A note under the title of a page that shows a study with holes."""
    page = Path(app.env.doc2path(app.env.docname))
    folders = {Path(table["file"]).parent for table in doctree.findall(nodes.table) if "file" in table}
    folders |= {path.parent for path in sources(app.srcdir) if os.path.relpath(page, path.parent) in source.read(path.parent).get("pages", {})}
    for folder in sorted(folders):
        app.env.note_dependency(str(folder / source.NAME))
        made, title = source.read(folder), next(doctree.findall(nodes.title), None)
        if made.get("holes") and title is not None:
            title.parent.insert(title.parent.index(title) + 1, hole_note(made))


def sources(folder):
    """All SOURCE.json of a book."""
    return sorted(path for path in Path(folder).glob(f"**/{source.NAME}") if "_build" not in path.relative_to(folder).parts)


def hole_note(made):
    """Which cells are missing, and the command that makes them."""
    number = len(made["holes"])
    note = nodes.warning(classes=["holes"])
    words = [nodes.Text(f"{number} cell{'s' * (number > 1)} of the study "), nodes.literal(made["name"], made["name"])]
    words.append(nodes.Text(f" {'has' if number == 1 else 'have'} no current result: "))
    for cell in made["holes"]:
        words += [nodes.literal(cell, cell), nodes.Text(", ")]
    command = f"mmcoa run {made['profile']}"
    words[-1] = nodes.Text(". Numbers that need one of them are marked “missing”. The command that makes them: ")
    note += nodes.paragraph("", "", *words, nodes.literal(command, command), nodes.Text("."))
    return note
