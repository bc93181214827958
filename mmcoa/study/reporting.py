"""The last cell of a study's graph: its report, built once all other cells are done.

python -m mmcoa.study.reporting PROFILE RUNS RESULTS        # as the Snakefile does
"""

import hashlib
import json
import sys
from pathlib import Path

from mmcoa.errors import UserError
from mmcoa.study.gallery.identity import path_of
from mmcoa.study.plan import make_plan
from mmcoa.study.records import write_atomic
from mmcoa.study.sources import PACKAGE, code_hash, digest

SOURCES = (
    ("book", ("*.md", "_config.yml", "_toc_template.yml", "*.bib", "_ext/*", "_static/*")),
    ("notebooks", ("report_*.ipynb",)),
)


def report_hash(plan):
    """Hash of all that a report shows and is made by: cells, the gallery, code of mmcoa.report, pages, notebooks."""
    code = code_hash(
        *(f"mmcoa.report.{path.stem}" for path in sorted((PACKAGE / "report").glob("*.py")) if path.stem != "__init__")
    )
    sources = [
        path
        for folder, patterns in SOURCES
        for pattern in patterns
        for path in sorted(Path(folder).glob(pattern))
        if path.is_file()
    ]
    files = [path for path in (*sources, path_of(plan.results)) if path.is_file()]  # gallery.json says what its pictures are
    return digest(
        {
            "cells": {cell.id: cell.hash for cell in plan.cells},
            "code": code,
            "files": {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files},
        }
    )


def marker(plan):
    """Where a report that was built leaves its hash, and where its first page is."""
    return plan.runs / "report.json"


def is_current(plan):
    """Whether the study's report was built from what is there now, and is still there."""
    try:
        made = json.loads(marker(plan).read_text())
        return made["hash"] == report_hash(plan) and Path(made["page"]).is_file()
    except (OSError, ValueError, KeyError):
        return False


def build(profile, runs=Path("runs"), results=Path("results")):
    """Build the report of a finished study; returns its first page. Raises `UserError` where the study is not finished or a page fails."""
    from mmcoa.report.build import build_book

    plan = make_plan(profile, results, runs)
    made = {"hash": report_hash(plan), "page": str(build_book(profile, results=results))}
    write_atomic(marker(plan), lambda path: path.write_text(json.dumps(made)))
    return made["page"]


if __name__ == "__main__":
    try:
        print(build(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])))
    except UserError as problem:
        sys.exit(f"error: {problem}")
