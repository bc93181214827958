"""Defences: one objective a file, found by its file name.

A module `mmcoa/defenses/NAME.py` is the defence NAME; nothing needs to be registered. It defines
`objective(model, frozen, batch, threat, settings) -> (loss, logs)` and states, as literals that are read without importing it,

    TRAINS = ("image", "text")          # the towers that it trains
    INNER = ("image", "text")           # the attacks that run inside its training
    VERSION = 1                         # raise it when the models that it makes change (tests/golden)
    SETTINGS = {"lambda_image": 0.5}    # its own settings with their defaults; may be left out, as may
    CHOICES = {"positives": ("class", "index")}     # what a text may be, and
    LEAST = {"lambda_image": 0.0}       # the smallest value of a number

A file whose name begins with an underscore is no defence. Defences that train nothing lie in `at_test/`.
"""

import ast
import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, make_dataclass
from pathlib import Path

from mmcoa.errors import UserError, unknown
from mmcoa.values import Kind

TOWERS = ("image", "text")
OWN = ("VERSION", "SETTINGS", "CHOICES", "LEAST")  # what defences at test time state too: at_test/__init__.py
MAY_BE_LEFT_OUT = {"SETTINGS": {}, "CHOICES": {}, "LEAST": {}}


@dataclass(frozen=True)
class Statement:
    """What a defence's file states: see the head of this module. `summary`: its first line, behind the name."""

    name: str
    path: Path
    summary: str
    trains: tuple
    inner: tuple
    version: int
    settings: dict
    kinds: dict  # {own setting: mmcoa.values.Kind}


@dataclass(frozen=True)
class Defence:
    """A defence with its settings, ready to train: what `mmcoa.train` takes. `variant`: says what was changed, if anything."""

    name: str
    trains: tuple
    inner: tuple
    version: int
    settings: object  # read-only: settings.lambda_image
    objective: Callable
    variant: str = ""

    @property
    def own(self):
        """Its settings as a dict."""
        return asdict(self.settings)

    @property
    def defaults(self):
        """What they are where nothing is said."""
        return asdict(type(self.settings)())


def names():
    """Names of all defences that train something."""
    return names_in(__path__)


def names_in(folders):
    """Names of the files in some folders that are defences."""
    return sorted(m.name for m in pkgutil.iter_modules(folders) if not m.ispkg and not m.name.startswith("_"))


def load(name):
    """The module of a defence; `UserError` with the nearest names otherwise."""
    if name not in names():
        raise unknown("defence", name, names())
    return importlib.import_module(f"{__name__}.{name}")


def record(name):
    """The `Statement` of a defence, read without importing it (or torch).

    Raises `UserError` for an unknown one or a flawed file.
    """
    if name not in names():
        raise unknown("defence", name, names())
    path = next(path for folder in __path__ if (path := Path(folder) / f"{name}.py").is_file())
    tree = ast.parse(path.read_text(encoding="utf8"))
    stated = stated_in(path, tree, ("TRAINS", "INNER", *OWN))
    for key in ("TRAINS", "INNER"):
        if not isinstance(stated[key], tuple) or not set(stated[key]) <= set(TOWERS):
            raise UserError(f"{path}: {key} must be a tuple of 'image' and 'text', got {stated[key]!r}")
    return Statement(
        name, path, summary_of(tree), stated["TRAINS"], stated["INNER"], stated["VERSION"], stated["SETTINGS"], stated["kinds"]
    )


def stated_in(path, tree, keys):
    """{key: literal} that a file assigns, of the `keys` that it must or may, and `kinds`: {own setting: `Kind`}.

    Raises `UserError` for one that is missing or does not fit.
    """
    stated = MAY_BE_LEFT_OUT | {key: _literal(path, key, node) for key, node in _assigned(tree) if key in keys}
    for key in keys:
        if key not in stated:
            raise UserError(f"{path} states no {key}; see the head of {path.with_name('__init__.py')}")
    if not isinstance(stated["SETTINGS"], dict):
        raise UserError(f"{path}: SETTINGS must be a dict of names and defaults, got {stated['SETTINGS']!r}")
    for key in ("CHOICES", "LEAST"):
        for setting in stated[key]:
            if setting not in stated["SETTINGS"]:
                raise UserError(f"{path}: {key} has '{setting}', which is none of SETTINGS")
    return stated | {"kinds": {key: _kind(path, stated, key, default) for key, default in stated["SETTINGS"].items()}}


def summary_of(tree):
    """First line of a module's docstring, behind the name."""
    return (ast.get_docstring(tree) or "").partition("\n")[0].partition(": ")[2]


def _assigned(tree):
    """(name, value) of the assignments at a module's top level."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            yield node.targets[0].id, node.value


def _literal(path, key, node):
    try:
        return ast.literal_eval(node)
    except ValueError as error:
        raise UserError(
            f"{path}, line {node.lineno}: {key} must be a literal, so that it is read without importing torch"
        ) from error


def _kind(path, stated, key, default):
    """The `Kind` of a setting by its default."""
    if not isinstance(default, bool | int | float | str | tuple):
        raise UserError(f"{path}: the default of '{key}' must be a number, a text, true or false, or numbers, got {default!r}")
    length = len(default) if isinstance(default, tuple) else None
    kind = Kind(type(default), least=stated["LEAST"].get(key), choices=stated["CHOICES"].get(key, ()), length=length)
    kind.check(f"{path}: the default of {key}", default)
    return kind


def describe(name):
    """What the first line of the module's docstring says behind the name; read without importing torch."""
    return record(name).summary


def own_settings(name, given=None):
    """All settings of a defence as a dict: its defaults, then `given`.

    Raises `UserError` for one that it does not have, and for an impossible value.
    """
    return settled(record(name), given)


def settled(of, given=None):
    """The same for a defence's statement `of`."""
    for key in given or {}:
        if key not in of.settings:
            raise no_such_setting(of, key)
    return of.settings | {key: of.kinds[key].check(key, value) for key, value in (given or {}).items()}


def readable(of, values):
    """Settings {name: value} as a read-only object: `settings.lambda_image`."""
    fields = [(key, type(default), default) for key, default in of.settings.items()]
    return make_dataclass("Settings", fields, frozen=True)(**values)


def no_such_setting(of, key, others=()):
    """`UserError` about a setting that a defence, by its `Statement`, does not have; `others`: further names to choose from."""
    has = f"has: {', '.join(of.settings)}" if of.settings else "has no settings of its own"
    valid = [*of.settings, *others]
    text = unknown("setting", key, valid) if valid else f"unknown setting '{key}'"
    return UserError(f"{text}; defence '{of.name}' {has}")


def choose(name, given=None):
    """The `Defence` NAME with its own settings `given`; imports its module. Raises `UserError` like `own_settings`."""
    of = record(name)
    settings = readable(of, settled(of, given))
    return Defence(name, of.trains, of.inner, of.version, settings, load(name).objective)
