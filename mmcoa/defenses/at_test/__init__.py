"""Test-time defences: nothing is trained, a picture is changed or looked at several times before the answer. One file each.

A module `mmcoa/defenses/at_test/NAME.py` is the defence NAME and combines with any model. It defines one of

    purify(model, images, text, settings, generators) -> images     that the model is asked about instead
    scores(model, images, text, settings, generators) -> logits     float [N, C], in place of the model's own

    images: float [N, 3, H, W] in [0, 1]; text: `ClassText`, what the prediction chooses from; settings: its own, read-only;
    generators: N `torch.Generator`, one a picture, the only source of what is random

and states, as literals that are read without importing it,

    LABEL = "TTC"                       # as tables call it
    SOURCE = "Xing et al., CVPR 2025"
    DRAWS = 4                           # of what is random, over which an adversary averages at each step; 0: nothing is random
    VERSION = 1                         # raise it when what it answers changes
    SETTINGS = {"steps": 2}             # its own settings with their defaults; may be left out, as may CHOICES and LEAST

A picture's answer depends on the picture, the text and its generator, and on no neighbour in the batch. The result is
differentiable in the images, and that gradient is what an adversary who knows the defence follows: a step that has none (a
rounding, a sign, a choice) is passed straight through, or taken as a constant. One that forgets this looks robust and is not;
the evaluation counts gradients that are zero, and says so (evaluation/at_test.py).
"""

import ast
import importlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mmcoa.defenses import OWN, names_in, readable, settled, stated_in, summary_of
from mmcoa.errors import UserError, unknown

ADVERSARIES = ("worst", "adaptive", "transfer", "published")  # what they know: evaluation/at_test.py
FORMS = ("purify", "scores")


@dataclass(frozen=True)
class ClassText:
    """What a prediction chooses from: unit embeddings [C, D], and the prompts behind them.

    prompts: one list of C strings for each template; None where the caller has embeddings alone.
    """

    features: Any
    prompts: Sequence[Sequence[str]] | None = None


@dataclass(frozen=True)
class Statement:
    """What a test-time defence's file states: see the head of this module. `form`: which function it defines."""

    name: str
    path: Path
    summary: str
    label: str
    source: str
    draws: int
    version: int
    form: str
    settings: dict
    kinds: dict  # {own setting: mmcoa.values.Kind}


@dataclass(frozen=True)
class AtTest:
    """A test-time defence with its settings, and the adversary that it is judged by: what `mmcoa.evaluate` takes.

    adversary: one of ADVERSARIES; draws: over how many draws of what is random an adversary who knows the defence averages.
    """

    name: str
    version: int
    form: str
    settings: object  # read-only: settings.steps
    function: Callable
    adversary: str = "worst"
    draws: int = 1

    @property
    def own(self):
        """Its settings as a dict."""
        return asdict(self.settings)


def names():
    """Names of all test-time defences."""
    return names_in(__path__)


def record(name):
    """The `Statement` of a test-time defence, read without importing it (or torch).

    Raises `UserError` for an unknown one or a flawed file.
    """
    if name not in names():
        raise unknown("test-time defence", name, names())
    path = next(path for folder in __path__ if (path := Path(folder) / f"{name}.py").is_file())
    tree = ast.parse(path.read_text(encoding="utf8"))
    stated = stated_in(path, tree, ("LABEL", "SOURCE", "DRAWS", *OWN))
    forms = [node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name in FORMS]
    if len(forms) != 1:
        raise UserError(f"{path} must define one of {' and '.join(FORMS)}; see the head of {path.with_name('__init__.py')}")
    about = {key.lower(): stated[key] for key in ("LABEL", "SOURCE", "DRAWS", "VERSION", "SETTINGS")}
    return Statement(name, path, summary_of(tree), form=forms[0], kinds=stated["kinds"], **about)


def choose(name, given=None, adversary="worst", draws=None):
    """The `AtTest` NAME with its own settings `given`; imports its module.

    draws: None: as the defence states; one where nothing is random. Raises `UserError` for what is unknown or impossible.
    """
    of = record(name)
    if adversary not in ADVERSARIES:
        raise unknown("adversary", adversary, ADVERSARIES)
    if draws is not None and draws < 1:
        raise UserError(f"draws must be at least 1, got {draws}")
    function = getattr(importlib.import_module(f"{__name__}.{name}"), of.form)
    number = (draws or of.draws) if of.draws else 1
    return AtTest(name, of.version, of.form, readable(of, settled(of, given)), function, adversary, number)
