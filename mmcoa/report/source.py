"""What the tables and pages of a book were made from: `tables/SOURCE.json`, which a build of the pages compares with what is there.

Each study of a book has a folder of tables with such a file; pages about several studies have one of their own below the first one's.

    studies                   [{"profile", "name", "settings", "holes"}]: a study as it was asked for, its name, a digest of what its
                              profile says, and ids of cells that had no current result (`mmcoa book --allow-holes`)
    book                      profiles of the command `mmcoa book ...` that makes the tables again
    results, notebooks        {"root": folder, relative to that of the tables; "files": {path in it: digest, empty: not there}}
    code                      digest of mmcoa.report, comments aside
    pages                     {executed notebook, relative to the tables: digest}
    tables                    {file: {"digest"; "notebook" that made it, relative to the tables}}
    commands                  {file: [command]} of tables whose numbers are not the study's own; none: made of the package alone

Reads files and profiles; imports no model.
"""

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

from mmcoa.errors import UserError
from mmcoa.study.profiles import load_profile
from mmcoa.study.records import record_path, write_atomic
from mmcoa.study.sources import PACKAGE, code_of
from mmcoa.study.sources import digest as digest_of

NAME = "SOURCE.json"
SHARED = (
    "ablations/rows.csv",
    "ablations/records/*.json",
    "learning-rates*/records/*.json",
    "strength/*.csv",
    "speed/*.csv",
    "cost/*.csv",
)  # pages of every study show them


@dataclass(frozen=True)
class Origin:
    """A study that pages show. profile: name or path, as given; cells: the study's; holes: ids of those without a current result."""

    profile: str
    cells: tuple
    holes: tuple = ()


def read(folder):
    """SOURCE.json of a folder of tables as a dict, empty where there is none. Raises `UserError` where it is damaged."""
    path = Path(folder) / NAME
    try:
        return json.loads(path.read_text(encoding="utf8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise UserError(f"damaged {path} ({error}); build the book again: mmcoa book PROFILE") from error


def write(folder, source):
    text = json.dumps(source, indent=0, ensure_ascii=False) + "\n"
    return write_atomic(Path(folder) / NAME, lambda path: path.write_text(text, encoding="utf8"))


def note(table, commands):
    """Remember which commands made the numbers of a table (a path), where `mmcoa run PROFILE` did not."""
    table = Path(table)
    source = read(table.parent)
    source.setdefault("commands", {})[table.name] = list(commands)
    write(table.parent, source)


def begin(folder):
    """Forget the tables of an earlier build, so that none is left which nothing makes any more."""
    folder = Path(folder)
    for path in [*folder.glob("*.csv"), folder / NAME]:
        path.unlink(missing_ok=True)


def claim(folder, page):
    """Say that an executed notebook made the tables that are new since `begin` or the last claim."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    source = read(folder)
    notebook = Path(os.path.relpath(page, folder)).as_posix()
    source.setdefault("pages", {})[notebook] = ""
    known = source.setdefault("tables", {})
    for path in sorted(folder.glob("*.csv")):
        known.setdefault(path.name, {"notebook": notebook})
    write(folder, source)


def finish(folder, origins, results, notebooks, book=None):
    """Complete SOURCE.json when all notebooks have run.

    Arguments:
        folder: of the tables.
        origins: `Origin`s of the studies that the pages show.
        results: folder of all results; notebooks: folder of the report notebooks.
        book: profiles of the command that builds the pages; default those of the studies.
    """
    folder, results, source = Path(folder), Path(results), read(folder)
    names = {origin.profile: load_profile(origin.profile).name for origin in origins}
    records = [record_path(results / names[origin.profile], cell.id) for origin in origins for cell in origin.cells]
    inputs = {
        "results": (results, records + found(results, names.values())),
        "notebooks": (Path(notebooks), Path(notebooks).glob("report_*.ipynb")),
    }
    source["studies"] = [
        {"profile": o.profile, "name": names[o.profile], "settings": settings(o.profile), "holes": list(o.holes)}
        for o in origins
    ]
    source |= {"book": list(book or names), "code": report_code()}
    for key, (root, paths) in inputs.items():
        files = {path.relative_to(root).as_posix(): file_digest(path) for path in paths}
        source[key] = {"root": Path(os.path.relpath(root, folder)).as_posix(), "files": files}
    source["pages"] = {page: file_digest(folder / page) for page in source["pages"]}
    for table, made in source["tables"].items():
        made["digest"] = file_digest(folder / table)
    return write(folder, source)


def problem(folder):
    """Why the tables and pages of SOURCE.json do not belong to what lies on disk, with the command that mends it, or None.

    Results or notebooks that are not beside the book are not compared: see `absent`.
    """
    folder = Path(folder)
    source = read(folder)
    if "studies" not in source:
        return f"{folder / NAME} is not whole: a build of the book was stopped; run: mmcoa book PROFILE"
    names, away, mend = (
        {study["name"]: study["profile"] for study in source["studies"]},
        absent(folder),
        f"run: {book_command(source)}",
    )
    whose = f"profile{'s' * (len(names) > 1)} {' and '.join(map(repr, names.values()))}"
    pages = f"the pages of {whose}"
    if "results" not in away and (changed := differing(folder, source)):
        own = [path for path in changed if path.split("/")[0] in names and path.split("/")[1] == "records"]
        first, more = (own or changed)[0], f" and {len(changed) - 1} more" if len(changed) > 1 else ""
        thing = f"the record of cell '{Path(first).stem}'" if own else f"results/{first}"
        state = (
            "is missing"
            if not (folder / source["results"]["root"] / first).is_file()
            else "is another one"
            if first in source["results"]["files"]
            else "is new"
        )
        mend = (
            f"run: mmcoa run {names[first.split('/')[0]]}, then {book_command(source)}"
            if own and state == "is missing"
            else mend
        )
        return f"{pages} were not made from the results beside them: {thing} {state}{more}; {mend}"
    for study in source["studies"]:
        if (now := settings(study["profile"])) and now != study["settings"]:
            return f"profile '{study['profile']}' says something else than when its pages were made; {mend}"
    if source["code"] != report_code():
        return f"{pages} were made with other code of mmcoa.report; {mend}"
    notebooks = {} if "notebooks" in away else source["notebooks"]["files"]
    for path, made in notebooks.items():
        if file_digest(folder / source["notebooks"]["root"] / path) != made:
            return f"{pages} were made with another notebooks/{path}; {mend}"
    for path, made in {**source["pages"], **{name: made["digest"] for name, made in source["tables"].items()}}.items():
        if file_digest(folder / path) != made:
            return f"{os.path.normpath(folder / path)} is not what the book of {whose} was built with; {mend}"
    return None


def book_command(source):
    """The command that makes tables and pages again, given a whole SOURCE.json."""
    return " ".join(["mmcoa book", *source["book"], *["--allow-holes"] * any(study["holes"] for study in source["studies"])])


def absent(folder):
    """Of `results` and `notebooks`, those that are not where SOURCE.json saw them, and so cannot be compared."""
    folder, source = Path(folder), read(folder)
    return [key for key in ("results", "notebooks") if key in source and not (folder / source[key]["root"]).is_dir()]


def differing(folder, source):
    """Files of `results` that are other ones, gone or new since the book was built, in the order of the profile."""
    root, made = folder / source["results"]["root"], source["results"]["files"]
    now = [*made, *(path.relative_to(root).as_posix() for path in found(root, [study["name"] for study in source["studies"]]))]
    return [path for path in dict.fromkeys(now) if file_digest(root / path) != made.get(path, "")]


def found(results, names):
    """Result files beside the records that pages of studies show; those of a trial run of a benchmark (`-quick`) are not shown."""
    patterns = [f"{name}/{own}" for name in names for own in ("training/*.csv", "gallery/*")] + list(SHARED)
    return [path for pattern in patterns for path in sorted(Path(results).glob(pattern)) if not path.stem.endswith("-quick")]


def file_digest(path):
    """First digits of the hash of a file; empty where it is not there."""
    path = Path(path)
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16] if path.is_file() else ""


def settings(profile):
    """Digest of what a profile says; empty where it cannot be read here."""
    try:
        return digest_of(load_profile(profile).model_dump(mode="json"))[:16]
    except UserError:
        return ""


def report_code():
    """Digest of mmcoa.report, comments and docstrings aside, and of the tables that come with it."""
    folder = PACKAGE / "report"
    code = {path.name: code_of(path.read_text(encoding="utf8")) for path in sorted(folder.glob("*.py"))}
    return digest_of([code, {path.name: file_digest(path) for path in sorted((folder / "published").glob("*.csv"))}])[:16]
