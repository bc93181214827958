"""`mmcoa control`, `run`, `status`, `results`, `pack`, `verify`, `gallery`, `book`, `claims`: commands about whole studies."""

from pathlib import Path
from typing import Annotated

import typer

from mmcoa.cli.training import read_settings
from mmcoa.console import console, print_table
from mmcoa.errors import unknown
from mmcoa.training.config import KINDS

OTHERS = ", ".join(name for name in KINDS if name not in ("steps", "lr", "epsilon", "seed"))  # than the flags of `control`
Device = Annotated[str, typer.Option(help="auto, cpu or cuda")]


def control(
    model: Annotated[str, typer.Argument(help="name of a model (`mmcoa models`), or a checkpoint folder")],
    base: Annotated[str, typer.Option(help="data set that TeCoA is fine-tuned on")],
    dataset: Annotated[
        list[str] | None, typer.Option(help="to judge on; repeat for several; default: the base's family, what is unseen of it")
    ] = None,
    samples: Annotated[int, typer.Option(help="test pictures of each data set")] = 200,
    steps: Annotated[int | None, typer.Option(help="of the training; default: the model's")] = None,
    lr: Annotated[float | None, typer.Option(help="learning rate; default: the model's")] = None,
    epsilon: Annotated[str | None, typer.Option(help="radius of training and judging; default: the model's")] = None,
    seed: Annotated[int, typer.Option(help="seed of everything random")] = 0,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help=f"repeat for several: any other setting of the training: {OTHERS}"),
    ] = None,
    output: Annotated[Path | None, typer.Option(help="checkpoint folder of TeCoA; a killed run goes on")] = None,
    device: Device = "auto",
    root: Annotated[
        Path | None, typer.Option(help="folder of the data sets; default: $MMCOA_DATA, else the user's cache")
    ] = None,
):
    """Does a model on a base set show the known effect, TeCoA's gain? Print it, and whether it passes.

    Example: mmcoa control openmoji-clip --base openmoji/others --epsilon 4/255 --steps 300 --set batch_size=32
    """
    given = {name: value for name, value in dict(steps=steps, lr=lr, epsilon=epsilon, seed=seed).items() if value is not None}
    config, _ = read_settings("tecoa", given, settings or [])  # it has none of its own
    from mmcoa.cli.building import built
    from mmcoa.control import control as run_control
    from mmcoa.datasets.place import use_root

    use_root(root)
    said = [*(f"{name}{value}" for name, value in given.items()), *(text.replace("=", "") for text in settings or [])]
    parts = (Path(model).name, base.replace("/", "-"), *said)
    folder = output or Path("runs/control") / "-".join(parts).replace("/", "-")

    def say(label, name, accuracies):
        figures = ", ".join(f"{attack} {value:.1f}" for attack, value in accuracies.items())
        console.print(f"{label} on {name}: {figures}", highlight=False, soft_wrap=True)

    def training(step, total, row):
        console.print(f"TeCoA, step {step + 1}/{total}: loss {row['loss']:.4g}", highlight=False)

    table, verdicts = run_control(built(model), base, folder, dataset, samples, config, device, say, training)
    columns = ["data set", "role", "classes", "n", "clean", "image", "clean, TeCoA", "image, TeCoA"]
    print_table(
        columns, [[f"{v:.1f}" if isinstance(v, float) else str(v) for v in row] for row in table.itertuples(index=False)]
    )
    for verdict in verdicts:
        console.print(str(verdict), highlight=False, soft_wrap=True)


def run(
    profile: Annotated[str, typer.Argument(help="name of a shipped profile, or a YAML file")],
    jobs: Annotated[int | None, typer.Option(help="processes at once; default: 1, on Slurm what --cluster says")] = None,
    executor: Annotated[str, typer.Option(help="local or slurm")] = "local",
    cluster: Annotated[
        Path | None, typer.Option(help="with --executor slurm: a cluster's settings, as in mmcoa/study/cluster/slurm.yaml")
    ] = None,
    per_gpu: Annotated[int, typer.Option(help="processes that share a GPU: small models leave most of a large one idle")] = 1,
    only: Annotated[
        str | None, typer.Option(help="one process or cell alone, as a failure names it, and what it needs")
    ] = None,
    report: Annotated[bool, typer.Option("--report", help="build the study's report when all its cells are done")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="print the plan and stop")] = False,
    commands: Annotated[bool, typer.Option("--commands", help="with --dry-run: each cell's papermill command")] = False,
):
    """Run a study, or go on with it: finished cells are skipped. Example: mmcoa run quick"""
    from mmcoa.study.runner import run as run_study

    options = dict(
        jobs=jobs,
        executor=executor,
        cluster=cluster,
        only=only,
        report=report,
        per_gpu=per_gpu,
        dry_run=dry_run,
        commands=commands,
    )
    raise typer.Exit(run_study(profile, **options))


def status(
    profile: Annotated[str, typer.Argument(help="name of a shipped profile, or a YAML file")],
    once: Annotated[bool, typer.Option("--once", help="on a terminal: print it once, no live view")] = False,
):
    """What is done, running, failed and to do, hours spent, time left; live on a terminal. Example: mmcoa status quick"""
    from mmcoa.study.status import show

    show(profile, once=once)


def results(
    profile: Annotated[str, typer.Argument(help="name of a shipped profile, or a YAML file")],
    where: Annotated[
        list[str] | None, typer.Option(help="COLUMN=VALUE; repeat for several, values of one column are alternatives")
    ] = None,
    columns: Annotated[str | None, typer.Option(help="columns to print, with commas; default: the usual ones")] = None,
):
    """Result rows of a study. Example: mmcoa results openmoji --where attack=image --where dataset=openmoji/birds"""
    from mmcoa.study.pack import SHOWN, rows, shown

    frame = rows(profile, where or ())
    names = tuple(columns.split(",")) if columns else SHOWN
    for name in names:
        if name not in frame.columns:
            raise unknown("column", name, list(frame.columns))
    print_table(*shown(frame, names))
    console.print(f"{len(frame)} rows; accuracy in percent, 95 % Wilson intervals over samples")


def verify(
    profile: Annotated[str, typer.Argument(help="name of a shipped profile, or a YAML file")],
    cells: Annotated[int, typer.Option(help="finished cells to run again, chosen at random")] = 3,
    seed: Annotated[int | None, typer.Option(help="of the choice; default: another one each time")] = None,
    device: Device = "auto",
):
    """Run some finished cells again and compare with what is stored. Example: mmcoa verify quick --cells 3"""
    from mmcoa.runtime import tune_allocator
    from mmcoa.study.pack import verify as run_again

    tune_allocator()
    rows = run_again(profile, cells, seed, device, echo=console.print)
    columns = ["cell", "attack", "n", "stored", "again", "moved", "place", "verdict"]
    print_table(columns, [[*(row[key] for key in columns[:-1]), "ok" if row["passed"] else "DIFFERS"] for row in rows])
    console.print(
        "stored, again: samples right; moved: samples whose outcome changed; place: same hardware and versions as the "
        "record, or other"
    )
    if not all(row["passed"] for row in rows):
        raise typer.Exit(1)


def pack(profile: Annotated[str, typer.Argument(help="name of a shipped profile, or a YAML file")]):
    """Write a study's tables from its records, as the end of a run does. Example: mmcoa pack quick"""
    from mmcoa.study.pack import pack as pack_study
    from mmcoa.study.profiles import load_profile

    changed, missing = pack_study(profile)
    lacks = f"; {missing} cells have no current result: mmcoa run {profile}" if missing else ""
    console.print(f"{len(changed)} files of results/{load_profile(profile).name} changed{lacks}", soft_wrap=True)


def gallery(
    profile: Annotated[str, typer.Argument(help="name of a shipped profile, or a YAML file")],
    models: Annotated[
        list[str] | None,
        typer.Option(
            help="a model of the study, such as mmcoa-seed0, beside the undefended one; repeat for several; default: "
            "tecoa, image_only and mmcoa, seed 0"
        ),
    ] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu or cuda; default: the profile's")] = None,
):
    """Attack single pictures of a study and keep what there is to see, for the page "Gallery".

    Example: mmcoa gallery openmoji
    """
    from mmcoa.gallery.command import gallery as make_gallery

    make_gallery(profile, models or (), device, echo=lambda line: console.print(line, soft_wrap=True))


def book(
    study: Annotated[str, typer.Argument(help="name of a study whose results exist")] = "main",
    summary: Annotated[bool, typer.Option("--summary/--no-summary", help="print the summary table")] = True,
    pdf: Annotated[bool, typer.Option("--pdf", help="print it as one PDF too; needs Chromium or Chrome")] = False,
):
    """Build the report of a study, what has changed alone. Example: mmcoa book quick"""
    from mmcoa.report.build import build_book, name_of
    from mmcoa.report.pdf import find_browser
    from mmcoa.report.publish import add_pdf
    from mmcoa.report.tables import summary as summary_table

    if pdf:
        find_browser()  # what is missing is said before anything is built
    path = build_book(study)
    printed = add_pdf(path.parent, path.parents[2]) if pdf else None
    if summary:
        frame = summary_table(name_of(study))
        print_table([str(c) for c in frame.columns], frame.to_numpy().tolist())
    console.print(f"report: {path}", soft_wrap=True)
    if printed:
        console.print(f"PDF: {printed}", soft_wrap=True)


def claims(study: Annotated[str, typer.Argument(help="name of a study whose results exist")]):
    """The paper's claims C1 to C5, judged on a study's results. Example: mmcoa claims openmoji"""
    from mmcoa.report import results
    from mmcoa.report.claims import CLAIMS, beds, controls, parts, verdicts

    found = beds(results.load(study))
    for shown, _ in (controls(found), verdicts(found), *(parts(found, key) for key in CLAIMS)):
        print_table(list(shown.columns), shown.to_numpy().tolist())
        console.print()
    for line in (
        "effects: points of macro accuracy, positive as claimed, with half of their 95 % interval (not of training seeds)",
        "p: adjusted over the parts of a bed (Holm); accuracy: in brackets among the pictures that are right without attack",
    ):
        console.print(line)


COMMANDS = (control, run, status, results, pack, verify, gallery, book, claims)
