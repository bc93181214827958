"""`mmcoa candidates`: the words that the text attack may use."""

from pathlib import Path
from typing import Annotated

import typer

from mmcoa.console import console, print_table, shortened

app = typer.Typer(no_args_is_help=True, help="Candidate words of the text attack: build a table, look at one.")
Data = Annotated[str, typer.Option(help="name of a data set (`mmcoa datasets`) or wds:FOLDER")]
Model = Annotated[str, typer.Option(help="model whose token embedding gives `neighbours`")]
Template = Annotated[str | None, typer.Option(help="prompt template with {}")]
Source = Annotated[str, typer.Option(help="table:eval, neighbours, characters, mlm[:MODEL], wordnet[:FOLDER], FILE.json, ...")]


@app.command()
def build(
    output: Annotated[Path, typer.Option(help="table to write: FILE.json, a candidate source of its own")],
    source: Source = "mlm",
    dataset: Data = "openmoji/birds",
    template: Template = None,
    model: Model = "openmoji-clip",
):
    """Write the candidates of a data set's prompts to a file.

    Example: mmcoa candidates build --source characters --output c.json
    """
    from mmcoa.attacks import candidate_files
    from mmcoa.datasets import load_dataset
    from mmcoa.model.loading import load_model

    rows = candidate_files.build(
        source, load_dataset(dataset, samples=1, template=template).prompts, output, lambda: load_model(model)
    )
    count = sum(len(row["candidates"]) for row in rows)
    console.print(f"{count} candidates for {len(rows)} words in {output}; use them with --candidates {output}", soft_wrap=True)


@app.command()
def show(
    source: Source = "table:eval",
    dataset: Data = "openmoji/birds",
    template: Template = None,
    model: Model = "openmoji-clip",
    prompts: Annotated[int, typer.Option(help="so many prompts")] = 10,
):
    """Print candidates of a data set's prompts. Example: mmcoa candidates show --source table:eval --dataset openmoji/birds"""
    from mmcoa.attacks import candidate_files
    from mmcoa.datasets import load_dataset
    from mmcoa.model.loading import load_model

    rows = candidate_files.show(
        source, load_dataset(dataset, samples=1, template=template).prompts[:prompts], lambda: load_model(model)
    )
    columns = ["prompt", "position", "word", "source"]
    print_table([*columns, "candidates"], [[*(row[c] for c in columns), shortened(row["candidates"])] for row in rows])
