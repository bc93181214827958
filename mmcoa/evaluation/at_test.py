"""A test-time defence, judged and attacked. Who the adversary is:

`transfer`: pictures are made on the model without the defence, as papers of the field do.
`adaptive`: the adversary knows the defence and its settings, and follows the gradient through it: steps without a gradient are
    passed straight through (Athalye et al., ICML 2018), what is random is averaged over `draws` draws at each step.
`worst`: a sample is robust only if it survives both.
`published`: `transfer`, and pictures are rounded to 8 bits before the defence.

Whoever it is: clean and attacked pictures are answered through the defence, whose random numbers come from the sample's id and
a key that no adversary draws from. Prompts are attacked on the model itself, whose text tower these defences leave as it is,
and judged through the defence too. Searches do not stop at a broken picture: the draw that breaks it may not be the one that it
is judged with.
"""

import json

import numpy as np
import torch
import torch.nn.functional as F

from mmcoa.attacks.ball import project, random_start, sample_generator
from mmcoa.attacks.catalog import find
from mmcoa.attacks.losses import cross_entropy
from mmcoa.attacks.multimodal import AttackedBatch
from mmcoa.defenses.at_test import ClassText
from mmcoa.errors import UserError
from mmcoa.store.files import digest

KNOWS = {  # of the defence, in a row's sentence about its threat model
    "": "",
    "transfer": "pictures made on the model without {name}",
    "published": "pictures made on the model without {name} and rounded to 8 bits",
    "adaptive": "pictures made through {name}, {draws} draws a step",
    "worst": "worst case of pictures made without and through {name}, {draws} draws a step",
}
KINDS = ("prediction", "margin", "correct", "broken_by")  # of columns, as outcomes.py has them
MASKED = 0.1  # share of samples without a usable gradient from which a number says nothing
HEADLINE = {"worst": ("transfer", "adaptive"), "adaptive": ("adaptive",), "transfer": ("transfer",), "published": ("transfer",)}


class Judge:
    """The answers of a defended model. `texts`: the `ClassText` of all prompts that occur; `seed`: of the evaluation."""

    def __init__(self, model, defense, texts, seed):
        self.model, self.defense, self.texts, self.seed = model, defense, texts, seed

    def logits(self, images, text_features, sample_ids):
        """Logits [N, C] of pictures float [N, 3, H, W] whose sample ids are int64 [N]."""
        if self.defense.adversary == "published":
            images = (images * 255).round() / 255
        generators = [sample_generator(self.seed, "judged", int(sample)) for sample in sample_ids]
        with torch.no_grad():
            return defended(self.model, self.defense, images, text_of(self.texts, text_features), generators)


class Adaptive:
    """The defended model as an adversary who knows the defence sees it: `logits` as of an `ImageTextModel`.

    Every call averages over fresh draws, the same for all pictures, and numbers them from the first call on: what a picture
    meets depends on no neighbour. What is not about pictures is the model's own.
    """

    def __init__(self, model, defense, texts, seed):
        self.model, self.defense, self.texts, self.seed, self.calls = model, defense, list(texts), seed, 0

    def __getattr__(self, name):
        return getattr(self.model, name)

    def anew(self):
        """The same for another search: its calls are numbered from 0."""
        return Adaptive(self.model, self.defense, self.texts, self.seed)

    def draws(self, count):
        """Lists of generators for `count` pictures, one for each draw of this call."""
        self.calls += 1
        for draw in range(self.defense.draws):
            yield [sample_generator(self.seed, "adversary", self.calls, draw) for _ in range(count)]

    def logits(self, pixels, text_features):
        """Mean logits [N, C] over the draws, differentiable in the pixels."""
        text = text_of(self.texts, text_features)
        found = [defended(self.model, self.defense, pixels, text, each) for each in self.draws(len(pixels))]
        return found[0] if len(found) == 1 else torch.stack(found).mean(dim=0)

    def encode_image_raw(self, pixels):
        """Mean embedding [N, D] before normalisation; `UserError` for a defence that answers with scores."""
        if self.defense.form != "purify":
            raise UserError(
                f"an attack on embeddings does not see through '{self.defense.name}', which answers with scores; "
                "use image, apgd-ce or square, or --adversary transfer"
            )
        text = ClassText(None)
        found = [
            self.defense.function(self.model, pixels, text, self.defense.settings, each) for each in self.draws(len(pixels))
        ]
        return torch.stack([self.model.encode_image_raw(images) for images in found]).mean(dim=0)

    def encode_image(self, pixels):
        """The same at unit length."""
        return F.normalize(self.encode_image_raw(pixels), dim=-1)

    def encode_text(self, prompts):
        """The model's own; the prompts are remembered for defences that read them."""
        features = self.model.encode_text(prompts)
        self.texts.append(ClassText(features.detach(), [list(prompts)]))
        return features

    def fingerprint(self):
        """Of weights, defence and draws."""
        return digest([self.model.fingerprint(), identity(self.defense)])[:16]


def defended(model, defense, images, text, generators):
    """Logits [N, C] through a defence (`AtTest`)."""
    if defense.form == "scores":
        return defense.function(model, images, text, defense.settings, generators)
    return model.logits(defense.function(model, images, text, defense.settings, generators), text.features)


def text_of(texts, features):
    """The `ClassText` whose embeddings these are, [C, D]."""
    same = (text for text in texts if text.features.shape == features.shape and torch.equal(text.features, features))
    return next(same, ClassText(features))


def identity(defense):
    """What an outcome depends on, as a JSON value; nothing where there is no defence."""
    return {} if defense is None else {
        "defense_at_test": defense.name,
        "with_at_test": defense.own,
        "adversary": defense.adversary,
        "draws": defense.draws,
        "version": defense.version,
    }  # fmt: skip


def check_precision(model):
    """`UserError` in bf16: its verification would take every picture that a defence saves for an error of rounding."""
    if model.precision != "fp32":
        raise UserError("a test-time defence is evaluated in fp32, not bf16")


def dead_gradients(model, adaptive, dataset, threat, batch_size):
    """Percent of samples through whose defence no usable gradient comes, at a random point of the ball.

    Unusable: zero, not finite, or so much smaller than that of the model without the defence that rounding errors of the
    precision are larger.
    """
    with torch.no_grad():
        text = adaptive.encode_text(dataset.prompts)
    dead, adaptive = 0, adaptive.anew()
    for start in range(0, len(dataset), batch_size):
        index = slice(start, min(start + batch_size, len(dataset)))
        images = dataset.images[index].to(model.device).float() / 255
        if threat.attacked_space == "model":
            images = model.resized(images)
        labels = dataset.labels[index].to(model.device)
        noise = random_start(images.shape[1:], threat, dataset.ids[index], "gradient").to(images)
        images = (images + project(noise, images, threat)).clamp(0, 1)
        through, plain = (gradient_size(each, images, labels, text) for each in (adaptive, model))
        usable = torch.isfinite(through) & (through > torch.finfo(through.dtype).eps * plain) & (through > 0)
        dead += int((~usable).sum())
    return 100 * dead / len(dataset)


def gradient_size(model, images, labels, text):
    """Largest entry of each picture's gradient of the cross-entropy, float [N]; zero where nothing depends on the picture."""
    with torch.enable_grad():
        images = images.detach().requires_grad_()
        loss = cross_entropy(model.logits(images, text).float(), labels).sum()
        (gradient,) = torch.autograd.grad(loss, images, allow_unused=True) if loss.requires_grad else (None,)
    return images.new_zeros(len(images)) if gradient is None else gradient.abs().amax(dim=(1, 2, 3))


def sides(model, defense, threat, features, prompts):
    """`Undefended`, or with a defence (`AtTest`) `Sides`.

    Arguments:
        features, prompts: {"clean" or attack on prompts: unit embeddings [C, D], and the lists of prompts behind them}.
    """
    if defense is None:
        return Undefended(model)
    check_precision(model)
    texts = [ClassText(features[kind], prompts[kind]) for kind in features]
    return Sides(model, defense, *(kind(model, defense, texts, threat.seed) for kind in (Judge, Adaptive)), threat)


class Undefended:
    """What an evaluation does with each batch and row: nothing but to attack the model.

    same: whether what breaks the searched model breaks the answer: then a search may stop at a broken picture.
    """

    same = True

    def __init__(self, model):
        self.model, self.searched = model, {"": model}

    def batches(self, *arguments, **named):
        """{adversary: `AttackedBatch`}; arguments: images, labels, ids, features, threat, whole; by name: others of its."""
        return {"": AttackedBatch(self.model, *arguments, **named)}

    def names(self, attack, parts):
        """{name of an outcome: adversaries that it is about}."""
        return {attack.name: ("",)}

    def single(self, attack, about, parts):
        """Names of the outcomes, one an adversary, that an outcome of some adversaries is made of."""
        names = self.names(attack, parts)
        return [name for name, one in names.items() if len(one) == 1 and one[0] in about] or [attack.name]

    def told_apart(self, asked, parts):
        """{name of an outcome: (adversary, attack)} of the outcomes that one adversary makes."""
        every = [(name, about, one) for one in asked for name, about in self.names(one, parts.get(one.name)).items()]
        several = {one.name for name, _, one in every if name != one.name}
        return {name: (about[0], one) for name, about, one in every if name != one.name or name not in several}

    def together(self, frames, asked, parts):
        """One frame of outcomes from {adversary: its own}."""
        return frames[""]

    def seconds(self, batches):
        """{attack: seconds} of a batch, as the journal keeps them."""
        return {named(name, side): took for side, batch in batches.items() for name, took in batch.seconds.items()}

    def spent(self, seconds, about):
        """{attack: seconds} of some adversaries, from what the journal kept."""
        names = dict.fromkeys(name.partition("@")[0] for name in seconds)
        return {name: sum(seconds.get(named(name, side), 0.0) for side in about) for name in names}

    def named(self, checks, side):
        """Self-checks of one adversary, told from another's."""
        return [item if item["attack"] == "text" else item | {"attack": named(item["attack"], side)} for item in checks]

    def dead_gradients(self, dataset, asked, parts, batch_size):
        """Percent of samples without a usable gradient; None where no adversary goes through a defence."""
        return None

    def finished(self, row, attack, about, parts, outcomes, dead):
        """A result row with its further columns: the defence, the adversary, what became of the gradients."""
        return row


def named(name, side):
    """`pgd`, of the adversary who knows a defence `pgd@adaptive`."""
    return f"{name}@{side}" if side else name


class Sides(Undefended):
    """The same through a test-time defence: one attacked batch an adversary, and rows for each.

    The outcome under an attack's own name is that of the adversary asked for; with `worst`, `ATTACK@transfer` and
    `ATTACK@adaptive` stand beside it. Attacks that leave pictures as they are have one outcome.
    """

    same = False

    def __init__(self, model, defense, judge, adaptive, threat):
        self.model, self.defense, self.judge, self.adaptive, self.threat = model, defense, judge, adaptive, threat
        self.searched = {side: adaptive if side == "adaptive" else model for side in HEADLINE[defense.adversary]}

    def batches(self, *arguments, **named):
        still = {}
        return {
            side: AttackedBatch(model, *arguments, judge=self.judge, still=still, everyone=side == "transfer", **named)
            for side, model in self.searched.items()
        }

    def dead_gradients(self, dataset, asked, parts, batch_size):
        if "adaptive" not in self.searched or not any(searches(attack, parts.get(attack.name)) for attack in asked):
            return None
        return dead_gradients(self.model, self.adaptive, dataset.prefix(200), self.threat, batch_size)

    def names(self, attack, parts):
        sides = tuple(self.searched)
        if len(sides) == 1 or not searches(attack, parts):
            return {attack.name: sides}
        return {attack.name: sides} | {f"{attack.name}@{side}": (side,) for side in sides}

    def together(self, frames, asked, parts):
        first, last = frames[next(iter(frames))], frames[list(frames)[-1]]  # one and the same, where there is one adversary
        frame = first[["sample_id", "label"]].copy()
        for attack in asked:
            right, margin = f"{attack.name}_correct", f"{attack.name}_margin"
            columns = [name for kind in KINDS if (name := f"{attack.name}_{kind}") in first]
            by_first = ~first[right] & last[right]  # broken by the first adversary alone
            for column in columns:
                frame[column] = first[column].where(by_first, last[column])
            frame[margin] = frame[margin].mask(frame[right], np.maximum(first[margin], last[margin]))
            for name, about in self.names(attack, parts.get(attack.name)).items():
                if name != attack.name:
                    for column in columns:
                        frame[column.replace(attack.name, name, 1)] = frames[about[0]][column]
        return frame

    def finished(self, row, attack, about, parts, outcomes, dead):
        searched, through = searches(attack, parts), "adaptive" in about
        published = self.defense.adversary == "published"
        adversary = "" if not searched else "worst" if len(about) > 1 else "published" if published else about[0]
        share = dead if searched and through else None
        masked = share is not None and share > 100 * MASKED
        made = KNOWS[adversary].format(name=self.defense.name, draws=self.defense.draws)
        more = {
            "threat_text": "; ".join(filter(None, (row["threat_text"], made, f"answered through {self.defense.name}"))),
            "defense_at_test": self.defense.name,
            "with_at_test": json.dumps(self.defense.own),
            "adversary": adversary,
            "draws": self.defense.draws if searched and through else None,
            "accuracy_alone": None,
            "dead_gradients": share,
            "masked": masked,
        }
        return answered(row | more, outcomes)


def answered(row, outcomes):
    """A row whose `check` is the self-checks' verdict, with what outcomes say: `accuracy_alone`, further signs in `check`."""
    alone = 100 * float((outcomes[f"{row['attack']}_prediction"] == outcomes.label).mean())
    clean = 100 * float(outcomes.clean_correct.mean())
    signs = [f"masked: {row['dead_gradients']:.0f} % of the gradients are unusable"] if row["masked"] else []
    if row["adversary"] and alone > clean:
        signs.append(f"suspicious: more right under the attack ({alone:.1f} %) than without ({clean:.1f} %)")
    if not signs or row["check"] not in ("ok", "not run"):
        signs.append(row["check"])
    return row | {"check": "; ".join(signs), "accuracy_alone": alone}


def searches(attack, parts=()):
    """Whether an attack, or one of its parts, changes pictures."""
    return any(leaf.image for leaf in map(find, parts or (attack.name,)))
