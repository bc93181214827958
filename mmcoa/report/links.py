"""What a file of a built site refers to, and whether each reference leads somewhere inside the site.

A *link* is followed by a reader (`<a href>`), a *resource* is loaded with the page (script, style, font, picture). A link may
leave the site, a resource may not: the report is read offline and says to no one that it is read.
"""

import re
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

LOADED = {  # attributes that a browser loads from, by tag
    **dict.fromkeys(("img", "source"), ("src", "srcset")),
    **dict.fromkeys(("script", "iframe", "embed", "audio", "track", "input"), ("src",)),
    "video": ("src", "poster"),
    "object": ("data",),
    **dict.fromkeys(("image", "use", "feimage"), ("href", "xlink:href")),  # of SVG
}
FOLLOWED = {"next", "prev", "index", "search", "author", "license", "help", "canonical", "alternate"}  # <link rel=...>
CSS_URL = re.compile(r"""url\(\s*['"]?([^'")]+)['"]?\s*\)|@import\s+['"]([^'"]+)['"]""")
CSS_COMMENT = re.compile(r"/\*.*?\*/", re.S)
UNCHECKED = ("data", "javascript", "mailto", "blob", "about", "tel")


@dataclass
class References:
    """Of one file: ids that a link may point to, and (line, address) of what it links to and of what it loads."""

    ids: set[str] = field(default_factory=set)
    links: list[tuple[int, str]] = field(default_factory=list)
    resources: list[tuple[int, str]] = field(default_factory=list)


class Reader(HTMLParser):
    """Collects the references of a page or an SVG picture."""

    def __init__(self):
        super().__init__()
        self.found, self.in_style = References(), False

    def handle_starttag(self, tag, attributes):
        values = {name: value for name, value in attributes if value}
        line = self.getpos()[0]
        self.in_style = tag == "style"
        self.found.ids |= {values[name] for name in ("id", "name") if name in values and (name == "id" or tag == "a")}
        if tag in ("a", "area"):
            self.found.links += [(line, values[name]) for name in ("href", "xlink:href") if name in values]
        elif tag == "link" and "href" in values:
            followed = set(values.get("rel", "").lower().split()) & FOLLOWED
            (self.found.links if followed else self.found.resources).append((line, values["href"]))
        for name in LOADED.get(tag, ()):
            if name in values:
                self.found.resources += [(line, part) for part in parts_of(name, values[name])]
        self.found.resources += [(line, address) for address in css_addresses(values.get("style", ""))]

    def handle_endtag(self, tag):
        self.in_style = False

    def handle_data(self, data):
        if self.in_style:
            self.found.resources += [(self.getpos()[0], address) for address in css_addresses(data)]


def parts_of(attribute, value):
    """Addresses in the value of an attribute: several, each with its size behind it, in `srcset`."""
    return [part.split()[0] for part in value.split(",") if part.strip()] if attribute == "srcset" else [value]


def css_addresses(text):
    """Addresses that a style sheet loads."""
    return [first or second for first, second in CSS_URL.findall(CSS_COMMENT.sub("", text))]


def references(path):
    """`References` of a page, an SVG picture or a style sheet; empty for any other file."""
    if path.suffix == ".css":
        return References(resources=[(1, address) for address in css_addresses(path.read_text(encoding="utf8"))])
    if path.suffix not in (".html", ".svg"):
        return References()
    reader = Reader()
    reader.feed(path.read_text(encoding="utf8"))
    return reader.found


def is_external(address):
    """Whether an address names another host, `//host/...` too."""
    parts = urlsplit(address)
    return bool(parts.netloc) or parts.scheme in ("http", "https", "ftp", "ws", "wss")


def target(folder, page, address):
    """(file, fragment) that an address on a page means; the file is None where the address needs no check."""
    parts = urlsplit(address)
    if parts.scheme in UNCHECKED:
        return None, ""
    path = (page.parent / unquote(parts.path)).resolve() if parts.path else page
    if path.is_dir() and path.is_relative_to(folder):
        path = path / "index.html"
    return path, unquote(parts.fragment)


def check(folder):
    """(problems, outside): one line per broken reference of a built site, `page:line: what`; and {address: pages that link
    to it} of all links that leave it, which are listed only, as a check of them would need the network."""
    folder = Path(folder).resolve()
    files = {path: references(path) for path in sorted(folder.rglob("*")) if path.is_file()}
    problems, outside = [], {}
    for page, found in files.items():
        name = page.relative_to(folder).as_posix()
        for line, address in found.resources:
            if is_external(address):
                problems.append(f"{name}:{line}: loads {address} from another host")
        for _, address in found.links:
            if is_external(address):
                outside.setdefault(address, set()).add(name)
        for line, address in [*found.links, *found.resources]:
            if not is_external(address) and (problem := broken(folder, files, page, address)):
                problems.append(f"{name}:{line}: {problem}")
    return list(dict.fromkeys(problems)), outside


def broken(folder, files, page, address):
    """What is wrong with an address inside the site, or None."""
    if urlsplit(address).path.startswith("/"):
        return f"{address} starts at the host's root, where this site need not be"
    path, fragment = target(folder, page, address)
    if path is None:
        return None
    if not path.is_relative_to(folder):
        return f"{address} leaves the site's folder"
    if path not in files:
        return f"{address} does not exist"
    if fragment and fragment != "top" and path.suffix in (".html", ".svg") and fragment not in files[path].ids:
        return f"{address}: nothing there has the id {fragment}"
    return None
