"""Sphinx extension: written pages load only what they use, so that the first page is small, and screen readers can read them.

The theme draws its icons with a web font and loads a script of 1.5 MB that would draw them again; it also asks for fonts
ahead of need, those for trademarks too. MathJax is only for pages with equations. Templates of the theme are no pages; its
source maps and catalogues of translations, 1.8 MB, serve who develops it. A page with a chart gets Plotly's script. The
bibliography is marked as a list, whose entries must then be marked as its items.
"""

import re
import shutil
from importlib.resources import files
from pathlib import Path

from mmcoa.report import chart

ICON_SCRIPT = re.compile(r'[ \t]*<script src="[^"]*/fontawesome/[^"]*\.js[^"]*"></script>\n?')
FONT_AHEAD = re.compile(r'[ \t]*<link rel="preload" as="font"[^>]*>\n?')
MATHJAX = re.compile(r"[ \t]*<script[^>]*(?:/mathjax/[^>]*>|>window\.MathJax\b[^<]*)</script>\n?")


def setup(app):
    app.connect("build-finished", finish)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def finish(app, exception):
    """Sphinx's event: rewrites the pages that were built, and removes what no page asks for."""
    if exception or app.builder.format != "html":
        return
    for page in Path(app.outdir).glob("*.html"):
        html = page.read_text(encoding="utf8")
        finished = without_unused(html).replace('role="doc-biblioentry"', 'role="listitem"')
        if finished != html:
            page.write_text(finished, encoding="utf8")
        if chart.SCRIPT in finished:
            shutil.copyfile(files("plotly") / "package_data" / "plotly.min.js", Path(app.outdir, chart.SCRIPT))
    static = Path(app.outdir, "_static")
    for folder in (*static.glob("vendor/fontawesome/*/js"), *static.glob("locales")):
        shutil.rmtree(folder)
    for file in (*static.glob("*webpack-macros.html"), *static.rglob("*.map")):
        file.unlink()


def without_unused(html):
    """A page without the icon script, fonts asked for ahead and, where it has no equation, MathJax."""
    html = FONT_AHEAD.sub("", ICON_SCRIPT.sub("", html))
    return html if re.search(r'class="[^"]*\bmath\b', html) else MATHJAX.sub("", html)
