"""Which room may import which. A room is a folder of mmcoa/, or a module at its top; read from the import statements.

The rooms form layers: nobody imports from a room that comes later in the table. What a room may import is listed with it, a
whole room or one module of it. A report runs no attack: it may import neither torch nor what needs it.
"""

import ast
import itertools
import re
import subprocess
import sys
from collections import defaultdict
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LEAVES = ("errors", "store", "cache", "threat", "prompts", "runtime", "distributed", "values", "versions")
LIBRARY = ("model", "attacks", "datasets", "defenses", "training", "evaluation")
MAY_IMPORT = {
    "errors": (),
    "store": ("errors",),
    "cache": ("errors", "store.files"),
    "threat": ("errors",),
    "prompts": ("errors",),
    "runtime": ("errors", "store.files"),
    "distributed": ("errors",),
    "values": ("errors",),
    "versions": (),
    "console": ("errors", "threat"),
    "model": LEAVES,
    "attacks": (*LEAVES, "model"),
    "datasets": (*LEAVES, "attacks.words", "attacks.wordnet", "attacks.candidates"),  # captions vary by candidate words
    "defenses": (*LEAVES, "attacks", "model"),
    "identity": (
        *LEAVES,
        *("attacks.catalog", "defenses", "model.lite", "model.paths"),
        *("datasets.records", "datasets.listing", "datasets.download"),
    ),
    "training": (*LEAVES, "attacks", "datasets", "defenses", "model", "identity"),
    "evaluation": (*LEAVES, "attacks", "datasets", "model", "defenses.at_test", "identity"),
    "control": (*LEAVES, *LIBRARY),
    "study": (*LEAVES, *LIBRARY, "console", "identity"),
    "gallery": (*LEAVES, *LIBRARY, "identity", "study"),
    "report": (
        *("store", "threat", "errors", "console", "prompts", "defenses", "evaluation.statistics"),
        *(
            "attacks.catalog",
            "attacks.words",
            "datasets.records",
            "datasets.roles",
            "datasets.overlaps",
            "datasets.archives",
            "training.faults",
        ),
        "study.profiles",
    ),
    "cli": (*LEAVES, *LIBRARY, "console", "identity", "control", "study", "gallery", "report"),
    "assets": (*LEAVES, *LIBRARY),  # the scripts that built them
    "__main__": ("cli",),
    "__init__": (),  # loads what it exports by name, when it is asked for
}
LIGHT = (
    "attacks.catalog",
    "defenses",
    "defenses.at_test",
    "datasets.records",
    "study.profiles",
    "cli.main",
)  # lists answer at once


@dataclass(frozen=True)
class Import:
    """One import statement: `module` of the file `path`, line `line`, imports the module `target`."""

    module: str
    target: str
    path: Path
    line: int

    def __str__(self):
        return f"{self.path.relative_to(ROOT)}:{self.line}: {self.module} imports {self.target}"


def module_name(path):
    """mmcoa/model/clip.py -> `model.clip`; a package has the name of its folder, the top one `__init__`."""
    parts = path.relative_to(ROOT / "mmcoa").with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


MODULES = {module_name(path): path for path in sorted((ROOT / "mmcoa").rglob("*.py"))}


def imports(module):
    """The import statements of a module for modules of this package, wherever in the file they stand.

    Those under `if TYPE_CHECKING` never run, and do not count.
    """
    path = MODULES[module]
    tree = ast.parse(path.read_text(encoding="utf8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names = [f"{node.module}.{alias.name}" for alias in node.names]  # a module, or a name in one
        else:
            continue
        for name in names:
            package, _, inner = name.partition(".")
            if package == "mmcoa":
                yield Import(module, existing(inner), path, node.lineno)


def existing(name):
    """The module that `name` is, or the one that defines it."""
    while name and name not in MODULES:
        name = name.rpartition(".")[0]
    return name or "__init__"


IMPORTS = {module: sorted(set(imports(module)), key=lambda found: found.line) for module in MODULES}


def room(module):
    return module.partition(".")[0]


def allowed(found):
    """Whether the table lets a module import another one: its own room, a whole room, or a module that is named."""
    if room(found.module) == room(found.target) or found.target == "__init__":
        return True
    return any(found.target == name or found.target.startswith(f"{name}.") for name in MAY_IMPORT[room(found.module)])


def test_relative_imports_are_not_used():
    """They would pass by the table."""
    used = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in MODULES.values()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf8")))
        if isinstance(node, ast.ImportFrom) and node.level
    ]
    assert used == []


def test_every_room_is_in_the_table():
    assert {room(module) for module in MODULES} - set(MAY_IMPORT) == set(), "say in MAY_IMPORT what the new room may import"


@pytest.mark.parametrize("name", sorted({room(module) for module in MODULES}))
def test_a_room_imports_what_it_may(name):
    found = [one for module in MODULES if room(module) == name for one in IMPORTS[module]]
    wrong = [str(one) for one in found if not allowed(one)]
    assert wrong == [], f"the room {name} may import {', '.join(MAY_IMPORT[name]) or 'nothing'} (MAY_IMPORT)"


def test_the_page_architecture_says_the_same():
    """Its table names rooms, where MAY_IMPORT may name one module; "leaves" and "library" stand for several."""
    page = (ROOT / "book" / "architecture.md").read_text(encoding="utf8")
    described = set()
    for line in page.partition("| --- | --- | --- |\n")[2].partition("\n\n")[0].splitlines():
        rooms, _, allowed = line.strip("| ").split(" | ")
        own, told = (set(re.findall(r"`(\w+)/?`", cell)) for cell in (rooms, allowed))
        told |= {*LEAVES} if "leaves" in allowed else set()
        told |= {*LIBRARY} if "library" in allowed else set()
        assert told - own == {room(name) for one in own for name in MAY_IMPORT[one]} - own, rooms
        described |= own
    assert described == {one for one in MAY_IMPORT if not one.startswith("__")}


def test_the_table_has_no_circle():
    """A room imports from rooms that stand above it: so no two can need each other."""
    order = list(MAY_IMPORT)
    late = [(one, name) for one, names in MAY_IMPORT.items() for name in names if order.index(room(name)) >= order.index(one)]
    assert late == []


def test_no_modules_import_each_other():
    """Also not inside a function: such an import hides a circle. Importing a module runs the packages that it lies in."""
    graph = defaultdict(dict)
    for module, found in IMPORTS.items():
        for one in found:
            parts = one.target.split(".")
            for end in range(1, len(parts) + 1):
                target = ".".join(parts[:end])
                if target != module and not module.startswith(f"{target}."):
                    graph[module].setdefault(target, one)
    circle = circle_of(graph)
    assert circle == [], "\n" + "\n".join(map(str, circle))


def circle_of(graph):
    """The imports that make a circle, or an empty list. graph: {module: {module that it imports: Import}}."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        backwards = error.args[1]
        return [graph[module][target] for target, module in itertools.pairwise(backwards)]
    return []


def test_circles_are_found():
    graph = defaultdict(dict)
    for a, b in [("a", "b"), ("b", "c"), ("a", "d"), ("d", "c"), ("c", "d")]:
        graph[a][b] = Import(a, b, ROOT / "x.py", 1)
    assert {(found.module, found.target) for found in circle_of(graph)} == {("c", "d"), ("d", "c")}
    del graph["c"]
    assert circle_of(graph) == []


WITHOUT_TORCH = """
import importlib, sys, traceback

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            raise ImportError("imports torch")

sys.meta_path.insert(0, Refuse())
for name in sys.argv[1:]:
    try:
        importlib.import_module(name)
    except ImportError as error:
        ours = [frame for frame in traceback.extract_tb(error.__traceback__) if "/mmcoa/" in frame.filename]
        print(f"{ours[-1].filename}:{ours[-1].lineno}: {error}" if ours else f"{name}: {error}")
"""


def needs_torch(names):
    """Lines "path:line: error" of the statements at which importing these modules fails where there is no torch."""
    modules = [f"mmcoa.{name}" for name in names]
    done = subprocess.run([sys.executable, "-c", WITHOUT_TORCH, *modules], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return {line.removeprefix(f"{ROOT}/") for line in done.stdout.splitlines()}


def test_reports_and_lists_need_no_torch():
    found = needs_torch([*(module for module in MODULES if room(module) == "report"), *LIGHT])
    assert sorted(found) == []


def test_torch_is_noticed():
    assert any(line.startswith("mmcoa/model/clip.py:") for line in needs_torch(["model.clip"]))
