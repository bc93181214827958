"""Sphinx extension: under each table that is read from a file, a link to its data.

The data are NAME_numbers.csv where that lies beside NAME.csv: numbers, where the table is text made for reading.
"""

from pathlib import Path

from docutils import nodes
from sphinx import addnodes
from sphinx.directives.patches import CSVTable


def setup(app):
    app.add_directive("csv-table", OfferedTable, override=True)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


class OfferedTable(CSVTable):
    """`csv-table`; one with a `file` is followed by a link."""

    def run(self):
        made = super().run()
        if "file" not in self.options or not made or not isinstance(made[0], nodes.table):
            return made
        env = self.state.document.settings.env
        table, page = self.options["file"], Path(env.doc2path(env.docname))
        numbers = table.removesuffix(".csv") + "_numbers.csv"
        if (page.parent / numbers).is_file():
            table = numbers
            env.note_dependency(str(page.parent / numbers))
        link = addnodes.download_reference(
            table,
            "",
            nodes.inline("", "Data (CSV)"),
            reftype="download",
            refdoc=env.docname,
            reftarget=table,
            refexplicit=True,
        )
        return [*made, nodes.paragraph("", "", link, classes=["table-source"])]
