"""Sphinx extension: large tables can be sorted and searched in the browser, offline, with DataTables.

DataTables comes from the installed package itables, as an ES module, which browsers refuse to load from file://; it is
written to the site as a plain script, and only pages with a large table load it. Cells get the key by which they are
sorted: numbers are text on these pages, `61.3 (58.2–64.1)` or `−3.1`. A last row of means becomes the table's foot, which
stays where it is.
"""

import re
import shutil
from html import escape, unescape
from importlib.resources import files
from pathlib import Path

from sphinx.errors import ExtensionError

from mmcoa.report.names import MACRO

LARGE = 14  # rows of a table that a reader still overlooks
FOLDER = "sortable"  # below the site's _static
OWN = ("sortable.js", "sortable.css")  # beside this file
NOTHING = ("", "–", "-", "missing")  # cells that sort last, whichever way
TABLE = re.compile(r'<table class="([^"]*)"([^>]*)>(.*?)</table>', re.S)
ROW, CELL = re.compile(r"<tr[^>]*>.*?</tr>", re.S), re.compile(r"<(t[hd])([^>]*)>(.*?)</\1>", re.S)
NUMBER = re.compile(r"(?:at (?:least|most) )?([+-]?\d[\d,]*(?:\.\d+)?)(?!\w)(?:/(\d+)\b| % of ([\d,]+))?")


def setup(app):
    app.connect("builder-inited", renew)
    app.connect("html-page-context", make_sortable)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def renew(app):
    """Scripts of an earlier build, perhaps of another version: pages that are not rendered again need them too."""
    if place(app).is_dir():
        shutil.rmtree(place(app))
        install(place(app))


def place(app):
    return Path(app.outdir) / "_static" / FOLDER


def make_sortable(app, page, template, context, doctree):
    """Sphinx's event: the page's HTML with sort keys, and the scripts where a table is large."""
    if "body" not in context:
        return
    context["body"], large = rewritten(context["body"])
    if large and app.builder.name in ("html", "dirhtml"):  # the others are for paper
        install(place(app))
        for name in ("datatables.css", "sortable.css"):
            app.add_css_file(f"{FOLDER}/{name}")
        for name in ("datatables.js", "sortable.js"):
            app.add_js_file(f"{FOLDER}/{name}", loading_method="defer")


def install(folder):
    """Write DataTables, whose licences stand in its script, and what is our own into a folder of the site, once."""
    if (folder / OWN[-1]).is_file():
        return
    folder.mkdir(parents=True, exist_ok=True)
    bundle = files("itables") / "html"
    script = as_script((bundle / "dt_bundle.js").read_text(encoding="utf8"))
    (folder / "datatables.js").write_text(script, encoding="utf8")
    shutil.copyfile(bundle / "dt_bundle.css", folder / "datatables.css")
    for name in OWN:
        shutil.copyfile(Path(__file__).parent / name, folder / name)


def as_script(module):
    """An ES module without imports as a plain script that sets `window.DataTable` to its default export."""
    exports = list(re.finditer(r"(?<![\w$.])export\s*\{([^{}]*)\};?", module))
    default = re.search(r"([\w$]+) as default\b", exports[0][1]) if len(exports) == 1 else None
    if default is None or re.search(r"(?:^|;)\s*import\b\s*[\w{*\"']", module, re.M):
        raise ExtensionError(
            "the DataTables bundle of the installed itables has another form than expected; install the version in "
            "constraints.txt"
        )
    start, end = exports[0].span()
    return f'(function(){{"use strict";{module[:start]}window.DataTable={default[1]};{module[end:]}\n}})();\n'


def rewritten(body):
    """(HTML of a page whose tables have feet, captions in a box and, where one is large, sort keys; whether one is)."""
    body = TABLE.sub(lambda found: boxed(with_foot(found[0])), body)
    if not any(is_large(found[0]) for found in TABLE.finditer(body)):
        return body, False
    return TABLE.sub(with_keys, body), True


def body_rows(table):
    """Rows of a table's body as HTML; none where they are not as wide as its head, of one row."""
    head, inner = re.search(r"<thead>(.*?)</thead>", table, re.S), re.search(r"<tbody>(.*?)</tbody>", table, re.S)
    if not head or not inner or re.search(r"(?:col|row)span=", table):
        return []
    rows = ROW.findall(inner[1])
    return rows if {len(CELL.findall(row)) for row in [*rows, *ROW.findall(head[1])]} == {len(CELL.findall(head[1]))} else []


def is_large(table):
    """Whether a reader needs help: a table with one row a method is read as a whole, and wider when it can be sorted."""
    rows = body_rows(table)
    first = [plain(CELL.search(row)[3]) for row in (re.search(r"<thead>.*?</thead>", table, re.S)[0], *rows)] if rows else []
    return len(rows) > LARGE and not (first[0] == "method" and len(set(first)) == len(first))


def with_foot(table):
    """A table whose last row is a mean has it in its foot."""
    rows = body_rows(table)
    if len(rows) < 2 or plain(CELL.search(rows[-1])[3]) != MACRO:
        return table
    start = table.rindex(rows[-1])
    head, tail = table[:start], table[start + len(rows[-1]) :]
    return f"{head}</tbody>\n<tfoot>{rows[-1]}</tfoot>{tail.replace('</tbody>', '', 1)}"


def boxed(table):
    """A table whose caption's text is in a box of its own, which stays in sight when a wide table scrolls."""
    return re.sub(
        r"<caption>(.*?)</caption>", r'<caption><div class="caption-box">\1</div></caption>', table, count=1, flags=re.S
    )


def with_keys(found):
    """A table (a match of TABLE) that sortable.js makes sortable: kinds of columns at its head, a key in each cell."""
    table, rows = found[0], body_rows(found[0])
    if len(rows) < 2 or not plain(table.partition("<tbody>")[0].partition("<thead>")[2]):  # a list of facts has an empty head
        return table
    columns = list(zip(*([plain(cell[3]) for cell in CELL.finditer(row)] for row in rows), strict=True))
    kinds = ["figures" if are_figures(texts) else "words" for texts in columns]
    for row in rows:
        waiting = iter(kinds)
        keyed = CELL.sub(
            lambda cell: f'<{cell[1]}{cell[2]} data-order="{escape(key(plain(cell[3]), next(waiting)))}">{cell[3]}</{cell[1]}>',
            row,
        )
        table = table.replace(row, keyed, 1)
    waiting = iter(kinds)
    head = re.sub(r"<th\b", lambda _: f'<th data-kind="{next(waiting)}"', re.search(r"<thead>.*?</thead>", table, re.S)[0])
    table = re.sub(r"<thead>.*?</thead>", lambda _: head, table, count=1, flags=re.S)
    return table.replace(f'class="{found[1]}"', f'class="{found[1]} sortable{" large" if is_large(found[0]) else ""}"', 1)


def plain(html):
    """Text of a cell: no markup, no joiners, plain spaces."""
    return " ".join(unescape(re.sub(r"<[^>]+>", "", html)).replace("\u2060", "").split())


def number(text):
    """The number that a text begins with, None where it begins with none: `61.3 (58.2–64.1)`, `−3.1`, `12,345`, `1/255`,
    `80 % of 50`."""
    found = NUMBER.match(text.replace("−", "-"))
    if not found:
        return None
    value = float(found[1].replace(",", ""))
    return value / float(found[2]) if found[2] else value / 100 * float(found[3].replace(",", "")) if found[3] else value


def are_figures(texts):
    """Whether most cells of a column that say something are numbers."""
    said = [number(text) is not None for text in texts if text not in NOTHING]
    return sum(said) > len(said) / 2


def key(text, kind):
    """What a cell is sorted by; empty, and so last, where it has nothing of its column's kind."""
    if kind == "words":
        return "" if text in NOTHING else text.lower()
    value = number(text)
    return "" if value is None else f"{value:g}" if value == round(value, 6) and abs(value) < 1e6 else repr(value)
