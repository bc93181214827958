"""`mmcoa data`: fetch a data set, see whether it is ready, read its prompts. And the table of `mmcoa datasets`."""

import contextlib
import sys
from pathlib import Path
from typing import Annotated

import typer

from mmcoa.cli.options import Classnames, Templates
from mmcoa.console import console, print_table
from mmcoa.errors import UserError

app = typer.Typer(no_args_is_help=True, help="Data sets: fetch one, check that it is ready, read its prompts.")
Name = Annotated[
    str,
    typer.Argument(help="name of a data set (`mmcoa datasets`), wds:FOLDER, wds:URL, or PATH as of `mmcoa evaluate`"),
]
Root = Annotated[Path | None, typer.Option(help="folder of the data sets; default: $MMCOA_DATA, else the user's cache")]


@app.command()
def get(
    dataset: Name,
    root: Root = None,
    copy: Annotated[bool, typer.Option("--copy", help="the WebDataset copy on the hub ($MMCOA_HUB), not the original")] = False,
    again: Annotated[bool, typer.Option("--again", help="also what was fetched before")] = False,
):
    """Fetch a data set, or go on with it; what is there already is kept. Example: mmcoa data get cifar10 --root ~/data"""
    from mmcoa.datasets import download
    from mmcoa.datasets.place import data_root, use_root

    use_root(root)
    with transfer_bar() as advance:
        if dataset.startswith(("wds:http://", "wds:https://")):
            folder = download.fetch_webdataset(dataset.removeprefix("wds:"), progress=advance, again=again)
            console.print(f"{folder} is there; use it with --dataset {dataset} or --dataset wds:{folder}", soft_wrap=True)
            return
        record = find(dataset)
        if record.reader == "openmoji":
            console.print(f"{dataset} is embedded: there is nothing to fetch")
            return
        if record.reader == "by_path" or record.name.startswith("wds:"):
            console.print(f"{dataset} is there: there is nothing to fetch; next: mmcoa data check {dataset}", soft_wrap=True)
            return
        if not (copy or again or download.is_fetched(record, data_root())) and (line := ready_here(record)):
            console.print(line, soft_wrap=True)
            return
        folder = download.get(record, progress=advance, copy=copy, again=again)
    there = f" --root {root}" if root else ""
    console.print(f"{dataset} is in {folder}; next: mmcoa data check {dataset}{there}", soft_wrap=True)


def ready_here(record):
    """The verdict on a data set that somebody else put there, complete; None where `get` has work to do."""
    from mmcoa.datasets.place import locate

    with contextlib.suppress(UserError):
        locate(record)
        from mmcoa.datasets.check import check, is_ready, verdict

        findings = check(record)
        whole = all(finding.what != "split" for finding in findings)  # no split is absent
        return verdict(findings) if whole and is_ready(findings) else None


@app.command()
def check(
    dataset: Name,
    root: Root = None,
    full: Annotated[bool, typer.Option("--full", help="decode every picture, not 200 of each split")] = False,
    classnames: Classnames = None,
    templates: Templates = None,
):
    """Whether a data set is complete and as expected; exit code 1 where it is not.

    Example: mmcoa data check cifar10 --root ~/data
    """
    from mmcoa.datasets.place import use_root

    use_root(root)
    record = find(dataset)
    from mmcoa.datasets.check import check as find_out
    from mmcoa.datasets.check import is_ready, verdict

    findings = find_out(record, full=full, classnames=classnames, templates=templates)
    words = {True: "ok", False: "WRONG", None: ""}
    columns = ["", "split", "what", "found", "expected"]
    print_table(columns, [[words[f.ok], f.split, f.what, shown(f.found), shown(f.expected)] for f in findings])
    console.print(verdict(findings), soft_wrap=True)
    if not is_ready(findings):
        raise typer.Exit(1)


@app.command()
def prompts(
    dataset: Name,
    prompts: Annotated[
        str, typer.Option(help="reference: the record's rule, or openclip: the ensemble CLIP was published with")
    ] = "reference",
    template: Annotated[str | None, typer.Option(help="a template of your own with {}")] = None,
    templates: Templates = None,
    classnames: Classnames = None,
    root: Root = None,
):
    """Print a data set's prompts, and which classes share one. Example: mmcoa data prompts cars --prompts openclip"""
    from mmcoa.datasets.own_words import chosen_prompts
    from mmcoa.datasets.place import use_root
    from mmcoa.prompts import duplicate_prompts

    use_root(root)
    record = find(dataset)
    sets, told = chosen_prompts(record, *class_lists(record), prompts, template, classnames, templates)
    names = told.names
    for name, prompt in zip(names, sets[0], strict=True):
        print(f"{name}\t{prompt}")
    count = f"{len(names)} prompts"
    if len(sets) > 1:
        example = "\n".join(f"  {one[0]}" for one in sets)
        count += f" of each of {len(sets)} templates, whose mean embedding stands for a class; above: the first. "
        count += f"Those of '{names[0]}':\n{example}"
    print(count)
    shared = duplicate_prompts(sets[0])
    print(f"{len(shared)} prompts name more than one class{':' if shared else ''}")
    for prompt in shared:
        print(f"  {prompt}\t{', '.join(name for name, one in zip(names, sets[0], strict=True) if one == prompt)}")


@app.command()
def roles(
    model: Annotated[str, typer.Argument(help="name of a pre-trained model, such as lite-clip")],
    base: Annotated[str, typer.Option(help="data set that it is fine-tuned on")] = "",
):
    """What each data set is to a model: met in pre-training, the base of its fine-tuning, or unseen.

    Example: mmcoa data roles lite-clip --base photos/tiny-imagenet
    """
    from mmcoa.datasets.overlaps import overlaps_of
    from mmcoa.datasets.records import records
    from mmcoa.datasets.roles import role

    if base:
        find(base)
    rows = []
    for name in records():
        shared = sum(one.pictures for one in overlaps_of(name) if one.other == base)
        rows.append([name, role(name, model, base), f"{shared:,}" if shared else ""])
    columns = ["data set", "role", *(["test pictures in its train split"] if base else [])]
    print_table(columns, [row[: len(columns)] for row in rows])


@app.command()
def overlaps(
    datasets: Annotated[
        list[str] | None, typer.Argument(help="names of data sets; default: all photos/* that are here")
    ] = None,
    root: Root = None,
    write: Annotated[Path | None, typer.Option(help="CSV for the result")] = None,
):
    """Find equal and near-equal pictures between data sets and between their splits; minutes for some ten thousand.

    Example: mmcoa data overlaps photos/cifar10 photos/cifar100 --root ~/data
    """
    from mmcoa.datasets import overlaps as table
    from mmcoa.datasets.near_duplicates import find_overlaps
    from mmcoa.datasets.place import use_root
    from mmcoa.datasets.records import records

    use_root(root)
    here = [name for name, one in records().items() if name.startswith("photos/") and one.reader != "merged" and is_here(one)]
    chosen = [find(name) for name in datasets or here]
    if not chosen:
        raise UserError("no data set to look at: give names, or --root with the folders of photos/*")
    found = find_overlaps(chosen, progress=lambda line: console.print(line, soft_wrap=True))
    crossing = sum(one.crosses for one in found)
    console.print(f"{len(found)} pairs of splits share pictures, {crossing} of them training and test pictures", soft_wrap=True)
    if write:
        console.print(f"written: {table.write(found, write)}", soft_wrap=True)


def find(dataset):
    """The record of a name; that of a `wds:` folder needs torch, others do not."""
    from mmcoa import datasets

    return datasets.find(dataset)


def class_lists(record):
    """(what the data calls its classes, their names) in label order, from the data where the record does not know them."""
    from mmcoa.datasets.records import class_list

    if known := record.class_names():
        return [code for code, _ in class_list(record.names)] if record.names else known, known
    from mmcoa.datasets import load_source

    if not record.splits:
        raise UserError(f"{record.name} has no split: there is nothing to read")
    source, names = load_source(record, next(iter(record.splits)))
    return source.classes or names, names


def datasets_table(root=None):
    """(columns, rows) of all data sets by name; looks for their folders, reads none of them. Imports no torch."""
    from mmcoa.datasets.records import records

    columns = ["data set", "classes", "    train", "     test", "pixels", "prompt", "evaluated split", "licence", "here"]
    rows = [_row(record, root) for record in records().values()]
    rows.append(["FOLDER, FILE.csv", "", "", "", "", "This is a photo of a {}", "test", "its own", ""])
    rows.append(["wds:FOLDER", "", "", "", "", "the folder's own templates", "test", "its own", ""])
    rows.append(["wds:URL", "", "", "", "", "the same; files are fetched", "test", "its own", ""])
    return columns, rows


def _row(record, root):
    here = "embedded" if record.reader == "openmoji" else "yes" if is_here(record, root) else "no"
    pixels, prompt, licence = record.size or "vary", cut(record.template, 40), cut(record.licence, 16)
    counts = [f"{samples_of(record, split):>9}" for split in ("train", "test")]
    return [record.name, record.classes, *counts, pixels, prompt, evaluated(record), licence, here]


def samples_of(record, split):
    """Samples of a split as text; where a hash of the path divides all of them, their number at the test split."""
    if split not in record.splits:
        return "-"
    count = record.splits[split]
    if count is not None:
        return f"{count:,}"
    return f"of {record.total:,}" if split == "test" and record.total else "rest"


def evaluated(record):
    """The split to evaluate, and what the paper's code evaluates where that is another."""
    if record.reference_split == record.proper_split:
        return record.proper_split
    first = record.reference_split.split()[0]
    return f"{record.proper_split} (paper: {first if first == 'all' or first in record.splits else 'any'})"


def is_here(record, root=None):
    """Whether a data set's folder is there; what is in it only `check` knows."""
    from mmcoa.datasets.place import locate
    from mmcoa.datasets.records import find_record

    if record.reader == "merged":
        return is_here(find_record(record.options["of"]), root)
    try:
        locate(record, root)
    except UserError:
        return False
    return True


def cut(text, length):
    """At most `length` characters, the last of them an ellipsis where something was left out."""
    return text if len(text) <= length else f"{text[: length - 1].rstrip(' ,;(')}…"


def shown(value):
    return f"{value:,}" if isinstance(value, int) else str(value)


@contextlib.contextmanager
def transfer_bar():
    """Yields `advance(name, done, total)` in bytes: a bar on a terminal, a line for each file elsewhere."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    stderr, tasks = Console(stderr=True), {}
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=stderr, transient=True, disable=not stderr.is_terminal) as bars:

        def advance(name, done, total):
            if name not in tasks:
                tasks[name] = bars.add_task(name, total=total)
                if not stderr.is_terminal:
                    size = f" ({total / 1e6:,.1f} MB)" if total else ""
                    print(f"fetching {name}{size}", file=sys.stderr)
            bars.update(tasks[name], completed=done, total=total)

        yield advance
