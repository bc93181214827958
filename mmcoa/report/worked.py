"""One picture of the undefended model's test data through the attacks, step by step: the worked example of book/threat.md.

The prompts are those of the study's records, the pictures are attacked again as the study did (see examples.py).
"""

from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import torch

from mmcoa.attacks.losses import cross_entropy, margin
from mmcoa.attacks.pgd import pgd
from mmcoa.errors import UserError
from mmcoa.model.loading import load_model
from mmcoa.report.examples import SHOWABLE, picture, pixels
from mmcoa.report.results import threat_of
from mmcoa.report.words import text_changes

NEEDED = ("clean", "image", "text", "sequential")
SHOWN = ("clean", "image", "text", "independent", "sequential")  # the conditions of the example, in the order of book/threat.md
TOP = 5


@dataclass(frozen=True)
class Choice:
    """The picture: `row` its data set's result row (sequential attack); of the `n` pictures there, `right` are right without
    attack, and `fitting` of these are broken by each attack alone. `sets`: how many data sets have such pictures."""

    row: dict
    sample_id: int
    n: int
    right: int
    fitting: int
    sets: int


@dataclass(frozen=True)
class Condition:
    """What the model says under one attack. image: [H, W, 3] in [0,1]; prompts: of all classes; logits: float [C];
    losses, margins: one number a PGD step, empty where the picture is left alone."""

    attack: str
    image: np.ndarray
    prompts: list
    logits: np.ndarray
    losses: list = field(default_factory=list)
    margins: list = field(default_factory=list)

    @property
    def probabilities(self):
        """Softmax of the logits, [C]."""
        shifted = np.exp(self.logits - self.logits.max())
        return shifted / shifted.sum()

    @property
    def top(self):
        """The likeliest classes, likeliest first."""
        return np.argsort(-self.logits)[:TOP]


@dataclass(frozen=True)
class Example:
    """conditions: {attack: Condition}; changes: data frame, one row a class; cosines: float [C], of <g(t'), g(t)>."""

    choice: Choice
    label: int
    class_names: list
    threat: object
    conditions: dict
    changes: pd.DataFrame
    cosines: np.ndarray


def choose(study):
    """The `Choice` of a study, or None where no data set whose pictures may be shown has a fitting one.

    A picture fits if the undefended model is right on it and each attack alone, image, text and sequential, breaks it. Of the
    data sets that have one, in the order of their accuracy under the sequential attack, the middle one is taken, and there
    the first that fits in the order of evaluation, which is random but seeded.
    """
    if not set(NEEDED) <= set(study.attacks) or not len(study.changes):
        return None
    rows = study.rows[(study.rows.method == "none") & (study.rows.attack == "sequential")]
    rows = rows[rows.dataset.str.startswith(SHOWABLE)].sort_values(["accuracy", "dataset"])
    outcomes = study.outcomes[study.outcomes.method == "none"]
    fits = outcomes[outcomes.clean_correct & ~(outcomes.image_correct | outcomes.text_correct | outcomes.sequential_correct)]
    rows = rows[rows.dataset.isin(fits.dataset)]
    if rows.empty:
        return None
    row = rows.iloc[len(rows) // 2].to_dict()
    own, fitting = (frame[frame.dataset == row["dataset"]] for frame in (outcomes, fits))
    return Choice(row, int(fitting.sample_id.iloc[0]), len(own), int(own.clean_correct.sum()), len(fitting), len(rows))


def available(study):
    """Whether an example can be made: a fitting picture, and the undefended model's weights at hand."""
    choice = choose(study)
    if choice is None:
        return False
    try:
        load_model(choice.row["base_model"], resize=choice.row["resize"])
    except UserError:
        return False
    return True


def make(study):
    """The `Example` of a study that has one."""
    choice = choose(study)
    row, threat = choice.row, threat_of(choice.row)
    model = load_model(row["base_model"], resize=row["resize"])
    dataset, image, label = picture(model, row, choice.sample_id)
    changes = text_changes(study)
    changes = changes[changes.dataset == row["dataset"]].reset_index(drop=True)
    prompts = {"clean": list(changes.prompt), "text": list(changes.adversarial_prompt)}
    with torch.no_grad():
        text = {name: model.encode_text(words) for name, words in prompts.items()}
    traces = {name: Trace() for name in prompts}  # by the prompts that the image attack sees
    attacked = {name: pgd(model, image, label, text[name], threat, [choice.sample_id], loss=traces[name]) for name in prompts}
    # attack: picture, and the prompts that the prediction is made with
    pairs = {"clean": (None, "clean"), "image": ("clean", "clean"), "text": (None, "text")}
    pairs |= {"independent": ("clean", "text"), "sequential": ("text", "text")}
    conditions = {}
    for attack, (seen, judged) in pairs.items():
        shown, trace = (image, Trace()) if seen is None else (attacked[seen], traces[seen])
        with torch.no_grad():
            logits = model.logits(shown, text[judged]).float()[0].numpy()
        conditions[attack] = Condition(attack, pixels(shown), prompts[judged], logits, trace.losses, trace.margins)
    cosines = (text["clean"] * text["text"]).sum(dim=1).numpy()
    return Example(choice, int(label), dataset.class_names, threat, conditions, changes, cosines)


class Trace:
    """Cross-entropy, as PGD maximises it, that remembers its value and the margin at each step of one picture."""

    def __init__(self):
        self.losses, self.margins = [], []

    def __call__(self, logits, labels, targets=None):
        loss = cross_entropy(logits, labels, targets)
        self.losses.append(float(loss.detach()[0]))
        self.margins.append(float(margin(logits.detach(), labels)[0]))
        return loss
