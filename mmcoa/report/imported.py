"""Which files of the package some code depends on: the modules of mmcoa that it imports, those that they import, and their
data."""

import ast
import functools
from pathlib import Path

ROOT = Path(__file__).parents[1]  # the package mmcoa
RECORDS = ("attacks", "defenses")  # rooms whose files are read as text, for what their records say
DATA = (".csv", ".yaml", ".json", ".txt", ".css", ".js")


def files(sources):
    """Paths, sorted: all modules that Python sources (texts) import, directly or through each other, and the data in their
    folders."""
    found, waiting = set(), {path for source in sources for path in imports(source)}
    while waiting:
        path = waiting.pop()
        found.add(path)
        waiting |= set(imports_of(path)) - found
    folders = {path.parent for path in found} - {ROOT}
    found |= {path for folder in folders if folder.name in RECORDS for path in folder.glob("*.py")}
    return sorted(found | {path for folder in folders for path in folder.rglob("*") if path.suffix in DATA})


@functools.cache
def imports_of(path):
    return imports(path.read_text(encoding="utf8"))


def imports(source):
    """Files of the package's modules that a source names in an import, wherever it stands. A line of IPython's is no import."""
    code = "\n".join(line for line in source.splitlines() if not line.startswith(("%", "!")))
    names = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return sorted(path for name in names if (path := module_file(name)))


def module_file(name):
    """The file of a module of mmcoa, None for other names."""
    first, *parts = name.split(".")
    if first != "mmcoa" or not parts:
        return None
    path = ROOT.joinpath(*parts)
    return next((each for each in (path.with_suffix(".py"), path / "__init__.py") if each.is_file()), None)
