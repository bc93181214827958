"""Clean and robust accuracy, sample by sample.

    rows = mmcoa.evaluate(model, dataset, attacks=["clean", "image", "text", "multimodal"])

A sample that the model gets wrong without any attack counts as wrong under every attack (the adversary may do nothing),
and is not attacked (trap I8). Where the text alone breaks a sample, no image attack on the same prompts is run on it.
"""

import hashlib
import json
import time
from collections import defaultdict

import pandas as pd
import torch

from mmcoa.attacks.catalog import find
from mmcoa.attacks.multimodal import attack_batch
from mmcoa.attacks.text import attack_prompts
from mmcoa.clip import load_model
from mmcoa.errors import UserError
from mmcoa.statistics import wilson
from mmcoa.threat import default_threat

SCHEMA_VERSION = 1


class Evaluation(list):
    """Result rows (dicts, one an attack), with `.outcomes` and `.changes`.

    `outcomes`: DataFrame, one row a sample: sample_id, label and for each attack `<attack>_prediction` and
    `<attack>_correct`. `changes`: one dict a class prompt, what the text attack did (empty where it was not run).
    """

    def __init__(self, rows, outcomes, changes):
        super().__init__(rows)
        self.outcomes, self.changes = outcomes, changes


def evaluate(model, dataset, attacks=("clean", "image", "text", "multimodal"), threat=None, batch_size=64, progress=None):
    """Accuracy of a model on a data set under attacks.

    Arguments
        model: `ImageTextModel`; weights are not changed.
        dataset: `Dataset`.
        attacks: names of `mmcoa.attacks.catalog`.
        threat: `ThreatModel`; default `default_threat(model)`.
        batch_size: samples attacked at once; it does not influence the outcomes.
        progress: called with (samples done, samples in all).

    Returns an `Evaluation`. Raises `UserError` for an unknown attack or an empty data set.
    """
    threat = threat or default_threat(model)
    asked = [find(name) for name in dict.fromkeys(attacks)]
    if not len(dataset) or not dataset.prompts:
        raise UserError(f"data set '{dataset.name}' has {len(dataset)} samples and {len(dataset.prompts)} classes: nothing to evaluate")
    run = [find(name) for name in dict.fromkeys(name for attack in asked for name in (attack.parts or (attack.name,)))]
    model.requires_grad_(False)
    seconds = defaultdict(float)
    with torch.no_grad():
        clean = model.encode_text(dataset.prompts)
    text = adversarial = None
    if any(attack.text for attack in run):
        began = time.monotonic()
        text = attack_prompts(model, dataset.prompts, threat, lambda: frozen_model(model))
        with torch.no_grad():
            adversarial = model.encode_text(text.prompts)
        seconds["text"] += time.monotonic() - began
    columns = defaultdict(list)
    for start in range(0, len(dataset), batch_size):
        index = slice(start, start + batch_size)
        images = dataset.images[index].to(model.device).float() / 255
        if threat.attacked_space == "model":
            images = model.resized(images)
        labels, ids = dataset.labels[index].to(model.device), dataset.ids[index]
        for name, prediction in attack_batch(model, images, labels, ids, clean, adversarial, run, threat, seconds).items():
            columns[name].append(prediction.cpu())
        if progress:
            progress(min(start + batch_size, len(dataset)), len(dataset))
    outcomes = collect(dataset, {name: torch.cat(parts) for name, parts in columns.items()}, asked)
    hashes = {"model": model.fingerprint(), "dataset": dataset.fingerprint()}
    rows = [make_row(model, dataset, attack, threat, outcomes, text, seconds, hashes) for attack in asked]
    changes = [{"class_name": name, **change} for name, change in zip(dataset.class_names, text.changes, strict=True)] if text else []
    return Evaluation(rows, outcomes, changes)


def collect(dataset, predictions, asked):
    """Outcomes of all samples: `<attack>_prediction` and `<attack>_correct` for each attack that was asked for."""
    outcomes = pd.DataFrame({"sample_id": dataset.ids.numpy(), "label": dataset.labels.numpy()})
    right = {name: (values == dataset.labels).numpy() for name, values in predictions.items()}
    for attack in asked:
        if attack.parts:
            worst = pd.Series(True, outcomes.index)
            for part in attack.parts:
                worst &= right[part]
            outcomes[f"{attack.name}_correct"] = worst
        else:
            outcomes[f"{attack.name}_prediction"] = predictions[attack.name].numpy().astype("int32")
            outcomes[f"{attack.name}_correct"] = right[attack.name] & right["clean"]
    return outcomes


def make_row(model, dataset, attack, threat, outcomes, text, seconds, hashes):
    """One result row; columns are explained in results/README.md."""
    meta = model.metadata
    correct, n = int(outcomes[f"{attack.name}_correct"].sum()), len(outcomes)
    low, high = wilson(correct, n)
    trained_on = meta.get("trained_on", "")
    parts = [find(name) for name in attack.parts] or [attack]
    images, texts = any(part.image for part in parts), any(part.text for part in parts)
    settings = {
        "epsilon": threat.epsilon if images else 0.0,
        "norm": threat.norm if images else "",
        "step_size": (threat.epsilon if attack.image == "fgsm" else threat.step_size) if images else 0.0,
        "steps": (1 if attack.image == "fgsm" else threat.steps) if images else 0,
        "restarts": threat.restarts if images else 0,
        "attacked_space": threat.attacked_space if images else "",
        "candidate_source": threat.candidate_source if texts else "",
        "text_budget": int(texts),
        "share_changed": round(text.share_changed, 2) if texts else 0.0,
    }
    identity = {**hashes, "attack": attack.name, "seed": threat.seed, **settings}
    return {
        "model": model.name,
        "defense": meta.get("defense", "none"),
        "base_model": meta.get("base_model", model.name),
        "trained_on": trained_on,
        "task": "zero_shot" if not trained_on else "in_distribution" if trained_on == dataset.name else "out_of_distribution",
        "dataset": dataset.name,
        "split": dataset.split,
        "classes": len(dataset.class_names),
        "attack": attack.name,
        "accuracy": 100 * correct / n,
        "correct": correct,
        "n": n,
        "ci_low": low,
        "ci_high": high,
        **settings,
        "resize": model.resize,
        "train_seed": meta.get("train_seed", 0),
        "attack_seed": threat.seed,
        "seed": threat.seed,
        "config_hash": hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16],
        "device": str(model.device),
        "seconds": round(sum(seconds[part.name] for part in parts), 3),
        "schema_version": SCHEMA_VERSION,
    }


def frozen_model(model):
    """The model before fine-tuning, whose token embedding gives `neighbours`; the model itself where it has no base."""
    base = model.metadata.get("base_model")
    if not base or base == model.name:
        return model
    try:
        return load_model(base, model.device)
    except UserError:
        return model
