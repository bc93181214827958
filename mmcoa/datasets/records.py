"""Records: what each named data set is, as data (records/*.yaml), checked when read. Imports neither torch nor torchvision."""

import functools
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field

from mmcoa.errors import UserError, unknown

FOLDER = files("mmcoa.datasets")


class Strict(BaseModel):
    """Unknown keys are errors; values do not change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class PromptRule(Strict):
    """How a class name becomes a prompt: `rewrite` (pairs: pattern, replacement), the reference's cleaning, then `template`.

    lower: whether letters become small; keep: which of `_-/` do not become spaces.
    """

    template: str
    lower: bool = True
    keep: str = ""
    rewrite: list[tuple[str, str]] = []


class Ensemble(Strict):
    """The preset `openclip`: templates/NAME.txt, and class names of its own (classes/NAME.txt) where it has some."""

    templates: str
    names: str | None = None

    def template_lines(self) -> list[str]:
        """Its templates, with a place for the name at `{}` or `{c}`."""
        return list(template_list(self.templates))

    def class_names(self) -> list[str] | None:
        """Its own class names in label order; None where it has none."""
        return [name for _, name in class_list(self.names)] if self.names else None


class Archive(Strict):
    """A file that holds the data; `into`: where under the root it goes; `inner`: an archive in it, unpacked there too."""

    url: str
    md5: str | None = None
    sha256: str | None = None
    bytes: int | None = None
    unpack: bool = True
    into: str = ""
    inner: str = ""


class Download(Strict):
    files: list[Archive]


class Record(Strict):
    """One data set.

    reader: module of mmcoa.datasets that reads its layout, with `options`; hub: its copy in clip-benchmark's WebDataset layout.
    splits: samples of each split; None where the official data has no such split: then a picture's path decides (splits.py),
        and `total` counts all of them.
    names: classes/NAME.txt, lines `name` or `id<TAB>name` in label order; None: the reader knows them.
    size: side of the pictures in pixels, where all have one; None: it varies, and a transform preset decides.
    sample: hash over the first pictures of a split (pictures.py), where it was measured: other data of this name are an error.
    reference_split: what the paper's public code evaluates; proper_split: what should be.
    roles: {model: what its pre-training met of this data set} for the models that the package knows (roles.py); none: nothing.
    """

    name: str
    title: str
    reader: str
    options: dict = {}
    splits: dict[str, int | None]
    total: int | None = None
    classes: int
    names: str | None = None
    size: int | None = None
    views: int | None = None
    prompt: PromptRule
    openclip: Ensemble | None = None
    reference_split: str = "test"
    proper_split: str = "test"
    paper: bool = False
    licence: str
    citation: str = ""
    source: str
    sample: dict[str, str] = {}
    disk: Annotated[float, Field(ge=0)] | None = None
    download: Download | None = None
    manual: str = ""
    hub: str | None = None
    roles: dict[str, Literal["pre-training pictures", "pre-training names"]] = {}
    note: str = ""

    @property
    def template(self) -> str:
        return self.prompt.template

    def class_names(self) -> list[str] | None:
        """Class names in label order, as far as records know them; None where the data's folder does."""
        if self.names:
            return [name for _, name in class_list(self.names)]
        return list(self.options["classes"]) if self.reader == "merged" else None

    def identity(self) -> dict[str, Any]:
        """What of the record shapes a result, as a JSON value: wording, addresses and licences do not."""
        shaping = ("reader", "options", "splits", "total", "classes", "names", "size", "views", "prompt", "sample")
        kept = {key: value for key, value in self.model_dump(mode="json").items() if key in shaping}
        return {**kept, "class_names": [list(pair) for pair in class_list(self.names)] if self.names else None}


@functools.cache
def records() -> dict[str, Record]:
    """{name: Record} of all named data sets."""
    found = {}
    for path in sorted((FOLDER / "records").iterdir(), key=lambda path: path.name):
        if path.name.endswith(".yaml"):
            data = yaml.safe_load(path.read_text(encoding="utf8"))
            found |= {name: Record(name=name, **entry) for name, entry in data.items() if not name.startswith("_")}
    return found


def find_record(name: str) -> Record:
    """The record of a name; `UserError` with the nearest ones where there is none."""
    if name not in records():
        if name.endswith((".csv", ".tsv")) or name.startswith(("/", "./", "../", "~")):
            raise UserError(f"no folder or list '{name}'")
        raise unknown("data set", name, [*records(), "wds:FOLDER", "FOLDER", "FILE.csv"])
    return records()[name]


def is_path(name: str) -> bool:
    """Whether a data set is meant by its path: no record has the name, and it is there."""
    return name not in records() and Path(name).exists()


@functools.cache
def class_list(name: str) -> tuple[tuple[str, str], ...]:
    """((id, name), ...) of classes/NAME.txt in label order; where a line has one field, it is both."""
    lines = (FOLDER / "classes" / f"{name}.txt").read_text(encoding="utf8").splitlines()
    return tuple((line.split("\t")[0], line.split("\t")[-1]) for line in lines if line.strip())


@functools.cache
def template_list(name: str) -> tuple[str, ...]:
    """Templates of templates/NAME.txt."""
    lines = (FOLDER / "templates" / f"{name}.txt").read_text(encoding="utf8").splitlines()
    return tuple(line for line in lines if line.strip())


def openmoji_names():
    """The fifteen data sets of the embedded study: without its base set and the group held out of pre-training."""
    return [name for name, record in records().items() if record.reader == "openmoji" and not record.note]


def paper_names():
    """The seventeen names known to the paper's public code."""
    return [name for name, record in records().items() if record.paper]
