"""Image and text perturbed together, for one batch, attack by attack.

- `independent`: the image attack sees the clean prompts; the prediction is made with the adversarial ones (what the
  paper's public code measures).
- `sequential`: the text attack comes first and the image attack sees its prompts: the adversary knows both hands.
- `joint`: prompts from an alternation on pictures of the train split (`alternate`), then the image attack against them.
- `co_attack`: the picture moves away from its clean embedding and from its changed prompt.
- worst case: a sample is robust only if it survives every part.
"""

import time
from collections import defaultdict
from dataclasses import dataclass

import torch

from mmcoa.attacks.catalog import find
from mmcoa.attacks.images import FUNCTIONS
from mmcoa.attacks.losses import margin
from mmcoa.attacks.pgd import pgd
from mmcoa.attacks.scores import LabelledFeatures
from mmcoa.attacks.text import attack_prompts
from mmcoa.threat import preset

ROUNDS = 5  # of the alternation, at most


@dataclass
class Outcome:
    """Of the samples of a batch under one attack: predicted class int64 [N], margin float [N], `broken_by` (worst case only)."""

    prediction: torch.Tensor
    margin: torch.Tensor
    broken_by: list | None = None


class Batch:
    """One batch under attack. Only samples that still stand are attacked, and each search runs once, whoever needs it.

    Arguments:
        images: float [N, 3, H, W] in [0, 1]; labels: int64 [N]; ids: int64 [N], name the samples.
        features: {"clean": unit embeddings [C, D], "text": after the text attack, "joint": after the alternation}.
        whole: keys of the searches whose best iterate counts beyond breaking the prompts that it saw.
    """

    def __init__(self, model, images, labels, ids, features, threat, whole=()):
        self.model, self.images, self.labels, self.ids = model, images, labels, ids
        self.features, self.threat, self.whole = features, threat, whole
        self.seconds, self.still, self.found = defaultdict(float), {}, {}
        began = time.monotonic()
        with torch.no_grad(), model.exactly():
            self.embedding = model.encode_image(images)
        self.clean = self.unperturbed("clean")
        self.seconds["clean"] += time.monotonic() - began

    def unperturbed(self, prompts):
        """Outcome of the pictures as they are, with the prompts of that name."""
        if prompts not in self.still:
            with torch.no_grad():
                logits = self.model.scale * self.embedding @ self.features[prompts].T
            self.still[prompts] = Outcome(logits.argmax(dim=1), margin(logits, self.labels))
        return self.still[prompts]

    def right(self, outcome):
        """Samples that stand under an attack, bool [N]: right with it and, as the adversary may do nothing, without it."""
        return (outcome.prediction == self.labels) & (self.clean.prediction == self.labels)

    def run(self, attack, parts=None):
        """`Outcome` of an `Attack`; of a worst case over `parts`, where it has some. Computed once."""
        key = (attack.image, attack.sees, attack.judged, attack.preset) if not attack.parts else attack.name
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
        at = rows[self.right(self.unperturbed(attack.sees))[rows]]
        outcome = Outcome(base.prediction.clone(), base.margin.clone())
        if len(at):
            outcome.prediction[at], outcome.margin[at] = self.attacked(attack, at)
        return outcome

    def attacked(self, attack, at):
        """Prediction and margin of the samples `at` after the image attack; what bf16 takes for broken is verified in fp32."""
        adversarial = self.search(attack, at)
        prediction, margins = self.judge(adversarial, attack, at)
        if self.model.precision != "fp32":
            with torch.no_grad():
                seen = self.model.logits(adversarial, self.features[attack.judged]).argmax(dim=1)
            doubt = ((seen != self.labels[at]) & (prediction == self.labels[at])).nonzero()[:, 0]
            if len(doubt):
                with self.model.exactly():
                    again = self.search(attack, at[doubt])
                prediction[doubt], margins[doubt] = self.judge(again, attack, at[doubt])
        return prediction, margins

    def search(self, attack, at):
        stop = (attack.image, attack.sees, attack.preset) not in self.whole
        threat, sees = preset(self.threat, attack.preset), self.features[attack.sees]
        key = (attack.image, attack.sees, attack.preset, self.model.precision)
        known, pictures = self.found.get(("search", *key), (at[:0], None))
        if torch.isin(at, known).all():  # both ascend
            return pictures[torch.searchsorted(known, at)] if len(at) else self.images[at]
        adversarial = FUNCTIONS[attack.image](
            self.model, self.images[at], self.labels[at], sees, threat, self.ids[at.cpu()], stop
        )
        self.found["search", *key] = (at, adversarial)
        return adversarial

    def judge(self, adversarial, attack, at):
        with torch.no_grad(), self.model.exactly():
            logits = self.model.logits(adversarial, self.features[attack.judged])
        return logits.argmax(dim=1), margin(logits, self.labels[at])

    def worst(self, parts):
        """Worst case over attacks, cheapest first: each part attacks only what the parts before it have left standing."""
        outcome = Outcome(self.clean.prediction.clone(), self.clean.margin.clone(), [""] * len(self.labels))
        standing = self.clean.prediction == self.labels
        for row in (~standing).nonzero()[:, 0].tolist():
            outcome.broken_by[row] = "clean"
        for part in map(find, parts):
            rows = standing.nonzero()[:, 0]
            if not len(rows):
                break
            key = (part.image, part.sees, part.judged, part.preset)
            under = self.found.get(key) or self.leaf(part, rows)
            broken = standing & (under.prediction != self.labels)
            outcome.prediction[broken], outcome.margin[broken] = under.prediction[broken], under.margin[broken]
            standing = standing & ~broken
            outcome.margin[standing] = torch.maximum(outcome.margin, under.margin)[standing]
            for row in broken.nonzero()[:, 0].tolist():
                outcome.broken_by[row] = part.name
        return outcome


def whole_searches(attacks):
    """Searches whose result is judged with other prompts than they saw: these must not stop once a sample is broken."""
    return {(a.image, a.sees, a.preset) for a in attacks if a.image and a.sees != a.judged}


def alternate(model, prompts, attacker, threat, frozen=None, class_names=None):
    """Prompts of the `joint` attack: text attack by margin and image attack in turn, on labelled pictures of the train split.

    Each round the text attack takes the prompts that flip most of the attacker's pictures as they are now perturbed, and the
    image attack perturbs these pictures against the new prompts; it ends when no prompt changes, or after five rounds.

    Arguments:
        attacker: `Dataset` of the pictures; their prompts are not used.

    Returns (`TextAttack`, {"rounds": int, "converged": bool}).
    """
    images, labels = attacker.images[: threat.attacker_images].to(model.device).float() / 255, attacker.labels.to(model.device)
    labels = labels[: len(images)]
    if threat.attacked_space == "model":
        images = model.resized(images)
    by_margin, perturbed, before = threat.changed(text_score="margin"), images, None
    for done in range(1, ROUNDS + 1):
        with torch.no_grad():
            seen = LabelledFeatures(model.encode_image(perturbed), labels)
        text = attack_prompts(model, prompts, by_margin, frozen, class_names, seen)
        if text.prompts == before:
            return text, {"rounds": done, "converged": True}
        before = text.prompts
        with torch.no_grad():
            features = model.encode_text(text.prompts)
        perturbed = pgd(model, images, labels, features, threat, attacker.ids[: len(images)], stop=True)
    return text, {"rounds": ROUNDS, "converged": False}
