"""Sphinx extension: the pictures that a page names in HTML of its own, `src="figures/..."`, come along into the built book.

Sphinx copies the pictures of its own directives alone. A picture that is not there is a warning, which ends the build.
"""

import re
import shutil
from pathlib import Path

from docutils import nodes
from sphinx.util import logging

NAMED = re.compile(r'\bsrc="((?:[\w-]+/)?figures/[^"]+)"')  # of a second study: PROFILE/figures/...
logger = logging.getLogger(__name__)


def setup(app):
    app.connect("doctree-resolved", copy_pictures)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def copy_pictures(app, doctree, docname):
    """Copy what the page names to the same place beside the built page; paths are relative to the page."""
    if app.builder.format != "html":
        return
    page = Path(docname).parent
    for name in sorted({name for raw in doctree.findall(nodes.raw) for name in NAMED.findall(raw.astext())}):
        source, target = Path(app.srcdir) / page / name, Path(app.outdir) / page / name
        if not source.is_file():
            logger.warning("picture %s is not there", source.relative_to(app.srcdir), location=docname)
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
