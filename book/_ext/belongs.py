"""Sphinx extension: a build warns, and with -W fails, where tables and pages do not belong to the results beside the book.

Compares each `tables/SOURCE.json` (mmcoa/report/source.py) with what lies on disk: no model is loaded, nothing is computed.
"""

from pathlib import Path

from sphinx.util import logging

from mmcoa.errors import UserError
from mmcoa.report import source

logger = logging.getLogger(__name__)


def setup(app):
    app.connect("builder-inited", compare)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def compare(app):
    """One warning a folder of tables: what differs first, and the command that mends it."""
    for folder in folders(app.srcdir):
        try:
            text, away = source.problem(folder), source.absent(folder)
        except UserError as error:
            text, away = str(error), []
        if text:
            logger.warning(text, type="mmcoa", subtype="belongs")
        for what in away:
            logger.info(f"{folder}: no {what} beside the book, so its pages were not compared with them")


def folders(book):
    """Folders of tables in a book: those that hold tables, or say what they were made from."""
    found = {path.parent for name in (source.NAME, "tables/*.csv") for path in Path(book).glob(f"**/{name}")}
    return sorted(folder for folder in found if "_build" not in folder.relative_to(book).parts)
