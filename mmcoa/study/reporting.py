"""The last process of a study's graph: its results are packed and its report is built, once all other processes are done.

python -m mmcoa.study.reporting PROFILE RESULTS RUNS        # as the Snakefile does
"""

import sys
from pathlib import Path

from mmcoa.console import fail
from mmcoa.errors import UserError


def build(profile, results=Path("results"), runs=Path("runs")):
    """Pack a finished study and build its report; returns its first page. Pages that stay as they are, are not made again."""
    from mmcoa.report.build import build_book
    from mmcoa.study.pack import pack

    pack(profile, results, runs)
    return build_book(profile, results=results)


if __name__ == "__main__":
    try:
        print(f"report: {build(sys.argv[1], *map(Path, sys.argv[2:4]))}")
    except UserError as problem:
        sys.exit(fail(str(problem), 2))
