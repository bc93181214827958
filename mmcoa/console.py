"""What the command line prints: tables, result rows, times, progress, mistakes."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from mmcoa.threat import format_epsilon

console = Console(width=None if sys.stdout.isatty() else 160)  # a pipe has no width: do not fold lines at 80


def print_table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """A plain aligned table; numbers to the right."""
    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(
            column, justify="right" if rows and isinstance(rows[0][columns.index(column)], int | float) else "left"
        )
    for row in rows:
        table.add_row(*(f"{value:.1f}" if isinstance(value, float) else str(value) for value in row))
    console.print(table)


def print_rows(rows: Iterable[dict[str, Any]]) -> None:
    """Result rows as a table."""
    columns = ["attack", "epsilon", "accuracy", "95 % Wilson", "correct", "n", "seconds", "self-checks"]
    table = []
    for row in rows:
        interval = f"{row['ci_low']:.1f} to {row['ci_high']:.1f}"
        radius = format_epsilon(row["epsilon"]) if row["epsilon"] else ""
        check = f"{row['check']} (n = {row['check_n']})" if row["check_n"] else row["check"]
        table.append([row["attack"], radius, row["accuracy"], interval, row["correct"], row["n"], row["seconds"], check])
    print_table(columns, table)


def shortened(words: Sequence[str], limit: int = 12) -> str:
    """`a, b, c, ... (54 in all)`."""
    return ", ".join(words) if len(words) <= limit else f"{', '.join(words[:limit])}, ... ({len(words)} in all)"


def duration(seconds: float | None) -> str:
    """Seconds as a reader says them, with as many digits as they deserve; None: not known yet."""
    if seconds is None:
        return "unknown until a first cell of each kind is done"
    if seconds < 5400:
        return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
    hours = seconds / 3600
    return f"{hours:,.0f} h" if hours >= 100 else f"{hours:.1f} h"


def ago(when: float) -> str:
    """POSIX seconds as `3 min ago`; as a date after two days."""
    seconds = max(0.0, time.time() - when)
    return f"{duration(seconds)} ago" if seconds < 2 * 86400 else f"on {datetime.fromtimestamp(when):%Y-%m-%d %H:%M}"


@contextlib.contextmanager
def progress_bar(label: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """Yields `advance(done)`: a bar with time left on a terminal, nothing elsewhere."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    stderr = Console(stderr=True)
    with Progress(*columns, console=stderr, transient=True, disable=not stderr.is_terminal) as progress:
        task = progress.add_task(label, total=total)
        yield lambda done: progress.update(task, completed=done)


def fail(message: str, code: int) -> int:
    """Say a user's mistake in one line on stderr; returns the exit code."""
    print(f"mmcoa: {' '.join(message.split())}", file=sys.stderr)
    return code
