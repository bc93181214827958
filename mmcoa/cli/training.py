"""`mmcoa train`, `mmcoa interpolate`, `mmcoa export`: commands that write models."""

from pathlib import Path
from typing import Annotated

import typer

from mmcoa.console import console
from mmcoa.datasets.place import use_root
from mmcoa.errors import UserError

Model = Annotated[
    str, typer.Option(help="openmoji-clip, a checkpoint folder, ARCH/PRETRAINED of open_clip, or hf-hub:OWNER/NAME")
]
Data = Annotated[str, typer.Option(help="name of a data set (`mmcoa datasets`) or wds:FOLDER")]


def train(
    defense: Annotated[str, typer.Option(help="see `mmcoa defenses`")],
    output: Annotated[Path, typer.Option(help="checkpoint folder; an unfinished run in it goes on")],
    model: Model = "openmoji-clip",
    dataset: Data = "openmoji/land-vehicles",
    split: Annotated[str, typer.Option(help="split to train on")] = "train",
    samples: Annotated[int | None, typer.Option(help="at most so many samples, balanced over classes")] = None,
    shots: Annotated[int | None, typer.Option(help="so many samples of each class")] = None,
    steps: Annotated[int | None, typer.Option(help="optimiser steps; default: the model's")] = None,
    epochs: Annotated[int | None, typer.Option(help="passes over the samples, instead of --steps")] = None,
    batch_size: Annotated[int | None, typer.Option(help="of all processes together; default: the model's")] = None,
    lr: Annotated[float | None, typer.Option(help="peak learning rate; default: the model's")] = None,
    warmup: Annotated[int | None, typer.Option(help="steps until the peak; default: the model's")] = None,
    weight_decay: Annotated[float | None, typer.Option(help="of matrices; default 0.2")] = None,
    epsilon: Annotated[str | None, typer.Option(help="of the inner image attack, such as 2/255; default: the model's")] = None,
    inner_steps: Annotated[int | None, typer.Option(help="steps of the inner image attack; default: the model's")] = None,
    candidates: Annotated[str, typer.Option(help="candidates of the inner text attack")] = "table:train",
    positives: Annotated[str | None, typer.Option(help="class or index; see mmcoa/defenses/_losses.py")] = None,
    lambda_image: Annotated[float | None, typer.Option(help="weight of the adversarial-image term")] = None,
    lambda_text: Annotated[float | None, typer.Option(help="weight of the adversarial-text term")] = None,
    trains: Annotated[str | None, typer.Option(help="towers: image, text or both; default: the defence's own")] = None,
    last_blocks: Annotated[int | None, typer.Option(help="train only the last blocks of each tower")] = None,
    lora_rank: Annotated[int | None, typer.Option(help="train low-rank changes of this rank instead of the matrices")] = None,
    precision: Annotated[str | None, typer.Option(help="fp32 or bf16")] = None,
    accumulate: Annotated[int | None, typer.Option(help="parts of a batch that go through the model one after another")] = None,
    gradient_checkpointing: Annotated[bool, typer.Option(help="compute activations again: less memory, more time")] = False,
    held_out: Annotated[int, typer.Option(help="samples that are not trained on and choose the best state; 0: none")] = 64,
    evaluate_every: Annotated[int | None, typer.Option(help="steps between looks at them; default 50")] = None,
    checkpoint_every: Annotated[int | None, typer.Option(help="steps between checkpoints; default 50")] = None,
    seed: Annotated[int, typer.Option(help="seed of everything random")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda")] = "auto",
    root: Annotated[
        Path | None, typer.Option(help="folder of the data sets; default: $MMCOA_DATA, else the user's cache")
    ] = None,
):
    """Adversarial fine-tuning. Many GPUs: accelerate launch -m mmcoa train ...

    Example: mmcoa train --defense mmcoa --model openmoji-clip --dataset openmoji/land-vehicles --steps 100 --output runs/mmcoa
    """
    from mmcoa import defenses as package

    package.load(defense)
    if steps is not None and epochs is not None:
        raise UserError("give --steps or --epochs, not both")
    from mmcoa.runtime import tune_allocator
    from mmcoa.training.finetune import fine_tune

    tune_allocator()
    use_root(root)

    def report(step, total, row):
        numbers = " ".join(f"{key} {value:.4g}" for key, value in row.items() if key not in ("step", "seconds") and value != "")
        left = row["seconds"] / (step + 1) * (total - step - 1)
        console.print(f"step {step + 1}/{total}  {numbers}  {left:.0f} s left", highlight=False, soft_wrap=True)

    folder = fine_tune(
        defense, model, dataset, output, split=split, samples=samples, shots=shots, steps=steps, epochs=epochs,
        batch_size=batch_size, lr=lr, warmup=warmup, weight_decay=weight_decay, epsilon=epsilon, inner_steps=inner_steps,
        candidate_source=candidates, positives=positives, lambda_image=lambda_image, lambda_text=lambda_text, trains=trains,
        last_blocks=last_blocks, lora_rank=lora_rank, precision=precision, accumulate=accumulate,
        gradient_checkpointing=gradient_checkpointing, held_out=held_out, evaluate_every=evaluate_every,
        checkpoint_every=checkpoint_every, seed=seed, device=device, progress=report,
    )  # fmt: skip
    console.print(f"checkpoint in {folder}", soft_wrap=True)


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
):
    """A folder for transformers: CLIPModel.from_pretrained(FOLDER). Example: mmcoa export --model runs/mmcoa runs/mmcoa-hf"""
    from mmcoa.model.export import export as write
    from mmcoa.model.loading import load_model

    console.print(f"transformers model in {write(load_model(model), output)}", soft_wrap=True)


COMMANDS = (train, interpolate, export)
