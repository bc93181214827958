"""Accuracy on a slice of the training set that is not trained on: what a model is selected by, never the test set."""

import torch

from mmcoa.attacks.pgd import pgd
from mmcoa.attacks.prefix import encode_texts
from mmcoa.attacks.text import search
from mmcoa.datasets.order import balanced_order, few_shot
from mmcoa.defenses._features import class_features
from mmcoa.defenses.mmcoa import prompt_variants
from mmcoa.errors import UserError

BATCH = 64
STEPS = 10  # of the image attack here, whatever the training's own
MEASURED = ("clean", "image", "text", "robust")


def split(dataset, count, shots=None, samples=None, seed=0):
    """(part to train on, part held out), disjoint, both drawn class by class; the same for every defence.

    Arguments:
        dataset: a train split.
        count: samples to hold out; at most a fifth of what is there, of a few-shot run no more than it trains on.
        shots: train on so many of each class; samples: on so many at most.

    Raises `UserError` where a class has fewer samples than shots.
    """
    order = balanced_order(dataset.labels, seed)
    if shots is not None:
        counts = torch.bincount(dataset.labels, minlength=len(dataset.class_names))
        fewest = int(counts.argmin())
        if counts[fewest] < shots:
            name, there = dataset.class_names[fewest], int(counts[fewest])
            raise UserError(
                f"{shots} shots were asked for, but class '{name}' of '{dataset.name}' has {there} training samples"
            )
        chosen = few_shot(dataset.labels, order, shots)[:samples]
        rest = order[~torch.isin(order, chosen)]
        return dataset.take(chosen), dataset.take(rest[: min(count, len(chosen))])
    count = min(count, len(order) // 5)
    return dataset.take(order[count:][:samples]), dataset.take(order[:count])


def measure(model, dataset, threat, frozen):
    """Percent right: `clean`, under the `image` attack, under the `text` attack, and under each of the two (`robust`).

    threat: the inner attack's; the image attack takes ten steps here, the text attack the training's own candidates.
    """
    threat = threat.changed(seed=0)
    text = class_features(model, dataset.prompts)
    changed = search(
        model, prompt_variants(tuple(dataset.prompts), threat, frozen, model.tokenizer), threat.changed(text_score="embedding")
    )
    attacked_text = encode_texts(model, changed.prompts)
    survives = {name: [] for name in ("clean", "image", "text")}
    for rows in torch.arange(len(dataset)).split(BATCH):
        images, labels = dataset.images[rows].to(model.device).float() / 255, dataset.labels[rows].to(model.device)
        adversarial = pgd(model, images, labels, text, threat.changed(steps=STEPS), dataset.ids[rows], stop=True)
        with torch.no_grad():
            survives["clean"].append(model.logits(images, text).argmax(dim=1) == labels)
            survives["image"].append(model.logits(adversarial, text).argmax(dim=1) == labels)
            survives["text"].append(model.logits(images, attacked_text).argmax(dim=1) == labels)
    right = {name: torch.cat(parts) for name, parts in survives.items()}
    right["image"] &= right["clean"]
    right["text"] &= right["clean"]
    right["robust"] = right["image"] & right["text"]
    return {name: round(100 * flags.float().mean().item(), 2) for name, flags in right.items()}
