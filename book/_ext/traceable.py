"""Sphinx extension: under each table that is read from a file, links to that file, to the notebook that made it, and its commands.

The notebook is the page itself, or the one that `SOURCE.json` beside the table names (see mmcoa/report/source.py) where the page is none.
The commands are those that SOURCE.json names, else those of the profile that the notebook was run with. On top of every page whose
studies have holes stands which cells are missing.
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
    profile = profile_of(notebook) if notebook and "studies" not in made else None
    profiles = [study["profile"] for study in made["studies"]] if "studies" in made else [profile] if profile else []
    book = [source.book_command(made)] if "studies" in made else [f"mmcoa book {profile}"] if profile else []
    return notebook, made.get("commands", {}).get(table.name, [f"mmcoa run {name}" for name in profiles]) + book


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
            link = addnodes.download_reference(
                target, "", nodes.inline(text, text), reftype="download", refdoc=docname, reftarget=target, refexplicit=True
            )
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
    folders |= {
        path.parent
        for path in sources(app.srcdir)
        if os.path.relpath(page, path.parent) in source.read(path.parent).get("pages", {})
    }
    told = set()
    for folder in sorted(folders):
        app.env.note_dependency(str(folder / source.NAME))
        title = next(doctree.findall(nodes.title), None)
        for study in source.read(folder).get("studies", [])[::-1] if title is not None else []:
            if study["holes"] and study["name"] not in told:
                title.parent.insert(title.parent.index(title) + 1, hole_note(study))
                told.add(study["name"])


def sources(folder):
    """All SOURCE.json of a book."""
    return sorted(path for path in Path(folder).glob(f"**/{source.NAME}") if "_build" not in path.relative_to(folder).parts)


def hole_note(made):
    """Which cells of a study of SOURCE.json are missing, and the command that makes them."""
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
