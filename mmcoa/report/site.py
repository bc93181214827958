"""Checks of a built site: no broken link, nothing loaded from another host, small enough.

    python -m mmcoa.report.site book/_build/html

prints one line per problem and exits with 1 if there is any, else the sizes and the hosts that links lead to.
"""

import gzip
import sys
from collections import Counter
from pathlib import Path
from urllib.parse import urlsplit

from mmcoa.console import fail
from mmcoa.errors import UserError
from mmcoa.report import links

LIMITS = {"site": 30e6, "first page": 1.5e6, "own content": 0.3e6}  # bytes; all but the first as sent, gzipped
PDF_LIMIT = 20e6
OWN = (".html", ".svg", ".png", ".jpg", ".jpeg", ".webp", ".gif")  # the page and its pictures; the rest is the theme's


def sizes(folder):
    """{"site", "first page", "own content"} in bytes: all files, index.html with everything it loads as gzip sends it, and
    of the latter the page and its pictures."""
    folder = Path(folder).resolve()
    loaded = first_page(folder)
    packed = {path: len(gzip.compress(path.read_bytes(), 6)) for path in loaded}
    return {
        "site": sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()),
        "first page": sum(packed.values()),
        "own content": sum(size for path, size in packed.items() if path.suffix in OWN),
    }


def first_page(folder):
    """Files that index.html loads, itself among them. Of a font in several formats a browser loads the smallest, woff2."""
    found, waiting = set(), [folder / "index.html"]
    while waiting:
        path = waiting.pop()
        if path in found or not path.is_file():
            continue
        found.add(path)
        waiting += [links.target(folder, path, address)[0] or path for _, address in links.references(path).resources]
    return sorted(path for path in found if path.suffix not in (".ttf", ".woff") or path.with_suffix(".woff2") not in found)


def problems(folder):
    """(lines, sizes, outside): all that is wrong with a built site, its `sizes`, and the external links of `links.check`.

    Raises `UserError` where there is no built site."""
    folder = Path(folder)
    if not (folder / "index.html").is_file():
        raise UserError(f"no index.html in {folder}; build the book first: make book")
    lines, outside = links.check(folder)
    measured = sizes(folder)
    lines += [
        f"{name}: {shown(size)}, more than {shown(LIMITS[name])}" for name, size in measured.items() if size > LIMITS[name]
    ]
    for pdf in folder.glob("*.pdf"):
        if pdf.stat().st_size > PDF_LIMIT:
            lines.append(f"{pdf.name}: {shown(pdf.stat().st_size)}, more than {shown(PDF_LIMIT)}")
    return lines, measured, outside


def shown(size):
    """Bytes in megabytes."""
    return f"{size / 1e6:.2f} MB"


def report(folder, echo=print):
    """Print what `problems` finds, or sizes and hosts where there is none. Returns the number of problems."""
    lines, measured, outside = problems(folder)
    for line in lines:
        echo(line)
    echo("; ".join(f"{name} {shown(size)} of at most {shown(LIMITS[name])}" for name, size in measured.items()))
    hosts = Counter(urlsplit(address).netloc for address in outside)
    echo(f"{len(outside)} links lead outside: " + ", ".join(f"{host} {n}" for host, n in sorted(hosts.items())))
    return len(lines)


def main(arguments):
    """Exit code: 0 without a problem, 1 with one, 2 where there is nothing to check."""

    if len(arguments) != 1:
        return fail("say which folder: python -m mmcoa.report.site book/_build/html", 2)
    try:
        return 1 if report(arguments[0]) else 0
    except UserError as error:
        return fail(str(error), 2)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
