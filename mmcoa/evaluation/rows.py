"""Result rows: what was asked, under which threat model, and the answer with its interval. Columns: results/README.md."""

import hashlib
import json

from mmcoa.attacks.catalog import find
from mmcoa.evaluation.statistics import wilson
from mmcoa.threat import preset

SCHEMA_VERSION = 3


def attack_settings(attack, parts, threat, classes):
    """What of the threat model an attack uses, as columns; nothing where it leaves images or prompts alone."""
    leaves = [find(name) for name in parts] if attack.parts else [attack]
    images, texts = [leaf for leaf in leaves if leaf.image], [leaf for leaf in leaves if leaf.judged != "clean"]
    functions = {leaf.image for leaf in images}
    used = preset(threat, attack.preset)
    budgets = [1 if leaf.image == "fgsm" else getattr(threat, leaf.budget) for leaf in images if leaf.image != "square"]
    targets = min(threat.targets or 9, classes - 1) if "apgd-dlr-t" in functions else threat.targets
    return {
        "epsilon": threat.epsilon if images else 0.0,
        "norm": threat.norm if images else "",
        "step_size": _step_size(functions, used),
        "steps": max(budgets, default=0),
        "restarts": threat.restarts if functions - {"fgsm"} else 0,
        "keep": used.keep if images else "",
        "targets": targets if images else 0,
        "queries": threat.queries if "square" in functions else 0,
        "attacked_space": threat.attacked_space if images else "",
        "candidate_source": threat.candidate_source if texts else "",
        "text_budget": threat.text_budget if texts else 0,
        "beam": threat.beam if texts and threat.text_budget > 1 else 0,
        "text_score": _text_score(texts, threat),
        "attackable": threat.attackable if texts else "",
        "min_similarity": threat.min_similarity if texts else None,
    }


def _step_size(functions, threat):
    """Of PGD and its like; epsilon for FGSM; 0 where the attack chooses its own steps (APGD, Square) or takes none."""
    if functions == {"fgsm"}:
        return threat.epsilon
    return threat.step_size if functions & {"pgd", "cw", "feature", "feature-l2", "co_attack"} else 0.0


def _text_score(texts, threat):
    scores = {"margin" if leaf.judged == "joint" else threat.text_score for leaf in texts}
    return " and ".join(sorted(scores))


def task_of(trained_on, dataset):
    """`zero_shot` for a model that was not fine-tuned, else whether it was on this data set."""
    return "zero_shot" if not trained_on else "in_distribution" if trained_on == dataset else "out_of_distribution"


def make_row(model, dataset, attack, parts, threat, outcomes, shares, seconds, hashes, check):
    """One result row.

    Arguments:
        parts: names of the attacks of which `attack` is the worst case here, empty for others.
        outcomes: per-sample outcomes (outcomes.py); shares: {"text" or "joint": percent of prompts changed}.
        seconds: {attack: seconds}; hashes: of model and data set; check: (verdict, samples) of the self-checks.
    """
    meta = model.metadata
    correct, n = int(outcomes[f"{attack.name}_correct"].sum()), len(outcomes)
    low, high = wilson(correct, n)
    trained_on = meta.get("trained_on", "")
    settings = attack_settings(attack, parts, threat, len(dataset.class_names))
    judged = {find(name).judged for name in parts} if attack.parts else {attack.judged}
    settings["share_changed"] = round(max((shares[kind] for kind in judged if kind in shares), default=0.0), 2)
    settings["precision"] = model.precision if settings["steps"] or settings["queries"] else ""
    identity = {**hashes, "attack": attack.name, "parts": list(parts), "seed": threat.seed, **settings}
    return {
        "model": model.name,
        "defense": meta.get("defense", "none"),
        "base_model": meta.get("base_model", model.name),
        "trained_on": trained_on,
        "task": task_of(trained_on, dataset.name),
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
        "check": check[0],
        "check_n": check[1],
        "prompts": dataset.prompt_preset,
        "transform": dataset.transform,
        "skipped": dataset.skipped,
        "resize": model.resize,
        "train_seed": meta.get("train_seed", 0),
        "attack_seed": threat.seed,
        "seed": threat.seed,
        "config_hash": hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16],
        "device": str(model.device),
        "seconds": round(seconds, 3),
        "schema_version": SCHEMA_VERSION,
    }
