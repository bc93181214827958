"""The command line: arguments to functions, nothing else. `mmcoa --help`."""

import re
import sys
from pathlib import Path
from typing import Annotated

import typer

from mmcoa.cli import candidates as cli_candidates
from mmcoa.cli import data as cli_data
from mmcoa.cli import study as cli_study
from mmcoa.cli import training as cli_training
from mmcoa.cli.building import built
from mmcoa.cli.options import Arch, Classnames, Data, Model, PictureSize, Prompts, SkipUnreadable, Template, Templates
from mmcoa.console import console, fail, print_rows, print_table, progress_bar
from mmcoa.errors import UserError, storage_problem, unknown
from mmcoa.store.files import write_json

HELP = "Attack, defend and evaluate CLIP through its images, its prompts or both; run studies and build their reports."
app = typer.Typer(add_completion=False, no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False, help=HELP)
app.add_typer(cli_candidates.app, name="candidates")
app.add_typer(cli_data.app, name="data")
UsageError = typer.BadParameter.__base__  # typer may bring its own copy of click: take the class from there

Root = Annotated[Path | None, typer.Option(help="folder of the data sets; default: $MMCOA_DATA, else the user's cache")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda")]
Seed = Annotated[int, typer.Option(help="seed of everything random")]


@app.command()
def models():
    """List the models that load by name. Example: mmcoa models"""
    from mmcoa.model.embedded import embedded_names, summary

    print_table(
        ["model", "what"],
        [
            *([name, f"embedded; {summary(name)}"] for name in embedded_names()),
            ["lite-clip", "ImageNet's EfficientNet-Lite0 and MiniLM, 128 px; built once into the cache (extra `lite`)"],
            ["DIR", "a checkpoint folder written by `mmcoa train`"],
            [
                "PATH [--arch ARCH]",
                "anyone's weights: open_clip, OpenAI, transformers, FARE, TeCoA; .pt, .safetensors, a folder",
            ],
            ["ARCH/PRETRAINED", "any pair of open_clip, such as ViT-B-32/openai (downloads the weights)"],
            ["hf-hub:OWNER/NAME", "an open_clip model on the Hugging Face hub (downloads the weights)"],
        ],
    )


@app.command()
def datasets():
    """List the data sets. Example: mmcoa datasets"""
    from mmcoa.cli.data import datasets_table

    print_table(*datasets_table())


@app.command()
def attacks():
    """List the attacks, and the levels of the threat to prompts. Example: mmcoa attacks"""
    from mmcoa.attacks.catalog import ATTACKS
    from mmcoa.threat import TEXT_THREATS

    columns = ["attack", "what", "the adversary knows", "source"]
    print_table(columns, [[a.name, a.summary, a.knows, a.source] for a in ATTACKS.values()])
    console.print()
    print_table(["text threat", "words that the attacks on prompts may put in"], list(TEXT_THREATS.items()))


@app.command()
def defenses():
    """List the defences. Example: mmcoa defenses"""
    from mmcoa import defenses as package

    records = [package.record(name) for name in package.names()]
    rows = [[one.name, one.summary, ", ".join(f"{key}={value}" for key, value in one.settings.items())] for one in records]
    print_table(["defence", "what", "settings of its own"], [["none", "the pre-trained model", ""], *rows])


@app.command(name="defenses-at-test")
def defenses_at_test():
    """List the defences at test time. Example: mmcoa defenses-at-test"""
    from mmcoa.defenses import at_test

    records = [at_test.record(name) for name in at_test.names()]
    rows = [[r.name, r.summary, ", ".join(f"{key}={value}" for key, value in r.settings.items()), r.source] for r in records]
    print_table(["defence", "what", "settings of its own", "source"], rows)


@app.command()
def evaluate(
    model: Model = "openmoji-clip",
    arch: Arch = None,
    dataset: Data = "openmoji/birds",
    split: Annotated[str, typer.Option(help="split to evaluate")] = "test",
    samples: Annotated[int | None, typer.Option(help="at most so many samples, balanced over classes")] = None,
    attack: Annotated[list[str] | None, typer.Option(help="repeat for several; see `mmcoa attacks`")] = None,
    epsilon: Annotated[
        list[str] | None,
        typer.Option(help="radius in pixel units of [0,1], such as 2/255; repeat for several; default: the model's"),
    ] = None,
    steps: Annotated[int, typer.Option(help="steps of PGD, CW and the feature attacks")] = 10,
    restarts: Annotated[int, typer.Option(help="random starts of the image attack; the worst counts")] = 1,
    norm: Annotated[str, typer.Option(help="linf or l2")] = "linf",
    preset: Annotated[str, typer.Option(help="protocol, or reference: step = epsilon, last iterate")] = "protocol",
    targets: Annotated[int, typer.Option(help="aim at each of so many likeliest wrong classes; 0: away from the label")] = 0,
    target: Annotated[
        str | None,
        typer.Option(metavar="CLASS", help="PGD, CW, APGD and what uses them lead every picture to this class"),
    ] = None,
    apgd_steps: Annotated[int, typer.Option(help="steps of APGD, also inside auto")] = 50,
    queries: Annotated[int, typer.Option(help="queries of the Square attack, also inside auto")] = 1000,
    attacked_space: Annotated[str, typer.Option(help="native pixels, or model: after the resize")] = "native",
    text_threat: Annotated[
        str, typer.Option(help="any candidate, synonym: synonyms alone, or meaning: changed prompts of similar meaning")
    ] = "any",
    words: Annotated[
        str, typer.Option(help="half of the package's table: unseen by defences, or seen: table:train, as they train with")
    ] = "unseen",
    candidates: Annotated[
        str,
        typer.Option(
            help="table:eval, table:synonyms, table:train, neighbours, characters[:nonword], mlm[:NAME], wordnet[:DIR], .json"
        ),
    ] = "table:eval",
    text_budget: Annotated[int, typer.Option(help="words that the text attack may change in each prompt")] = 1,
    beam: Annotated[int, typer.Option(help="prompts that its beam search keeps, for more than one word")] = 10,
    attackable: Annotated[
        str, typer.Option(help="content: all content words, or class_name: those of the class name alone")
    ] = "content",
    text_score: Annotated[
        str, typer.Option(help="embedding: cosine distance, or margin: labelled pictures of the train split")
    ] = "embedding",
    min_similarity: Annotated[
        float | None, typer.Option(help="least cosine of clean and changed prompt; default: 0.8 for meaning, else none")
    ] = None,
    similarity_encoder: Annotated[
        str | None,
        typer.Option(help="minilm, or own: the model's frozen text tower; default: for meaning minilm if installed, else own"),
    ] = None,
    template: Template = None,
    templates: Templates = None,
    classnames: Classnames = None,
    prompts: Prompts = "reference",
    transform: PictureSize = "reference",
    root: Root = None,
    skip_unreadable: SkipUnreadable = False,
    strict: Annotated[bool, typer.Option("--strict", help="classes that share a prompt are an error")] = False,
    resize: Annotated[str, typer.Option(help="openclip (anti-aliased) or reference")] = "openclip",
    precision: Annotated[
        str,
        typer.Option(
            help="of the search: fp32, bf16 (verified in fp32), or auto: the faster one for this tower, measured once"
        ),
    ] = "auto",
    batch_size: Annotated[
        int | None, typer.Option(help="samples attacked at once; no influence on results; default: 64, on a GPU 256")
    ] = None,
    check_samples: Annotated[int, typer.Option(help="samples for the self-checks, at most 200; 0: no self-checks")] = 200,
    seed: Seed = 0,
    device: Device = "auto",
    defense_at_test: Annotated[str | None, typer.Option(help="stands before the model; see `mmcoa defenses-at-test`")] = None,
    set_at_test: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="repeat for several: a setting of the test-time defence")
    ] = None,
    adversary: Annotated[
        str | None,
        typer.Option(
            help="of the test-time defence: worst (of the next two; the default), adaptive: knows it, transfer: attacks the "
            "model without it, published: transfer, and pictures rounded to 8 bits"
        ),
    ] = None,
    draws: Annotated[int | None, typer.Option(help="of its randomness, averaged by the adversary; default: its own")] = None,
    craft_on: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help="make pictures and prompts on this model; they are judged on the one of --model"),
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="rows as JSON, with per-sample outcomes beside it; a killed run goes on")
    ] = None,
    save: Annotated[
        Path | None, typer.Option(help="folder for the pictures as they were judged, lossless, with labels and prompts")
    ] = None,
    shard: Annotated[
        str | None,
        typer.Option(metavar="I/N", help="evaluate part I of N (from 1 to N), into a file beside --output; see `mmcoa merge`"),
    ] = None,
):
    """Clean and robust accuracy.

    Example: mmcoa evaluate --model openmoji-clip --dataset openmoji/birds --attack clean --attack image --output rows.json
    """
    from mmcoa.attacks.catalog import find

    names = attack or ["clean", "image", "text", "multimodal"]
    for name in names:
        find(name)
    from mmcoa.cli.at_test import check_flags, chosen

    check_flags(defense_at_test, set_at_test, adversary, draws)
    from mmcoa.evaluation import shards

    part = shards.parse(shard) if shard else None
    if part and not output:
        raise UserError("--shard needs --output: its part is written beside it, for `mmcoa merge`")
    from mmcoa.datasets import attacker_dataset, check_split, load_dataset
    from mmcoa.datasets import find as find_dataset
    from mmcoa.datasets.place import use_root
    from mmcoa.evaluation.loop import evaluate as run_evaluation
    from mmcoa.model.loading import load_model
    from mmcoa.runtime import tune_allocator
    from mmcoa.threat import default_threat
    from mmcoa.threat import preset as with_preset

    tune_allocator()
    use_root(root)
    check_split(find_dataset(dataset), split)
    precision = "fp32" if precision == "auto" and defense_at_test else precision  # gradients through a defence need fp32
    loaded = load_model(built(model), device, resize, precision, arch=arch)
    if loaded.precision_note:
        console.print(f"precision {loaded.precision}: {loaded.precision_note}")
    craft = load_model(built(craft_on), device, resize, precision) if craft_on else None
    reading = dict(template=template, prompts=prompts, transform=transform, **loaded.picture_input)
    reading |= dict(skip_unreadable=skip_unreadable, classnames=classnames, templates=templates)
    data = load_dataset(dataset, split, samples=samples, seed=seed, stream=True, strict=strict, **reading)
    settings = dict(
        steps=steps, restarts=restarts, norm=norm, targets=targets, target=target, apgd_steps=apgd_steps,
        queries=queries, attacked_space=attacked_space, text_threat=text_threat, words=words, candidate_source=candidates,
        text_budget=text_budget, beam=beam, attackable=attackable, text_score=text_score, min_similarity=min_similarity,
        similarity_encoder=similarity_encoder, seed=seed,
    )  # fmt: skip
    threats = [
        with_preset(default_threat(loaded, epsilon=value, **settings), preset) for value in dict.fromkeys(epsilon or [None])
    ]
    attacker = attacker_dataset(dataset, threats[0], **reading) if split != "train" else None
    check = data.prefix(min(check_samples, 200)) if check_samples > 0 else None
    written = part.beside(output) if part else output
    resume = written.with_name(f".{written.name}.unfinished") if written else None
    save = save / str(part).replace("/", "-of-") if save and part else save
    with progress_bar(f"{data.name} {split}", len(part.of(data) if part else data) * len(threats)) as advance:
        rows = run_evaluation(
            loaded, data, names, threats, batch_size, progress=lambda done, total: advance(done), attacker=attacker,
            resume=resume, check=check, defense=chosen(defense_at_test, set_at_test, adversary, draws), save=save,
            craft=craft, shard=part,
        )  # fmt: skip
    made_on = f"; made on {craft.name}" if craft else ""
    console.print(f"{loaded.name} on {data.name} ({split}); {threats[0].describe()}{made_on}; pictures: {data.transform}")
    if data.skipped:
        console.print(f"note: {data.skipped} unreadable pictures left out of n")
    print_evaluation(rows)
    for note in rows.notes:
        console.print(f"note: {note}")
    if part:
        rows.part.write(written)
        console.print(f"shard {part} in {written}; when all are there: mmcoa merge {output}", soft_wrap=True)
    elif output:
        write_evaluation(output, rows, rows.outcomes)
    if save:
        console.print(f"attacked pictures in {save}", soft_wrap=True)


def print_evaluation(rows):
    """The rows as a table, and of attacks on prompts how many can be changed."""
    print_rows(rows)
    for row in rows:
        if row["share_changeable"] is not None:
            console.print(
                f"{row['attack']}: {row['share_changeable']:.1f} % of the prompts can be changed ({row['threat_text']})"
            )
        if row.get("target_rate") is not None:
            console.print(
                f"{row['attack']}: {row['target_rate']:.1f} % of the pictures of other classes end as '{row['target']}'"
                + (f", {row['target_rate_clean']:.1f} % without an attack" if row["target_rate_clean"] is not None else "")
            )


def write_evaluation(output, rows, outcomes):
    """The two files of an evaluation."""
    write_json(output, list(rows), indent=1)
    outcomes.to_parquet(output.with_suffix(".parquet"), index=False)
    console.print(f"rows in {output}, per-sample outcomes in {output.with_suffix('.parquet')}", soft_wrap=True)


@app.command()
def merge(
    output: Annotated[Path, typer.Argument(help="the --output of the evaluation, where the whole is written")],
    parts: Annotated[list[Path] | None, typer.Argument(help="its parts (.json); default: those beside OUTPUT")] = None,
):
    """Join the shards of an evaluation (`mmcoa evaluate --shard I/N`) to what one run gives.

    Example: mmcoa merge rows.json
    """
    from mmcoa.evaluation import shards

    paths = list(parts or shards.parts_beside(output))
    rows, outcomes = shards.merge({str(path): shards.read_part(path) for path in paths})
    print_evaluation(rows)
    write_evaluation(output, rows, outcomes)


@app.command()
def compare(
    first: Annotated[Path, typer.Argument(help="per-sample outcomes (.parquet) that `mmcoa evaluate --output` wrote")],
    second: Annotated[Path, typer.Argument(help="the same of another model, on the same samples")],
):
    """Two models on the same samples, attack by attack (McNemar's exact test).

    Example: mmcoa compare clip.parquet mmcoa.parquet
    """
    from mmcoa.evaluation.outcomes import paired, read_outcomes

    rows = paired(read_outcomes(first), read_outcomes(second))
    columns = ["attack", "epsilon", "both right", "only first", "only second", "neither", "first - second", "p"]
    keys = ["attack", "epsilon", "both", "only_a", "only_b", "neither", "difference", "p"]
    print_table(columns, [[f"{row[key]:.2g}" if key == "p" else row[key] for key in keys] for row in rows])
    console.print("difference in points; p: McNemar, exact, samples taken as independent (the text attack moves whole classes)")


@app.command()
def bench(
    only: Annotated[
        str | None,
        typer.Option(
            help="image, precision, text, training, step, epoch, lite, evaluation, memory, reading or gpu; default: all"
        ),
    ] = None,
    output: Annotated[Path, typer.Option(help="folder of the table")] = Path("results/speed"),
    device: Device = "auto",
):
    """Measure speed, side by side with code written as public code is.

    Example: mmcoa bench --only text
    """
    import subprocess

    script = Path("benchmarks/speed.py")
    if not script.is_file():
        raise UserError(f"no {script} here ({Path.cwd()}); run this in the project's folder")
    command = [sys.executable, str(script), "--output", str(output), "--device", device, *(["--only", only] if only else [])]
    raise typer.Exit(subprocess.run(command).returncode)


for command in (*cli_training.COMMANDS, *cli_study.COMMANDS):
    app.command()(command)


def main(arguments=None):
    """Entry point: a user's mistake is one line on stderr and exit code 2, Ctrl-C is exit code 130."""
    try:
        code = app(arguments, standalone_mode=False)
    except UsageError as error:
        code = fail(with_nearest(error.format_message()), 2)
    except (UserError, FloatingPointError) as error:  # the latter: a loss that is not finite
        code = fail(str(error), 2)
    except OSError as error:
        if (text := storage_problem(error)) is None:
            raise
        code = fail(text, 2)
    except (KeyboardInterrupt, typer.Abort):
        code = fail("interrupted; the same command goes on from here", 130)
    sys.exit(code or 0)


def with_nearest(message):
    """A usage message; the nearest commands are added where it names an unknown one."""
    match = re.match(r"No such command '(.*?)'", message)
    return (
        str(unknown("command", match[1], [command.callback.__name__ for command in app.registered_commands]))
        if match
        else message
    )


if __name__ == "__main__":
    main()
