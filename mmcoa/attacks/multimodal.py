"""One batch under attack: which samples are searched, with which prompts, and what the prediction is then.

Prompts come ready from the attacks that change them (`evaluation.prompts.prompt_features`); an attack's record says which of
them its search sees and which the prediction is made with. In a worst case a sample is robust only if it survives every part.
"""

import time
from collections import defaultdict
from dataclasses import dataclass

import torch

from mmcoa.attacks.catalog import find
from mmcoa.attacks.losses import margin

AGAIN = 16  # of the samples that bf16 leaves standing, those whose number is a multiple of it are attacked in fp32 too


@dataclass
class Outcome:
    """Of a batch under one attack: predicted class int64 [N], margin float [N], `broken_by` (worst case only).

    images: what was judged, float [N, 3, H, W]; None where these are the pictures as they are, or nobody asked for them.
    """

    prediction: torch.Tensor
    margin: torch.Tensor
    broken_by: list | None = None
    images: torch.Tensor | None = None


class AttackedBatch:
    """One batch under attack. Only samples that still stand are attacked, and each search runs once, whoever needs it.

    Arguments:
        images: float [N, 3, H, W] in [0, 1]; labels: int64 [N]; ids: int64 [N], name the samples.
        features: {"clean": unit embeddings [C, D], and for each attack on prompts, by its name, those that it made}.
        whole: `Attack.search` of the searches whose best iterate counts beyond breaking the prompts that it saw.
        judge: gives the answers, `logits(images, text features, ids)`, where that is not the model that is searched.
        answered: `features` as the judge embeds them, where its text tower is another.
        still: {prompts: `Outcome` of the pictures as they are}, where another batch with this judge has them.
        threat: `ThreatModel`, its `target` the number of a class (`aimed`).
        class_names: C strings; attacker: `Dataset` of labelled train pictures: for searches whose record asks for them.
        learned: dict that keeps what such searches have learnt, from one batch to the next.
        everyone: samples that are wrong without an attack are attacked too, as always with a target.
        keep: outcomes hold their pictures.
    """

    def __init__(
        self, model, images, labels, ids, features, threat, whole=(), judge=None, still=None, everyone=False, keep=False,
        answered=None, class_names=None, attacker=None, learned=None,
    ):  # fmt: skip
        self.model, self.images, self.labels, self.ids = model, images, labels, ids
        self.features, self.threat, self.whole, self.keep = features, threat, whole, keep
        self.everyone = everyone or threat.target is not None  # where a picture ends counts, also where it is wrong already
        self.class_names, self.attacker, self.learned = class_names, attacker, {} if learned is None else learned
        self.seconds, self.still, self.found = defaultdict(float), {} if still is None else still, {}
        self.other, self.embedding = judge, None
        self.answered = features if answered is None else answered
        began = time.monotonic()
        self.clean = self.unperturbed("clean")
        self.seconds["clean"] += time.monotonic() - began

    def unperturbed(self, prompts):
        """Outcome of the pictures as they are, with the prompts of that name."""
        if prompts not in self.still:
            logits = self.answers(self.images, self.answered[prompts], self.ids)
            self.still[prompts] = Outcome(logits.argmax(dim=1), margin(logits, self.labels))
        return self.still[prompts]

    def answers(self, images, text_features, ids):
        """The judge's logits [N, C]. A bound method kept as attribute would hold the batch until the collector comes by."""
        return (self.own_logits if self.other is None else self.other.logits)(images, text_features, ids)

    def own_logits(self, images, text_features, ids):
        """Logits [N, C] of the searched model itself, in fp32; the pictures as they are go through its tower once."""
        with torch.no_grad(), self.model.exactly():
            if images is not self.images:
                return self.model.logits(images, text_features)
            if self.embedding is None:
                self.embedding = self.model.encode_image(images)
            return self.model.compare(self.embedding, text_features)

    def right(self, outcome):
        """Samples that stand under an attack, bool [N]: right with it and, as the adversary may do nothing, without it."""
        return (outcome.prediction == self.labels) & (self.clean.prediction == self.labels)

    def run(self, attack, parts=None):
        """`Outcome` of an `Attack`; of a worst case over `parts`, where it has some. Computed once."""
        key = _key(attack) if not attack.parts else attack.name
        if key not in self.found:
            everyone = torch.arange(len(self.labels), device=self.labels.device)
            began = time.monotonic()
            self.found[key] = self.worst(parts or attack.parts) if attack.parts else self.leaf(attack, everyone)
            self.seconds[attack.name] += time.monotonic() - began
        return self.found[key]

    def leaf(self, attack, rows):
        """Outcome [N] of an attack without parts; only `rows` may be attacked, the others stay unperturbed."""
        base = self.unperturbed(attack.judged)
        if attack.image is None:
            return base
        at = rows if self.everyone else rows[self.right(self.unperturbed(attack.sees))[rows]]
        outcome = Outcome(base.prediction.clone(), base.margin.clone(), images=self.images.clone() if self.keep else None)
        if len(at):
            outcome.prediction[at], outcome.margin[at], adversarial = self.attacked(attack, at)
            if outcome.images is not None:
                outcome.images[at] = adversarial
        return outcome

    def attacked(self, attack, at):
        """Prediction, margin and pictures of the samples `at` after the image attack.

        What bf16 takes for broken is verified in fp32, and a part of what it leaves standing is attacked once more in fp32: its
        accuracy is never flattered unseen.
        """
        adversarial = self.search(attack, at)
        prediction, margins = self.judge(adversarial, attack, at)
        if self.model.precision != "fp32":
            prompts, labels = self.features[attack.judged], self.labels[at]
            with torch.no_grad():
                seen = self.model.logits(adversarial, prompts).argmax(dim=1)
            exact = prediction if self.other is None else self.own_logits(adversarial, prompts, None).argmax(dim=1)
            doubt = (seen != labels) & (exact == labels)
            doubt |= (seen == self.threat.target) & (exact != seen) if self.threat.target is not None else False
            part = (prediction == labels) & (self.ids.to(at.device)[at] % AGAIN == 0)
            rows = (doubt | part).nonzero()[:, 0]
            if len(rows):
                with self.model.exactly():
                    again = self.search(attack, at[rows])
                prediction[rows], margins[rows] = self.judge(again, attack, at[rows])
                adversarial = adversarial.index_copy(0, rows, again)
        return prediction, margins, adversarial

    def search(self, attack, at):
        """Adversarial pictures of the samples `at`, [n, 3, H, W]; of a search that was made already, its result."""
        key = ("search", *attack.search, self.model.precision)
        known, pictures = self.found.get(key, (at[:0], None))
        if torch.isin(at, known).all():  # both ascend
            return pictures[torch.searchsorted(known, at)] if len(at) else self.images[at]
        record, model = find(attack.image), getattr(self.model, "anew", lambda: self.model)()
        prompts, stop = self.features[attack.sees], attack.search not in self.whole
        pictures, labels, ids = self.images[at], self.labels[at], self.ids[at.cpu()]
        more = {"class_names": self.class_names} if record.class_names else {}
        threat = attack.under(self.threat)
        if record.train_pictures:
            made = (id(self.model), *key)
            if made not in self.learned:
                self.learned[made] = record.load().learn(model, prompts, threat, self.attacker)
            more["learned"] = self.learned[made]
        adversarial = record.load().attack(model, pictures, labels, prompts, threat, ids, stop, **more)
        self.found[key] = (at, adversarial)
        return adversarial

    def judge(self, adversarial, attack, at):
        logits = self.answers(adversarial, self.answered[attack.judged], self.ids[at.cpu()])
        return logits.argmax(dim=1), margin(logits, self.labels[at])

    def worst(self, parts):
        """Worst case over attacks, cheapest first: each part attacks only what the parts before it have left standing."""
        outcome = Outcome(self.clean.prediction.clone(), self.clean.margin.clone(), [""] * len(self.labels))
        standing = self.clean.prediction == self.labels
        for row in (~standing).nonzero()[:, 0].tolist():
            outcome.broken_by[row] = "clean"
        outcome.images = self.images.clone() if self.keep else None
        for part in map(find, parts):
            rows = standing.nonzero()[:, 0]
            if not len(rows):
                break
            under = self.found.get(_key(part)) or self.leaf(part, rows)
            broken = standing & (under.prediction != self.labels)
            outcome.prediction[broken], outcome.margin[broken] = under.prediction[broken], under.margin[broken]
            if outcome.images is not None and under.images is not None:
                outcome.images[broken] = under.images[broken]
            standing = standing & ~broken
            outcome.margin[standing] = torch.maximum(outcome.margin, under.margin)[standing]
            for row in broken.nonzero()[:, 0].tolist():
                outcome.broken_by[row] = part.name
        return outcome


def whole_searches(attacks):
    """Searches whose result is judged with other prompts than they saw: these must not stop once a sample is broken."""
    return {attack.search for attack in attacks if attack.image and attack.sees != attack.judged}


def _key(attack):
    """What an outcome depends on: attacks that share it are computed once."""
    return *attack.search, attack.judged
