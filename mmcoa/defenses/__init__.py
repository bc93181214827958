"""Defences: one objective a file, found by its file name.

A module `mmcoa/defenses/NAME.py` that defines `objective(model, frozen, batch, threat, settings) -> (loss, logs)` and
`TRAINS` (a tuple out of `image`, `text`) is the defence NAME; nothing needs to be registered.
"""

import ast
import importlib
import pkgutil
from pathlib import Path

from mmcoa.errors import unknown


def names():
    """Names of all defences that train something."""
    return sorted(m.name for m in pkgutil.iter_modules(__path__) if not m.name.startswith("_"))


def load(name):
    """The module of a defence; `UserError` with the nearest names otherwise."""
    if name not in names():
        raise unknown("defence", name, names())
    return importlib.import_module(f"{__name__}.{name}")


def describe(name):
    """What the first line of the module's docstring says behind the name; read without importing torch."""
    tree = ast.parse((Path(__path__[0]) / f"{name}.py").read_text(encoding="utf8"))
    return ast.get_docstring(tree).splitlines()[0].partition(": ")[2]


def record(name):
    """SHIM until the training branch is merged."""
    import types

    return types.SimpleNamespace(version=1, inner=("image", "text"))
