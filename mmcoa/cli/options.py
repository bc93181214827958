"""Options that several commands have."""

from pathlib import Path
from typing import Annotated

import typer

Model = Annotated[
    str,
    typer.Option(
        help="openmoji-clip, ARCH/PRETRAINED of open_clip, hf-hub:OWNER/NAME, or PATH: a checkpoint folder, or anyone's weights"
    ),
]
Arch = Annotated[
    str | None,
    typer.Option(
        help="of a model by path: ARCH, ARCH/TAG or another model, which also gives a tower that the file lacks; default: by "
        "its configuration or shapes"
    ),
]
Data = Annotated[
    str,
    typer.Option(
        help="name of a data set (`mmcoa datasets`), wds:FOLDER, or PATH: a folder with one sub-folder a class, a .csv of "
        "path,label, or what Hugging Face's datasets saved"
    ),
]
Classnames = Annotated[
    Path | None, typer.Option(help="class names, one a line in label order, or `folder name`; they count as they stand")
]
Templates = Annotated[
    Path | None, typer.Option(help="prompt templates, one a line, as an ensemble; or JSON {class: [prompt, ...]}")
]
Template = Annotated[str | None, typer.Option(help="prompt template with {}")]
Prompts = Annotated[str, typer.Option(help="reference: the paper's rule, or openclip: the ensemble CLIP was published with")]
PictureSize = Annotated[
    str, typer.Option(help="pictures of varying size: reference (256, crop 224), or openclip (the model's own)")
]
SkipUnreadable = Annotated[bool, typer.Option("--skip-unreadable", help="leave damaged pictures out, and count them")]
