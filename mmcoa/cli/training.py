"""`mmcoa train`, `mmcoa interpolate`, `mmcoa export`: commands that write models."""

import json
from pathlib import Path
from typing import Annotated

import typer

from mmcoa.cli.building import built
from mmcoa.cli.options import Arch, Classnames, Data, Model, PictureSize, Prompts, SkipUnreadable, Template, Templates
from mmcoa.console import console
from mmcoa.datasets.place import use_root
from mmcoa.defenses import choose, no_such_setting, record
from mmcoa.errors import UserError
from mmcoa.model.paths import joined
from mmcoa.training.config import COMMON, HELP, KINDS, TrainConfig, parsed

OTHERS = ", ".join(name for name in KINDS if name not in COMMON)
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="NAME=VALUE",
        help=f"repeat for several: a setting of the defence (`mmcoa defenses`), or one of {OTHERS}",
    ),
]


def flag(name):
    """The option of a setting of `TrainConfig`, with its help."""
    default = getattr(TrainConfig, name)
    text = HELP[name] if default is None else f"{HELP[name]}; default: {default}"
    return typer.Option("--candidates" if name == "candidate_source" else f"--{name.replace('_', '-')}", help=text)


def train(
    defense: Annotated[str, typer.Option(help="see `mmcoa defenses`")],
    output: Annotated[Path, typer.Option(help="checkpoint folder; an unfinished run in it goes on")],
    model: Model = "openmoji-clip",
    arch: Arch = None,
    dataset: Data = "openmoji/land-vehicles",
    split: Annotated[str | None, flag("split")] = None,
    samples: Annotated[int | None, flag("samples")] = None,
    shots: Annotated[int | None, flag("shots")] = None,
    held_out: Annotated[int | None, flag("held_out")] = None,
    epsilon: Annotated[str | None, flag("epsilon")] = None,
    inner_steps: Annotated[int | None, flag("inner_steps")] = None,
    candidate_source: Annotated[str | None, flag("candidate_source")] = None,
    steps: Annotated[int | None, flag("steps")] = None,
    epochs: Annotated[int | None, flag("epochs")] = None,
    batch_size: Annotated[int | None, flag("batch_size")] = None,
    lr: Annotated[float | None, flag("lr")] = None,
    trains: Annotated[str | None, flag("trains")] = None,
    precision: Annotated[str | None, flag("precision")] = None,
    seed: Annotated[int | None, flag("seed")] = None,
    settings: Set = None,
    classnames: Classnames = None,
    template: Template = None,
    templates: Templates = None,
    prompts: Prompts = "reference",
    transform: PictureSize = "reference",
    skip_unreadable: SkipUnreadable = False,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda")] = "auto",
    root: Annotated[
        Path | None, typer.Option(help="folder of the data sets; default: $MMCOA_DATA, else the user's cache")
    ] = None,
):
    """Adversarial fine-tuning. Many GPUs: accelerate launch -m mmcoa train ...

    Example: mmcoa train --defense mmcoa --dataset openmoji/land-vehicles --steps 100 --set warmup=5 --output runs/mmcoa
    """
    given = locals()
    if steps is not None and epochs is not None:
        raise UserError("give --steps or --epochs, not both")
    flags = {name: given[name] for name in COMMON if given[name] is not None}
    config, own = read_settings(defense, flags, settings or [])
    from mmcoa.runtime import tune_allocator
    from mmcoa.training.finetune import fine_tune

    tune_allocator()
    use_root(root)

    def report(step, total, row):
        numbers = " ".join(f"{key} {value:.4g}" for key, value in row.items() if key not in ("step", "seconds") and value != "")
        left = row["seconds"] / (step + 1) * (total - step - 1)
        console.print(f"step {step + 1}/{total}  {numbers}  {left:.0f} s left", highlight=False, soft_wrap=True)

    folder = fine_tune(
        choose(defense, own), joined(built(model), arch), dataset, output, config, device=device, progress=report,
        template=template, classnames=classnames, templates=templates, prompts=prompts, transform=transform,
        skip_unreadable=skip_unreadable,
    )  # fmt: skip
    if size := json.loads((folder / "mmcoa.json").read_text()).get("transform"):
        console.print(f"pictures: {size}", soft_wrap=True)
    console.print(f"checkpoint in {folder}", soft_wrap=True)


def read_settings(defense, flags, texts):
    """(`TrainConfig`, the defence's own settings as a dict) from {name: value} of flags and `name=value` texts of --set."""
    known, config, own = record(defense), dict(flags), {}
    for text in texts:
        name, equals, value = text.partition("=")
        name = name.strip().replace("-", "_")
        if not equals:
            raise UserError(f"--set takes NAME=VALUE, got '{text}'")
        if name in config or name in own:
            raise UserError(f"{name} is given twice")
        if name in KINDS:
            config[name] = parsed(name, value)
        elif name in known.settings:
            own[name] = known.kinds[name].parse(name, value)
        else:
            raise no_such_setting(known, name, KINDS)
    return TrainConfig(**config), own


def interpolate(
    model: Annotated[str, typer.Argument(help="checkpoint folder of a fine-tuned model")],
    output: Annotated[Path, typer.Option(help="checkpoint folder to write")],
    alpha: Annotated[float, typer.Option(help="0: the frozen model, 1: the tuned one")],
    base: Annotated[str | None, typer.Option(help="the frozen model; default: the one that the checkpoint names")] = None,
):
    """A model between the frozen and the tuned one.

    Example: mmcoa interpolate runs/tecoa --alpha 0.5 --output runs/tecoa-half
    """
    from mmcoa.model.interpolation import interpolate_checkpoints

    console.print(f"checkpoint in {interpolate_checkpoints(model, output, alpha, base)}", soft_wrap=True)


def export(
    model: Model,
    output: Annotated[Path, typer.Argument(help="folder to write")],
    arch: Arch = None,
):
    """A folder for transformers: CLIPModel.from_pretrained(FOLDER). Example: mmcoa export --model runs/mmcoa runs/mmcoa-hf"""
    from mmcoa.model.export import export as write
    from mmcoa.model.loading import load_model

    console.print(f"transformers model in {write(load_model(model, arch=arch), output)}", soft_wrap=True)


COMMANDS = (train, interpolate, export)
