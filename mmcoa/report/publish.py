"""The published report: its pages and one PDF in one folder, checked; older versions beside it.

    python -m mmcoa.report.publish book/_build/site                     # from committed results
    python -m mmcoa.report.publish book/_build/site --versions FOLDER   # and the archives in FOLDER, site-vX.Y.Z.tar.gz

A version is the archive of the site that was built at its tag. It is unpacked, never built again: what a reader cited stays
what it was, whatever the tools of today would make of it.
"""

import argparse
import re
import shutil
import sys
from pathlib import Path

from mmcoa.console import fail
from mmcoa.datasets.archives import unpack
from mmcoa.errors import UserError
from mmcoa.report import build, pdf, site

PDF = "report.pdf"
ARCHIVE = re.compile(r"site-(v\d+\.\d+\.\d+[\w.-]*)\.tar\.gz")
VERSIONS = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Versions: {title}</title>
<style>body {{ font: 1rem/1.6 sans-serif; max-width: 40rem; margin: 3rem auto; padding: 0 1rem; }}</style></head>
<body><main><h1>Versions</h1>
<ul><li><a href="index.html">latest</a></li>
{items}</ul></main></body></html>
"""


def make_site(output):
    """Build the published book into the folder `output`, with its PDF."""
    output = Path(output)
    pdf.find_browser()  # what is missing is said before anything is built
    if output.exists() and any(output.iterdir()) and not (output / "index.html").is_file():
        raise UserError(f"{output} holds other files than a site; choose an empty folder")
    pages = build.build_book().parent
    shutil.rmtree(output, ignore_errors=True)
    shutil.copytree(pages, output, ignore=shutil.ignore_patterns(".buildinfo", PDF))
    add_pdf(output, pages.parents[1])
    return output


def add_pdf(pages, source):
    """Print the book in `source` into the folder of its built pages; the first page links to it. Returns its path."""
    path = pages / PDF
    count = pdf.write_pdf(source, path)
    size = path.stat().st_size / 1e6
    add_line(pages / "index.html", f'<a href="{PDF}">The whole report as PDF</a> ({count} pages, {size:.1f} MB)')
    return path


def add_versions(output, archives):
    """Unpack each archive site-vX.Y.Z.tar.gz of a folder into `output`/vX.Y.Z and list all in versions.html, to which the first
    pages link. Returns the versions, newest first."""
    found = {match[1]: path for path in Path(archives).glob("site-*") if (match := ARCHIVE.fullmatch(path.name))}
    versions = sorted(found, key=by_number, reverse=True)
    for version in versions:
        unpack(found[version], output / version)
        add_line(output / version / "index.html", f'This is version {version}; <a href="../versions.html">all versions</a>')
    if versions:
        title = re.search(r"<title>(.*?)</title>", (output / "index.html").read_text(encoding="utf8"), re.S)[1]
        items = "".join(f'<li><a href="{version}/index.html">{version}</a></li>\n' for version in versions)
        (output / "versions.html").write_text(VERSIONS.format(title=title, items=items), encoding="utf8")
        add_line(output / "index.html", '<a href="versions.html">Other versions of this report</a>')
    return versions


def by_number(version):
    """v0.10.0 after v0.9.0."""
    return [int(part) for part in re.findall(r"\d+", version)], version


def add_line(index, line):
    """A line of HTML below the heading of a built page, in place of an earlier one with the same link."""
    head, start, rest = index.read_text(encoding="utf8").partition("<article")
    if not start or "</h1>" not in rest:
        raise UserError(f"{index} has no article with a heading to write below")
    link = re.search(r'href="[^"]*"', line)[0]
    rest = re.sub(rf'\n<p class="edition">[^\n]*{re.escape(link)}[^\n]*</p>', "", rest)
    index.write_text(head + start + rest.replace("</h1>", f'</h1>\n<p class="edition">{line}</p>', 1), encoding="utf8")


def main(arguments=None):
    """Exit code: 0, 1 with a problem of `site.problems`, 2 with a user's mistake."""
    parser = argparse.ArgumentParser(prog="python -m mmcoa.report.publish", description=__doc__.splitlines()[0])
    parser.add_argument("output", type=Path, help="folder of the site; what an earlier call put there is replaced")
    parser.add_argument("--versions", type=Path, metavar="FOLDER", help="archives of older versions, site-vX.Y.Z.tar.gz")
    given = parser.parse_args(arguments)
    try:
        make_site(given.output)
        wrong = site.report(given.output)
        if given.versions:
            versions = add_versions(given.output, given.versions)
            print(f"versions: {', '.join(versions) or 'none'}")
            broken = site.broken(given.output) if versions else []
            print("".join(f"{line}\n" for line in broken), end="")
            wrong += len(broken)
        print(f"site: {given.output / 'index.html'}")
        return 1 if wrong else 0
    except UserError as error:
        return fail(str(error), 2)


if __name__ == "__main__":
    sys.exit(main())
