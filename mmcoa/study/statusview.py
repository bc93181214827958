"""The state of a study in words: lines of text, and a view for a terminal that follows it.

`state` is what `mmcoa.study.status.Standing.state` returns; both forms say the same in the same words.
"""

import socket
import time
from datetime import datetime

from rich.console import Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from mmcoa.console import shortened
from mmcoa.study.plan import duration

REFRESH = 2.0  # seconds
ROWS = 20  # running processes that are listed
COUNTS = {"done": "done", "running": "running", "failed": "failed", "todo": "to do"}
STYLES = {"done": "green", "running": "cyan", "failed": "red", "todo": ""}
LOUD = ("last error", "runner", "killed", "damaged")


def lines(state):
    """The state as lines of plain text."""
    yield f"{state['profile']}: {state['cells']} cells"
    for key, text in COUNTS.items():
        yield f"  {text:8}{state[key]:5}"
    for process in state["processes"]:
        yield (
            f"  running: {process['name']}: {elapsed(process['seconds'])} on {process['host']}, {process['done']} of "
            f"{process['cells']} cells done"
        )
    for name, failure in state["failures"].items():
        if name != state["last_error"]["name"]:
            yield f"  failed: {failure['reason']}, in {name}; see {failure['notebook']}"
    for label, text in facts(state):
        yield f"  {label}: {text}"


def view(state):
    """The state as something that rich draws, at any width."""
    bar = Table.grid(padding=(0, 2), expand=True)
    for column in ({"no_wrap": True}, {"ratio": 1}, {"no_wrap": True, "justify": "right"}):
        bar.add_column(**column)
    share = f"{state['done']} of {state['cells']} cells"
    bar.add_row(Text(state["profile"], style="bold"), ProgressBar(total=max(state["cells"], 1), completed=state["done"]), share)
    counts = Text("   ").join(
        Text(f"{text} {state[key]}", style=STYLES[key] if state[key] else "dim") for key, text in COUNTS.items()
    )
    told = Table.grid(padding=(0, 2))
    told.add_column(no_wrap=True)
    told.add_column(overflow="fold")
    for label, text in facts(state):
        told.add_row(Text(label, style="red" if label in LOUD else "dim"), Text(text))
    return Group(bar, counts, *([running(state)] if state["processes"] else []), told)


def running(state):
    """Table of the processes that run now."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("running", overflow="fold")
    table.add_column("on", overflow="ellipsis", max_width=24)
    table.add_column("for", no_wrap=True, justify="right")
    table.add_column("cells done", no_wrap=True, justify="right")
    for process in state["processes"][:ROWS]:
        cells = f"{process['done']} of {process['cells']}"
        table.add_row(Text(process["name"], style="cyan"), Text(process["host"]), elapsed(process["seconds"]), cells)
    if (more := len(state["processes"]) - ROWS) > 0:
        table.add_row(f"and {more} more")
    return table


def follow(study, console):
    """Show the view of `study.state()` anew every two seconds, until all is done and nothing runs, or Ctrl-C.

    Returns the last state.
    """
    state = study.state()
    with Live(view(state), console=console, auto_refresh=False) as live:
        try:
            while state["done"] < state["cells"] or at_work(state):
                time.sleep(REFRESH)
                state = study.state()
                live.update(view(state), refresh=True)
        except KeyboardInterrupt:  # it ends the view, and no run
            pass
    return state


def facts(state):
    """(label, text) of all that is neither a count nor a process at work."""
    runner, open_cells = state["runner"], state["cells"] - state["done"]
    yield "spent", spent(state)
    if last := state["last_record"]:
        yield "last record", f"{last['cell']}, {ago(last['when'])}"
    if runner and runner["alive"]:
        rate = f"; {state['rate']:.3g} cells an hour" if state["rate"] else ""
        here = "" if runner["host"] == socket.gethostname() else ", which cannot be looked at from here"
        yield "runner", f"process {runner['pid']} on {runner['host']}{here}, started {ago(runner['started'])}{rate}"
    elif runner:
        yield (
            "runner",
            f"was killed: process {runner['pid']} on {runner['host']}, started {ago(runner['started'])}; what is "
            "finished is kept",
        )
    if state["killed"]:
        yield "killed", f"{shortened(state['killed'])}: ended without a result; see {state['logs']}"
    if error := state["last_error"]:
        yield "last error", f"{error['reason']}, in {error['name']}, {ago(error['when'])}; see {error['notebook']}"
    if state["stale"]:
        yield (
            "outdated",
            f"{state['stale']} results are of other settings, inputs or versions than today's; their cells count as to do",
        )
    for text in state["damaged"]:
        yield "damaged", text.removeprefix("damaged record ")
    if open_cells:
        side_by_side = "one after the other" if state["at_once"] == 1 else f"{state['at_once']} at once"
        yield "time left", duration(state["seconds_left"]) + (f", {side_by_side}" if state["seconds_left"] is not None else "")
    if open_cells or state["failures"] or state["killed"]:
        begun = state["done"] or state["failures"] or state["killed"] or runner
        yield ("if it stops, go on with" if at_work(state) else "continue with" if begun else "start with"), state["command"]
    elif not at_work(state):
        yield "report with", state["command"].replace("mmcoa run", "mmcoa book", 1)


def at_work(state):
    """Whether a runner or a process runs; the runner packs the results after the last of them."""
    return bool(state["processes"]) or bool(state["runner"] and state["runner"]["alive"])


def spent(state):
    """`0 GPU hours, 6.4 CPU hours (train 1.1, evaluate 5.3)`."""
    parts = []
    for key, name in (("gpu_hours", "GPU"), ("cpu_hours", "CPU")):
        kinds = {kind: values[key] for kind, values in state["kinds"].items() if values[key]}
        detail = ", ".join(f"{kind} {hours(value)}" for kind, value in kinds.items())
        parts.append(f"{hours(state[key])} {name} hours" + (f" ({detail})" if detail else ""))
    return ", ".join(parts)


def hours(value):
    """Hours with as many digits as they deserve."""
    return f"{value:,.0f}" if value >= 100 or not value else f"{value:.1f}" if value >= 1 else f"{value:.2g}"


def elapsed(seconds):
    """`h:mm:ss`."""
    minutes, seconds = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d}"


def ago(when):
    """POSIX seconds as `3 min ago`; as a date after two days."""
    seconds = max(0.0, time.time() - when)
    return f"{duration(seconds)} ago" if seconds < 2 * 86400 else f"on {datetime.fromtimestamp(when):%Y-%m-%d %H:%M}"
