"""What one model makes of the pictures of one data set, without attack and under three, as the evaluation attacks them.

Prompts, random starts and searches are those of `mmcoa.evaluate`; only, there a search ends once a picture is broken, and a
picture that changed prompts have broken already is left alone. Here each search runs to its end, so that there is something
to see.
"""

from dataclasses import dataclass

import torch

from mmcoa.attacks.catalog import find
from mmcoa.attacks.multimodal import AttackedBatch
from mmcoa.evaluation.loop import check_dataset
from mmcoa.evaluation.prompts import prompt_features
from mmcoa.gallery.identity import ATTACKS

TOP = 5
BATCH = 64  # pictures attacked at once; no influence on the outcomes


@dataclass(frozen=True)
class Attacked:
    """Outcomes of N pictures with C classes.

    dataset: the `Dataset`; clean: pictures float [N, 3, H, W] in [0,1]; adversarial: {attack: pictures} of those that change
        them.
    probabilities: {attack: float [N, C]} over the class prompts; right: {attack: bool [N]}, right under the attack and
        without it.
    changes: what the text attack did to each class prompt (of an ensemble to the first), C dicts; threat: `ThreatModel`.
    """

    dataset: object
    clean: torch.Tensor
    adversarial: dict
    probabilities: dict
    right: dict
    changes: list
    threat: object

    def outcome(self, place):
        """{attack: whether the picture is right under it} of one picture."""
        return {name: bool(right[place]) for name, right in self.right.items()}

    def prediction(self, name, place):
        """Of one picture under one attack: `top`, the likeliest classes [name, probability], `others`, the sum over the rest;
        `label`, what is known of its true class; and `correct`, as `right` has it."""
        found = self.probabilities[name][place].double()
        label = int(self.dataset.labels[place])
        order = found.argsort(descending=True, stable=True)
        top = [[self.dataset.class_names[i], round(float(found[i]), 6)] for i in order[:TOP].tolist()]
        own = {"rank": int((order == label).nonzero()) + 1, "probability": round(float(found[label]), 6)}
        rest = max(0.0, round(1 - sum(probability for _, probability in top), 6))
        return {"top": top, "others": rest, "label": own, "correct": bool(self.right[name][place])}

    def distance(self, name, place):
        """Size of the perturbation in the norm of the threat model, pixel units of [0,1]."""
        delta = self.adversarial[name][place] - self.clean[place]
        return float(delta.abs().max() if self.threat.norm == "linf" else delta.norm())


def attack(model, dataset, threat, attacker=None):
    """`Attacked` for all pictures of a data set.

    Arguments:
        attacker: labelled pictures (`Dataset`) where the text attack's score is `margin`.
    """
    check_dataset(model, dataset)
    model.requires_grad_(False)
    leaves = [find(name) for name in ATTACKS]
    features, texts, _ = prompt_features(model, dataset, leaves, threat, attacker)
    parts = [
        _batch(model, dataset.take(slice(start, start + BATCH)), features, threat) for start in range(0, len(dataset), BATCH)
    ]
    clean = torch.cat([images for images, _, _ in parts])
    adversarial = {name: torch.cat([found[name] for _, found, _ in parts]) for name in parts[0][1]}
    probabilities = {name: torch.cat([found[name] for _, _, found in parts]) for name in ATTACKS}
    hit = {name: found.argmax(dim=1) == dataset.labels for name, found in probabilities.items()}
    right = {name: found & hit["clean"] for name, found in hit.items()}
    return Attacked(
        dataset, clean, adversarial, probabilities, right, texts["text"].changes[: len(dataset.class_names)], threat
    )


def _batch(model, dataset, features, threat):
    """(clean pictures, {attack: adversarial pictures}, {attack: probabilities}) of one batch, on the CPU."""
    images = dataset.images[:].to(model.device).float() / 255
    if threat.attacked_space == "model":
        images = model.resized(images)
    leaves = [find(name) for name in ATTACKS]
    whole = {leaf.search for leaf in leaves}  # no search ends before its time
    batch = AttackedBatch(model, images, dataset.labels.to(model.device), dataset.ids, features, threat, whole)
    everyone = torch.arange(len(dataset), device=model.device)
    adversarial, probabilities = {}, {}
    for leaf in leaves:
        if leaf.image:
            adversarial[leaf.name] = batch.search(leaf, everyone)
        with torch.no_grad():
            logits = model.logits(adversarial.get(leaf.name, images), features[leaf.judged]).float()
        probabilities[leaf.name] = logits.softmax(dim=1).cpu()
    return images.cpu(), {name: pictures.cpu() for name, pictures in adversarial.items()}, probabilities
