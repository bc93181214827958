"""The command line: arguments to functions, nothing else. `mmcoa --help`."""

import json
import re
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from mmcoa.errors import UserError, unknown

app = typer.Typer(add_completion=False, no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False, help=__doc__)
console = Console(width=None if sys.stdout.isatty() else 160)  # a pipe has no width: do not fold lines at 80
UsageError = typer.BadParameter.__base__  # typer may bring its own copy of click: take the class from there

Model = Annotated[str, typer.Option(help="openmoji-clip, a checkpoint folder, ARCH/PRETRAINED of open_clip, or hf-hub:OWNER/NAME")]
Data = Annotated[str, typer.Option(help="name of a data set (`mmcoa datasets`) or wds:FOLDER")]
Epsilon = Annotated[str | None, typer.Option(help="radius in pixel units of [0,1], such as 2/255; default: the model's")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda")]
Seed = Annotated[int, typer.Option(help="seed of everything random")]


def print_table(columns, rows):
    """A plain aligned table; numbers to the right."""
    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, justify="right" if rows and isinstance(rows[0][columns.index(column)], int | float) else "left")
    for row in rows:
        table.add_row(*(f"{value:.1f}" if isinstance(value, float) else str(value) for value in row))
    console.print(table)


@app.command()
def models():
    """List the models that load by name. Example: mmcoa models"""
    print_table(
        ["model", "what"],
        [
            ["openmoji-clip", "embedded; 2.3 M parameters, 64 px, trained on OpenMoji by notebooks/pretrain.ipynb"],
            ["DIR", "a checkpoint folder written by `mmcoa train`"],
            ["ARCH/PRETRAINED", "any pair of open_clip, such as ViT-B-32/openai (downloads the weights)"],
            ["hf-hub:OWNER/NAME", "an open_clip model on the Hugging Face hub (downloads the weights)"],
        ],
    )


@app.command()
def datasets():
    """List the data sets. Example: mmcoa datasets"""
    from mmcoa.datasets import records

    rows = [[name, r["classes"], ", ".join(r["splits"]), r.get("note", r["template"]), r["licence"]] for name, r in records().items()]
    rows.append(["wds:FOLDER", "", "its own", "any folder in the clip-benchmark WebDataset layout", "its own"])
    print_table(["data set", "classes", "splits", "prompt / note", "licence"], rows)


@app.command()
def attacks():
    """List the attacks. Example: mmcoa attacks"""
    from mmcoa.attacks.catalog import ATTACKS

    print_table(["attack", "what", "source"], [[a.name, a.summary, a.source] for a in ATTACKS.values()])


@app.command()
def defenses():
    """List the defences. Example: mmcoa defenses"""
    from mmcoa import defenses as package

    print_table(["defence", "what"], [["none", "the pre-trained model"], *([n, package.describe(n)] for n in package.names())])


@app.command()
def evaluate(
    model: Model = "openmoji-clip",
    dataset: Data = "openmoji/birds",
    split: Annotated[str, typer.Option(help="split to evaluate")] = "test",
    samples: Annotated[int | None, typer.Option(help="at most so many samples, balanced over classes")] = None,
    attack: Annotated[list[str] | None, typer.Option(help="repeat for several; see `mmcoa attacks`")] = None,
    epsilon: Epsilon = None,
    steps: Annotated[int, typer.Option(help="steps of the image attack")] = 10,
    restarts: Annotated[int, typer.Option(help="random starts of the image attack; the worst counts")] = 1,
    norm: Annotated[str, typer.Option(help="linf or l2")] = "linf",
    attacked_space: Annotated[str, typer.Option(help="native pixels, or model: after the resize")] = "native",
    candidates: Annotated[str, typer.Option(help="table:eval, table:synonyms, table:train, neighbours or FILE.json")] = "table:eval",
    template: Annotated[str | None, typer.Option(help="prompt template with {}")] = None,
    resize: Annotated[str, typer.Option(help="openclip (anti-aliased) or reference")] = "openclip",
    batch_size: Annotated[int, typer.Option(help="samples attacked at once; no influence on results")] = 64,
    seed: Seed = 0,
    device: Device = "auto",
    output: Annotated[Path | None, typer.Option(help="write the rows here as JSON")] = None,
):
    """Clean and robust accuracy.

    Example: mmcoa evaluate --model openmoji-clip --dataset openmoji/birds --attack clean --attack image --output rows.json
    """
    from mmcoa.attacks.catalog import find

    names = attack or ["clean", "image", "text", "multimodal"]
    for name in names:
        find(name)
    from mmcoa.clip import load_model
    from mmcoa.datasets import load_dataset
    from mmcoa.evaluation import evaluate as run_evaluation
    from mmcoa.runtime import tune_allocator
    from mmcoa.threat import default_threat

    tune_allocator()
    data = load_dataset(dataset, split, samples=samples, seed=seed, template=template)
    loaded = load_model(model, device, resize)
    threat = default_threat(
        loaded, epsilon=epsilon, steps=steps, restarts=restarts, norm=norm, attacked_space=attacked_space,
        candidate_source=candidates, seed=seed,
    )  # fmt: skip
    with progress_bar(f"{data.name} {split}", len(data)) as advance:
        rows = run_evaluation(loaded, data, names, threat, batch_size, progress=lambda done, total: advance(done))
    console.print(f"{loaded.name} on {data.name} ({split}); {threat.describe()}")
    print_rows(rows)
    if output:
        write_json(output, list(rows))


def print_rows(rows):
    """Result rows as a table."""
    columns = ["attack", "accuracy", "95 % Wilson", "correct", "n", "seconds"]
    interval = [f"{row['ci_low']:.1f} to {row['ci_high']:.1f}" for row in rows]
    print_table(columns, [[r["attack"], r["accuracy"], i, r["correct"], r["n"], r["seconds"]] for r, i in zip(rows, interval, strict=True)])


def write_json(path, data):
    """Write JSON under a temporary name, then rename: never a half file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.writing")
    temporary.write_text(json.dumps(data, indent=1))
    temporary.replace(path)


def progress_bar(label, total):
    """Context manager that yields `advance(done)`: a bar with time left on a terminal, nothing elsewhere."""
    from contextlib import contextmanager

    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    @contextmanager
    def bar():
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        stderr = Console(stderr=True)
        with Progress(*columns, console=stderr, transient=True, disable=not stderr.is_terminal) as progress:
            task = progress.add_task(label, total=total)
            yield lambda done: progress.update(task, completed=done)

    return bar()


@app.command()
def train(
    defense: Annotated[str, typer.Option(help="see `mmcoa defenses`")],
    output: Annotated[Path, typer.Option(help="checkpoint folder; an unfinished run in it goes on")],
    model: Model = "openmoji-clip",
    dataset: Data = "openmoji/land-vehicles",
    split: Annotated[str, typer.Option(help="split to train on")] = "train",
    samples: Annotated[int | None, typer.Option(help="at most so many samples, balanced over classes")] = None,
    shots: Annotated[int | None, typer.Option(help="at most so many samples of each class")] = None,
    steps: Annotated[int | None, typer.Option(help="optimiser steps; default: the model's")] = None,
    epochs: Annotated[int | None, typer.Option(help="passes over the samples, instead of --steps")] = None,
    batch_size: Annotated[int | None, typer.Option(help="default: the model's")] = None,
    lr: Annotated[float | None, typer.Option(help="peak learning rate; default: the model's")] = None,
    epsilon: Epsilon = None,
    inner_steps: Annotated[int | None, typer.Option(help="steps of the inner image attack; default: the model's")] = None,
    candidates: Annotated[str, typer.Option(help="candidates of the inner text attack")] = "table:train",
    positives: Annotated[str | None, typer.Option(help="class or index; see mmcoa/defenses/losses.py")] = None,
    lambda_image: Annotated[float | None, typer.Option(help="weight of the adversarial-image term")] = None,
    lambda_text: Annotated[float | None, typer.Option(help="weight of the adversarial-text term")] = None,
    seed: Seed = 0,
    device: Device = "auto",
):
    """Adversarial fine-tuning.

    Example: mmcoa train --defense mmcoa --model openmoji-clip --dataset openmoji/land-vehicles --steps 100 --output runs/mmcoa
    """
    from mmcoa import defenses as package

    package.load(defense)
    if steps is not None and epochs is not None:
        raise UserError("give --steps or --epochs, not both")
    from mmcoa.finetune import fine_tune
    from mmcoa.runtime import tune_allocator

    tune_allocator()

    def report(step, total, row):
        numbers = " ".join(f"{key} {value:.4g}" for key, value in row.items() if key not in ("step", "seconds"))
        left = row["seconds"] / (step + 1) * (total - step - 1)
        console.print(f"step {step + 1}/{total}  {numbers}  {left:.0f} s left", highlight=False, soft_wrap=True)

    folder = fine_tune(
        defense, model, dataset, output, split=split, samples=samples, shots=shots, steps=steps, epochs=epochs,
        batch_size=batch_size, lr=lr, epsilon=epsilon, inner_steps=inner_steps, candidate_source=candidates,
        positives=positives, lambda_image=lambda_image, lambda_text=lambda_text, seed=seed, device=device, progress=report,
    )  # fmt: skip
    console.print(f"checkpoint in {folder}")


@app.command()
def run(
    profile: Annotated[str, typer.Argument(help="name of a shipped profile, or a YAML file")],
    jobs: Annotated[int, typer.Option(help="processes at once")] = 1,
    executor: Annotated[str, typer.Option(help="local or slurm")] = "local",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="print the plan and stop")] = False,
    commands: Annotated[bool, typer.Option("--commands", help="with --dry-run: each cell's papermill command")] = False,
):
    """Run a study, or go on with it: finished cells are skipped. Example: mmcoa run quick"""
    from mmcoa.study.runner import run as run_study

    raise typer.Exit(run_study(profile, jobs=jobs, executor=executor, dry_run=dry_run, commands=commands))


@app.command()
def status(profile: Annotated[str, typer.Argument(help="name of a shipped profile, or a YAML file")]):
    """What is done, running, failed and to do. Example: mmcoa status quick"""
    from mmcoa.study.status import show

    show(profile)


@app.command()
def book(
    profile: Annotated[str, typer.Argument(help="name of a profile whose results exist")],
    summary: Annotated[bool, typer.Option("--summary/--no-summary", help="print the summary table")] = True,
):
    """Build the report of a study. Example: mmcoa book quick"""
    from mmcoa.report.build import build_book
    from mmcoa.report.tables import summary as summary_table

    path = build_book(profile)
    if summary:
        frame = summary_table(profile)
        print_table([str(c) for c in frame.columns], frame.to_numpy().tolist())
    console.print(f"report: {path}", soft_wrap=True)


def main(arguments=None):
    """Entry point: a user's mistake is one line on stderr and exit code 2, Ctrl-C is exit code 130."""
    try:
        code = app(arguments, standalone_mode=False)
    except UsageError as error:
        code = fail(with_nearest(error.format_message()), 2)
    except (UserError, FloatingPointError) as error:  # the latter: a loss that is not finite
        code = fail(str(error), 2)
    except (KeyboardInterrupt, typer.Abort):
        code = fail("interrupted; the same command goes on from here", 130)
    sys.exit(code or 0)


def with_nearest(message):
    """A usage message; the nearest commands are added where it names an unknown one."""
    match = re.match(r"No such command '(.*?)'", message)
    return str(unknown("command", match[1], [command.callback.__name__ for command in app.registered_commands])) if match else message


def fail(message, code):
    print(f"mmcoa: {' '.join(message.split())}", file=sys.stderr)
    return code


if __name__ == "__main__":
    main()
