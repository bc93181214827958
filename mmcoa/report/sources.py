"""The sources of a book: all of book/, or those of a small book about any study. No file that git keeps is changed."""

import re
from pathlib import Path

import yaml

from mmcoa.errors import UserError
from mmcoa.store.files import write_atomic

SOURCES = Path("book")  # in the project's folder, from which the commands run
MADE = ("_build", "tables", "figures")  # by a build, in a book's folder
SHARED = ("_config.yml", "_ext", "_static", "extra", "references.bib")  # what the book of another study has of this one
PAGES = ("threat", "method", "glossary", "references")  # and its pages, where they hold nothing that is made of results
RESULTS = re.compile(r"\{code-cell\}|\{glue|\b(?:tables|figures)/")
POINTS = re.compile(r"\{(?:doc|ref|numref|eq)\}`(?:[^`<]*<)?([^`>]+)>?`|\]\(#?([\w-]+)(?:\.md)?\)")
LABELS = re.compile(r"^\(([\w-]+)\)=|^:name: *(\S+)|^\$\$ *\(([\w-]+)\)", re.M)
NEEDS = {"{term}": "glossary", "{cite": "references"}


def whole_book():
    """{path in a book's folder: content} of all sources."""
    paths = [path for path in SOURCES.rglob("*") if path.is_file() and not is_made(path.relative_to(SOURCES))]
    return {path.relative_to(SOURCES): path.read_bytes() for path in paths}


def small_book():
    """The same for the book of a study that no page was written about."""
    pages = without_results(PAGES)
    toc = {"format": "jb-book", "root": "index", "chapters": [{"file": name} for name in pages]}
    toc = {key: value for key, value in toc.items() if value}
    kept = {path: content for path, content in whole_book().items() if path.parts[0] in SHARED}
    kept |= {Path(f"{name}.md"): text.encode() for name, text in pages.items()}
    kept |= {Path("index.md"): (SOURCES / "study.md").read_bytes(), Path("_toc.yml"): yaml.safe_dump(toc).encode()}
    return kept


def without_results(names):
    """{page: text} of those pages that run no cell, show no made file, and point to nothing that is on none of them."""
    texts = {name: path.read_text(encoding="utf8") for name in names if (path := SOURCES / f"{name}.md").is_file()}
    kept, there = {name: text for name, text in texts.items() if not RESULTS.search(text)}, None
    while kept != there:
        there = kept
        known = {"index", *there, *("".join(found) for text in there.values() for found in LABELS.findall(text))}
        kept = {name: text for name, text in there.items() if pointed(text) <= known}
    return kept


def pointed(text):
    """Pages and labels that a page points to."""
    return {"".join(found) for found in POINTS.findall(text)} | {page for role, page in NEEDS.items() if role in text}


def copy(contents, folder):
    """Bring sources into a folder, where what has not changed is left alone."""
    if folder.exists() and any(folder.iterdir()) and not (folder / "_config.yml").is_file():
        raise UserError(f"{folder} holds other files than a book; choose an empty folder")
    for path in [path for path in folder.rglob("*") if path.is_file()]:
        if path.relative_to(folder) not in contents and not is_made(path.relative_to(folder)):
            path.unlink()
    for name, content in contents.items():
        path = folder / name
        if not path.is_file() or path.read_bytes() != content:
            write_atomic(path, lambda temporary, content=content: temporary.write_bytes(content))


def is_made(path):
    """Whether a path in a book's folder comes from a build."""
    return path.parts[0] in MADE or "__pycache__" in path.parts
