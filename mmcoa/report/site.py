"""Checks of a built site: no broken link, nothing loaded from another host, small enough.

A *link* is followed by a reader (`<a href>`), a *resource* is loaded with the page (script, style, font, picture). A link may
leave the site, a resource may not: the report is read offline and says to no one that it is read.
"""

import gzip
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

from mmcoa.errors import UserError

LIMITS = {"site": 30e6, "first page": 1.5e6, "own content": 0.3e6}  # bytes; all but the first as sent, gzipped
PDF_LIMIT = 20e6
OWN = (".html", ".svg", ".png", ".jpg", ".jpeg", ".webp", ".gif")  # the page and its pictures; the rest is the theme's
ADDRESSES = ("href", "xlink:href", "src", "srcset", "poster", "data")  # attributes
FOLLOWED = {"next", "prev", "index", "search", "author", "license", "help", "canonical", "alternate"}  # <link rel=...>
CSS_URL = re.compile(r"""url\(\s*['"]?([^'")]+)['"]?\s*\)|@import\s+['"]([^'"]+)['"]""")
UNCHECKED = ("data", "javascript", "mailto", "blob", "about", "tel")


class Reader(HTMLParser):
    """Of a page, an SVG picture or a style sheet: ids that a link may point to, (line, address) of links and of resources."""

    def __init__(self, path):
        super().__init__()
        self.ids, self.links, self.resources, self.in_style = set(), [], [], path.suffix == ".css"
        if self.in_style:
            self.handle_data(path.read_text(encoding="utf8"))
        elif path.suffix in (".html", ".svg"):
            self.feed(path.read_text(encoding="utf8"))

    def handle_starttag(self, tag, attrs):
        values, self.in_style = {name: value for name, value in attrs if value}, tag == "style"
        self.ids |= {values[name] for name in ("id", "name") if name in values and (name == "id" or tag == "a")}
        followed = tag in ("a", "area") or (tag == "link" and set(values.get("rel", "").lower().split()) & FOLLOWED)
        for name in ADDRESSES:
            found = values.get(name, "").split(",") if name == "srcset" else [values.get(name, "")]
            lines = [(self.getpos()[0], part.split()[0]) for part in found if part.strip()]
            (self.links if followed else self.resources).extend(lines)
        self.read_css(values.get("style", ""))

    def handle_endtag(self, tag):
        self.in_style = False

    def handle_data(self, data):
        if self.in_style:
            self.read_css(data)

    def read_css(self, text):
        found = CSS_URL.findall(re.sub(r"/\*.*?\*/", "", text, flags=re.S))
        self.resources += [(self.getpos()[0], first or second) for first, second in found]


def is_external(address):
    """Whether an address names another host, `//host/...` too."""
    parts = urlsplit(address)
    return bool(parts.netloc) or parts.scheme in ("http", "https", "ftp", "ws", "wss")


def target(page, address):
    """The file that an address on a page means; the page itself where it means none."""
    parts = urlsplit(address)
    if is_external(address) or parts.scheme in UNCHECKED or not parts.path:
        return page
    path = (page.parent / unquote(parts.path)).resolve()
    return path / "index.html" if path.is_dir() else path


def broken(folder):
    """One line for each resource from another host and each address that leads nowhere in a built site, `page:line: what`.
    Links to other hosts are not tried, as that would need the network."""
    folder, lines = Path(folder).resolve(), []
    files = {path: Reader(path) for path in sorted(folder.rglob("*")) if path.is_file()}
    for page, found in files.items():
        wrong = [(line, f"loads {to} from another host") for line, to in found.resources if is_external(to)]
        for line, to in [*found.links, *found.resources]:
            if is_external(to) or urlsplit(to).scheme in UNCHECKED:
                continue
            path, fragment = target(page, to), unquote(urlsplit(to).fragment)
            if path not in files:
                wrong.append((line, f"{to} does not exist" + ("" if path.is_relative_to(folder) else " in the site's folder")))
            elif fragment not in ("", "top", *files[path].ids) and path.suffix in (".html", ".svg"):
                wrong.append((line, f"{to}: nothing there has the id {fragment}"))
        lines += [f"{page.relative_to(folder).as_posix()}:{line}: {what}" for line, what in wrong]
    return list(dict.fromkeys(lines))


def sizes(folder):
    """{"site", "first page", "own content"} in bytes: all files, index.html with everything it loads as gzip sends it, and
    of the latter the page and its pictures."""
    packed = {path: len(gzip.compress(path.read_bytes(), 6)) for path in first_page(Path(folder).resolve())}
    return {
        "site": sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file()),
        "first page": sum(packed.values()),
        "own content": sum(size for path, size in packed.items() if path.suffix in OWN),
    }


def first_page(folder):
    """Files that index.html loads, itself among them. Of a font in several formats a browser loads the smallest, woff2."""
    found, waiting = set(), [folder / "index.html"]
    while waiting:
        path = waiting.pop()
        if path not in found and path.is_file():
            found.add(path)
            waiting += [target(path, address) for _, address in Reader(path).resources]
    return sorted(path for path in found if path.suffix not in (".ttf", ".woff") or path.with_suffix(".woff2") not in found)


def problems(folder):
    """(lines, sizes): all that is wrong with a built site, and its `sizes`.

    Raises `UserError` where there is no built site."""
    folder = Path(folder)
    if not (folder / "index.html").is_file():
        raise UserError(f"no index.html in {folder}; build the book first: make book")
    measured = sizes(folder)
    limited = [(name, size, LIMITS[name]) for name, size in measured.items()]
    limited += [(pdf.name, pdf.stat().st_size, PDF_LIMIT) for pdf in folder.glob("*.pdf")]
    large = [f"{name}: {shown(size)}, more than {shown(limit)}" for name, size, limit in limited if size > limit]
    return broken(folder) + large, measured


def shown(size):
    """Bytes in megabytes."""
    return f"{size / 1e6:.2f} MB"


def report(folder):
    """Print what `problems` finds, and the sizes. Returns the number of problems."""
    lines, measured = problems(folder)
    for line in lines:
        print(line)
    print("; ".join(f"{name} {shown(size)} of at most {shown(LIMITS[name])}" for name, size in measured.items()))
    return len(lines)
