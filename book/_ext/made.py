"""Sphinx extension: `jupyter-book build book/` makes the pages first that are made of results, in files that git ignores.

Only those whose notebook, results or code have changed are run again (mmcoa/report/build.py). A copy of the book that
`mmcoa book` has made already holds its pages.
"""

import contextlib
import os
from pathlib import Path

from sphinx.errors import ExtensionError
from sphinx.util import logging

from mmcoa.errors import UserError
from mmcoa.report import build, results

logger = logging.getLogger(__name__)


def setup(app):
    if build.MADE_BEFORE not in os.environ:
        make(Path(app.srcdir))
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def make(folder):
    """The pages of the published study, where they are not current."""
    with contextlib.chdir(folder.parent):
        try:
            made = build.make_pages(results.load(build.STUDY), Path(folder.name))
        except UserError as problem:
            raise ExtensionError(f"the pages of the study {build.STUDY} were not made: {problem}") from problem
    logger.info("pages made of results: %s", ", ".join(made) or "all were current")
