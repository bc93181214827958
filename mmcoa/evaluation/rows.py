"""Result rows: what was asked, under which threat model, and the answer with its interval. Columns: results/README.md.

`threat` holds the fields of the threat model that the attack used, and no others; `threat_text` says the same in a sentence.
Every field is also a column of its own, None where the attack does not use it.
"""

from mmcoa.attacks.catalog import FIELDS, find, versions
from mmcoa.attacks.multimodal import AGAIN
from mmcoa.attacks.relations import RELATIONS
from mmcoa.datasets.roles import role
from mmcoa.evaluation.at_test import identity as identity_at_test
from mmcoa.evaluation.statistics import wilson
from mmcoa.store.files import digest
from mmcoa.versions import EVALUATION


def task_of(trained_on, dataset):
    """`zero_shot` for a model that was not fine-tuned, else whether it was on this data set."""
    return "zero_shot" if not trained_on else "in_distribution" if trained_on == dataset else "out_of_distribution"


def shares(found):
    """Percent of the class prompts that `TextAttack`s changed by words of their source or of its fall-back, could have changed,
    found no word of their source for, and changed by each relation.

    Of several attacks in a worst case: of the one that changed most. Empty but for `share_changed`, 0, where there is none.
    """
    most = max(found, key=lambda text: text.share_changed + text.share_fallback, default=None)
    more = ("share_changeable", "share_fallback", "share_unknown")
    values = dict.fromkeys((*more, *(f"share_{name}" for name in RELATIONS)))
    if most is not None:
        by = {f"share_{name}": round(share, 2) for name, share in most.share_by_relation.items()}
        values = {name: round(getattr(most, name), 2) for name in more} | by
    return {"share_changed": round(most.share_changed, 2) if most else 0.0} | values


def counted(outcomes, name):
    """Columns of a row that are counted from per-sample outcomes: accuracy (%) with its 95 % interval, `correct` of `n`."""
    correct, n = int(outcomes[f"{name}_correct"].sum()), len(outcomes)
    low, high = wilson(correct, n)
    return {"accuracy": 100 * correct / n, "correct": correct, "n": n, "ci_low": low, "ci_high": high}


def ends(attack, names, target, outcomes):
    """Where an attack that aims at one class has led: {"target_rate", "target_rate_clean"}; nothing without a target.

    Percent of the samples of all other classes whose prediction is the target under one of the outcomes `names`, and without an
    attack (None where that was not evaluated). Both None for an attack that does not aim, for a worst case, whose parts differ
    in that, and where all samples are of the target class. target: number of the class, or None.
    """
    if target is None:
        return {}
    others = outcomes[outcomes.label != target]
    if "target" not in attack.uses or attack.parts or not len(others):
        return {"target_rate": None, "target_rate_clean": None}
    led = (others[[f"{name}_prediction" for name in names]] == target).any(axis=1)
    before = 100 * float((others.clean_prediction == target).mean()) if "clean_prediction" in others else None
    return {"target_rate": 100 * float(led.mean()), "target_rate_clean": before}


def make_row(model, dataset, attack, parts, threat, outcomes, texts, seconds, hashes, check, defense=None, name=None):
    """One result row.

    Arguments:
        parts: names of the attacks of which `attack` is the worst case here, empty for others.
        outcomes: per-sample outcomes (outcomes.py); texts: {"text" or "joint": `TextAttack`}.
        seconds: {attack: seconds}; hashes: of model and data set; check: (verdict, samples) of the self-checks.
        defense: `AtTest`, where a test-time defence answers; name: of the outcomes, where it is not the attack's.
    """
    meta = model.metadata
    name = name or attack.name
    trained_on, base_model = meta.get("trained_on", ""), meta.get("base_model", model.name)
    used = attack.settings(threat, parts, len(dataset.class_names))
    leaves = [find(name) for name in parts] or [attack]
    precision = model.precision if any(leaf.image for leaf in leaves) else ""
    identity = {
        **hashes,
        "attack": attack.name,
        "parts": list(parts),
        "seed": threat.seed,
        "threat": used,
        "precision": precision,
        **identity_at_test(defense),
        **({"name": name} if name != attack.name else {}),
        **({"again": AGAIN} if precision not in ("", "fp32") else {}),
    }
    identity["versions"] = {"evaluation": EVALUATION, **versions([attack.name, *parts])}
    return {
        "model": model.name,
        "defense": meta.get("defense", "none"),
        "base_model": base_model,
        "trained_on": trained_on,
        "task": task_of(trained_on, dataset.name),
        "role": role(dataset.name, base_model, trained_on),
        "dataset": dataset.name,
        "split": dataset.split,
        "classes": len(dataset.class_names),
        "attack": name,
        **counted(outcomes, name),
        **{name: used.get(name) for name in FIELDS},
        "threat": used,
        "threat_text": attack.describe(threat, parts, len(dataset.class_names)),
        "parts": ", ".join(parts),
        **shares([texts[leaf.judged] for leaf in leaves if leaf.judged in texts]),
        "precision": precision if precision != "bf16" else f"bf16; 1 in {AGAIN} of those left standing again in fp32",
        "check": check[0],
        "check_n": check[1],
        "prompts": dataset.prompt_preset,
        "transform": dataset.transform,
        "skipped": dataset.skipped,
        "resize": model.resize,
        "train_seed": meta.get("train_seed", 0),
        "attack_seed": threat.seed,
        "seed": threat.seed,
        "config_hash": digest(identity)[:16],
        "device": str(model.device),
        "seconds": round(seconds, 3),
    }
