"""Hashes of what a cell's result depends on: library code, model weights, data. Reads files, imports none of them."""

import ast
import functools
import hashlib
import io
import json
import tokenize
from importlib.resources import files
from pathlib import Path

from mmcoa.datasets.records import records

PACKAGE = Path(__file__).parent.parent
MARKER = "cell.json"  # in a study's checkpoint folder: which train cell it belongs to
CANDIDATE_MODULES = ("characters", "wordnet", "mlm")  # of mmcoa.attacks: imported by name, by those who ask for them alone
# Exports, wording, memory, caches and downloads change no result; what counts of a record is hashed as data.
NOT_HASHED = {
    "mmcoa",
    "mmcoa.errors",
    "mmcoa.training.model_card",
    "mmcoa.runtime",
    "mmcoa.cache",
    "mmcoa.datasets.download",
    "mmcoa.datasets.records",
    "mmcoa.datasets.place",
}


def digest(value):
    """sha256 hex digits of a JSON value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def code_of(text):
    """Python source without comments, docstrings and blank lines: what can change a result."""
    lines = text.splitlines()
    comments = [t.start for t in tokenize.generate_tokens(io.StringIO(text).readline) if t.type == tokenize.COMMENT]
    for row, column in comments:
        lines[row - 1] = lines[row - 1][:column]
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node, clean=False) is not None:
            for row in range(node.body[0].lineno, node.body[0].end_lineno + 1):
                lines[row - 1] = ""
    return "\n".join(line.rstrip() for line in lines if line.strip())


def _path(module):
    """File of a module of the package, or None."""
    place = PACKAGE.joinpath(*module.split(".")[1:])
    return next((path for path in (place.with_suffix(".py"), place / "__init__.py") if path.is_file()), None)


def reached(*roots):
    """{module: file} of the package's modules that the roots reach by import statements, wherever these stand."""
    found, waiting = {}, list(roots)
    while waiting:
        module = waiting.pop()
        path = _path(module)
        if path is None or module in found or module in NOT_HASHED:
            continue
        found[module] = path
        waiting += _parsed(path)[0]
    return found


@functools.cache
def _parsed(path):
    """(names that a file may import from the package, its code): many hashes share most of their files."""
    text, names = path.read_text(encoding="utf8"), []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names if alias.name.split(".")[0] == "mmcoa"]
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "mmcoa":
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return names, code_of(text)


@functools.cache
def code_hash(*roots):
    """Hash of the code that the root modules reach; edits of comments and docstrings leave it as it is."""
    modules = reached(*roots)
    missing = [root for root in roots if root not in modules]
    if missing:
        raise FileNotFoundError(f"no module {missing[0]} in {PACKAGE}")
    return digest({name: _parsed(path)[1] for name, path in modules.items()})


@functools.cache
def file_hash(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def asset(name):
    """Path of a file in mmcoa/assets."""
    return Path(str(files("mmcoa.assets") / name))


def model_hash(name):
    """Hash of a model's weights and configuration; a checkpoint of a study says which train cell made it.

    A name of open_clip or the hub stands for itself: its weights are published under it.
    """
    folder = next((path for path in (asset(name), Path(name)) if path.is_dir()), None)
    if folder is None:
        return f"name:{name}"
    made_by = checkpoint_cell(folder)
    if made_by:
        return made_by
    parts = sorted(path for path in folder.iterdir() if path.suffix in (".safetensors", ".json") and path.is_file())
    return digest({path.name: file_hash(path) for path in parts})


def checkpoint_cell(folder):
    """Hash of the train cell that wrote a finished checkpoint; None where no study did, or it is unfinished."""
    folder = Path(folder)
    if not (folder / "mmcoa.json").is_file():
        return None
    try:
        return json.loads((folder / MARKER).read_text())["hash"]
    except (OSError, ValueError, KeyError):
        return None


def dataset_hash(name):
    """Hash of a data set's record and files. Shards of a `wds:` folder count by name and size: they may be many gigabytes."""
    if name.startswith("wds:"):
        folder = Path(name.removeprefix("wds:"))
        return digest({str(p.relative_to(folder)): p.stat().st_size for p in sorted(folder.rglob("*")) if p.is_file()})
    record = records().get(name)
    if record is None:  # the evaluation itself says so
        return f"unknown:{name}"
    sheets = sorted(asset("").glob("openmoji*.*")) if record.reader == "openmoji" else []
    reader = code_hash(f"mmcoa.datasets.{record.reader}")  # imported by name, by those data sets alone
    origin = dataset_hash(record.options["of"]) if record.reader == "merged" else None
    return digest(
        {
            "record": record.identity(),
            "reader": reader,
            "origin": origin,
            **{path.name: file_hash(path) for path in sheets if path.is_file()},
        }
    )


def candidates_code(source):
    """Names of the modules that make a candidate source beyond what every text attack imports."""
    kind = source.partition(":")[0]
    return [f"mmcoa.attacks.{kind}"] if kind in CANDIDATE_MODULES else []


def candidates_hash(source):
    """Hash of what gives the candidates: the table's file, or the files of the folder in `mlm:FOLDER` or `wordnet:FOLDER`.

    Anything else stands for itself: `neighbours` come from the model, `characters` from code, a name from the hub.
    """
    path = asset("candidates.json.gz") if source.startswith("table:") else Path(source)
    if path.is_file():
        return file_hash(path)
    kind, _, argument = source.partition(":")
    folder = Path(argument.partition(",")[0]).expanduser()  # `mlm:FOLDER,whole`
    if kind not in CANDIDATE_MODULES or not argument or not folder.is_dir():
        return source
    return digest({path.name: file_hash(path) for path in sorted(folder.iterdir()) if path.is_file()})
