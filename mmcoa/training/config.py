"""All settings of a fine-tuning, in one place: profiles, `mmcoa train`, the notebook and a study's cells follow from it.

Imports no torch. A new setting is a field with a default that changes nothing; whoever reads it is in finetune.py or loop.py.
"""

import types
from dataclasses import dataclass, field, fields, replace
from typing import get_args, get_type_hints

from mmcoa.errors import UserError, unknown
from mmcoa.threat import TEXT_THREATS, ThreatModel, parse_epsilon
from mmcoa.values import Kind


def setting(default, help, *, common=False, public=None, **rules):
    """A field of `TrainConfig`.

    Arguments:
        help: one line; what `mmcoa train --help` and an error say about it.
        common: the notebook shows it by name and the command line as a flag; the others are given by `more` and `--set`.
        public: of a setting whose None means the model's own default (its mmcoa.json): what counts where the model states none.
        rules: its range, as in `mmcoa.values.Kind`.
    """
    return field(default=default, metadata={"help": help, "common": common, "public": public, "rules": rules})


@dataclass(frozen=True)
class TrainConfig:
    """How to fine-tune. What a setting means is its field's help; None is the model's own default where it has one.

    Public defaults, for models that state none: those of the paper for ViT-B/32 (arXiv 2404.19287): lr 1e-6, batch 256, PGD-10
    inside; steps depend on the data set. Raises `UserError` for values outside their range.
    """

    # data: what `fine_tune` chooses
    split: str = setting("train", "split to train on", common=True)
    samples: int | None = setting(None, "at most so many samples, balanced over classes; none: all", common=True, least=1)
    shots: int | None = setting(None, "so many samples of each class; a class with fewer is an error", common=True, least=1)
    held_out: int = setting(64, "samples that are not trained on and choose the best state; 0: none", common=True, least=0)
    # the attacks inside
    epsilon: float | None = setting(
        None, "of the inner image attack, such as 2/255; none: the model's", common=True, public=1 / 255
    )
    inner_steps: int | None = setting(
        None, "steps of the inner image attack; none: the model's", common=True, public=10, least=1
    )
    inner_step_size: float | None = setting(
        None, "of the inner image attack, as a share of epsilon; none: the model's, else 0.25", public=0.25, above=0
    )
    candidate_source: str = setting("table:train", "candidates of the inner text attack", common=True)
    text_threat: str = setting("any", "which of them are allowed: any, synonym or meaning", choices=tuple(TEXT_THREATS))
    # optimisation
    steps: int | None = setting(None, "optimiser steps; none: the model's", common=True, public=1000, least=1)
    epochs: int | None = setting(None, "passes over the samples, instead of steps", common=True, least=1)
    batch_size: int | None = setting(None, "of all processes together; none: the model's", common=True, public=256, least=1)
    lr: float | None = setting(
        None,
        "peak learning rate, after the warm-up; then a cosine to zero; none: the model's",
        common=True,
        public=1e-6,
        above=0,
    )
    warmup: int | None = setting(None, "steps until the peak; none: the model's", public=100, least=0)
    # decoupled (AdamW); no biases, norms or logit scale (trap T3)
    weight_decay: float | None = setting(None, "of matrices; none: the model's, else 0.2", public=0.2, least=0)
    betas: tuple = setting((0.9, 0.98), "of Adam", least=0, below=1, length=2)
    clip_norm: float = setting(1.0, "largest norm of the whole gradient", above=0)
    trains: str | None = setting(
        None, "towers: image, text or both; none: the defence's own", common=True, choices=("image", "text", "both")
    )
    last_blocks: int | None = setting(None, "train only the last blocks of each tower; none: all", least=1)
    first_blocks: int | None = setting(None, "train only the first blocks of each tower; with last_blocks: both ends", least=1)
    lora_rank: int | None = setting(None, "train low-rank changes of this rank instead of the matrices", least=1)
    precision: str = setting(
        "fp32", "fp32, or bf16: both towers under autocast, weights and losses in fp32", common=True, choices=("fp32", "bf16")
    )
    accumulate: int = setting(
        1, "parts of a batch that go through the model one after another, each contrasted within itself", least=1
    )
    gradient_checkpointing: bool = setting(False, "compute activations again: less memory, more time")
    seed: int = setting(0, "of the batches, the few-shot choice and the attacks' random starts", common=True, least=0)
    checkpoint_every: int = setting(50, "steps between checkpoints", least=1)
    evaluate_every: int = setting(50, "steps between looks at the held-out samples", least=1)
    log_every: int = setting(10, "steps between rows of the log", least=1)

    def __post_init__(self):
        for name in KINDS:
            object.__setattr__(self, name, checked(name, getattr(self, name)))
        if self.steps is not None and self.epochs is not None:
            raise UserError("give steps or epochs, not both")

    @classmethod
    def of(cls, settings):
        """From a dict; a name that is no setting is a `UserError` with the nearest ones."""
        for name in settings:
            if name not in KINDS:
                raise unknown("training setting", name, KINDS)
        return cls(**settings)

    def for_model(self, metadata):
        """With a model's own defaults (its mmcoa.json, as a dict) in place of None; `steps` waits where there are `epochs`."""
        stated = metadata.get("train_defaults", {}) | {key: metadata[key] for key in INNER if key in metadata}
        for name in stated:
            if name not in PUBLIC:
                raise unknown("default in the model's mmcoa.json", name, PUBLIC)
        open_ = [name for name in PUBLIC if getattr(self, name) is None and not (name == "steps" and self.epochs is not None)]
        return replace(self, **{name: stated.get(name, PUBLIC[name]) for name in open_})

    def threat(self):
        """`ThreatModel` of the attacks inside; of a config whose None's have been filled in."""
        image = {} if self.inner_step_size == 0.25 else {"step_size": self.inner_step_size * self.epsilon}  # 0.25: its own
        text = dict(candidate_source=self.candidate_source, text_threat=self.text_threat)
        return ThreatModel(epsilon=self.epsilon, steps=self.inner_steps, seed=self.seed, **image, **text)


INNER = ("epsilon", "inner_steps")  # a model states them beside `train_defaults`: they are for its evaluation too


def _kind(field, hint):
    kinds = get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    return Kind(kinds[0], type(None) in kinds, **field.metadata["rules"])


KINDS = {field.name: _kind(field, get_type_hints(TrainConfig)[field.name]) for field in fields(TrainConfig)}
HELP = {field.name: field.metadata["help"] for field in fields(TrainConfig)}
COMMON = tuple(field.name for field in fields(TrainConfig) if field.metadata["common"])
PUBLIC = {field.name: value for field in fields(TrainConfig) if (value := field.metadata["public"]) is not None}


def checked(name, value):
    """The value of a setting in its type; `UserError` where it is impossible. The range of epsilon is the threat model's."""
    if name == "epsilon" and value is not None:
        return ThreatModel(epsilon=parse_epsilon(value)).epsilon
    return KINDS[name].check(name, value)


def parsed(name, text):
    """What a text, as of `--set name=text`, means for a setting."""
    return checked(name, KINDS[name].parse(name, text) if name != "epsilon" or text.lower() == "none" else text)
