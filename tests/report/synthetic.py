"""A clearly synthetic study: real cells and hashes, made-up outcomes. Nothing in it was measured."""

import hashlib

import numpy as np
import pandas as pd
from mmcoa.study.records import write_record
from mmcoa.study.sources import model_hash

from mmcoa.attacks.catalog import find
from mmcoa.datasets import openmoji
from mmcoa.evaluation.rows import attack_settings
from mmcoa.evaluation.statistics import wilson
from mmcoa.prompts import class_prompts
from mmcoa.study.cells import Cell, expand, study_models
from mmcoa.study.gallery import choice
from mmcoa.study.gallery.attacked import ATTACKS as SHOWN_ATTACKS
from mmcoa.study.gallery.compute import write as write_gallery_files
from mmcoa.study.gallery.identity import SCHEMA_VERSION
from mmcoa.study.gallery.identity import SETTINGS as GALLERY_SETTINGS
from mmcoa.study.profiles import load_profile
from mmcoa.study.settings import EVALUATE_DEFAULTS, THREAT_FIELDS
from mmcoa.threat import ThreatModel
from mmcoa.training.faults import FAULTS

PROFILE = """
name: {name}
base_model: {base_model}
device: cpu
train: {{dataset: {trained}, steps: 2, batch_size: 8, inner_steps: 1, epsilon: 2/255}}
models:
  - {{defense: none}}
  - {{defense: tecoa, seeds: [0]}}
  - {{defense: mmcoa, seeds: [0, 1]}}
{entries}evaluate: {{datasets: [{datasets}], split: test, samples: {samples}, attacks: [{attacks}], epsilon: 2/255}}
"""
SWEEPS = """
sweeps:
  - {{name: attacks, models: [none, mmcoa], samples: {fewer}, attacks: [{all_attacks}]}}
  - {{name: epsilon, models: [{bent}], samples: {fewer}, attacks: [image, sequential], vary: {{epsilon: [1/255, 2/255, 4/255, 8/255]}}}}
  - {{name: steps, models: [none], samples: {fewer}, attacks: [image], vary: {{steps: [1, 5, 10, 50]}}}}
  - {{name: restarts, models: [none], samples: {fewer}, attacks: [image], vary: {{restarts: [1, 3]}}}}
  - {{name: budget, models: [none], samples: {fewer}, attacks: [text, sequential], vary: {{text_budget: [1, 2, 3]}}}}
  - {{name: source, models: [none], samples: {fewer}, attacks: [text], vary: {{candidate_source: ["table:eval", neighbours, characters]}}}}
  - {{name: words, models: [none], samples: {fewer}, attacks: [text], vary: {{attackable: [content, class_name]}}}}
"""
ENTRIES = """
  - {defense: image_only, lr: 0.001, seeds: [0, 1]}
  - {defense: image_only, name: image_only-matched, steps: 4, seeds: [0, 1]}
  - {defense: tecoa, name: tecoa-in, task: in_distribution, datasets: [openmoji/birds, openmoji/tools], seeds: [0, 1]}
  - {defense: mmcoa, name: mmcoa-in, task: in_distribution, datasets: [openmoji/birds, openmoji/tools], seeds: [0, 1]}
  - {defense: image_only, name: image_only-in, task: in_distribution, datasets: [openmoji/birds], seeds: [0, 1]}
  - {defense: tecoa, name: tecoa-1shot, task: in_distribution, datasets: [openmoji/birds], shots: 1, seeds: [0, 1]}
  - {defense: tecoa, name: tecoa-4shot, task: in_distribution, datasets: [openmoji/birds], shots: 4, seeds: [0, 1]}
  - {defense: mmcoa, name: mmcoa-1shot, task: in_distribution, datasets: [openmoji/birds], shots: 1, seeds: [0, 1]}
  - {defense: mmcoa, name: mmcoa-4shot, task: in_distribution, datasets: [openmoji/birds], shots: 4, seeds: [0, 1]}
"""
DATASETS = ("openmoji/birds", "openmoji/land-vehicles", "openmoji/tools")
ATTACKS = ("clean", "image", "text", "sequential")
ALL_ATTACKS = (
    *(
        "clean",
        "pgd",
        "pgd-reference",
        "fgsm",
        "cw",
        "apgd-ce",
        "apgd-dlr",
        "apgd-dlr-t",
        "feature",
        "feature-l2",
        "square",
        "auto",
    ),
    *("text", "independent", "sequential", "joint", "co_attack", "multimodal"),
)
CHANCE = {  # made up: chance of a right prediction without attack, under attacks on pictures, on prompts, on both
    "none": (0.93, 0.6, 0.26, 0.12),
    "tecoa": (0.91, 0.7, 0.26, 0.16),
    "image_only": (0.9, 0.72, 0.25, 0.15),
    "mmcoa": (0.87, 0.66, 0.41, 0.25),
}
STRENGTH = {
    "pgd-reference": 0.15,
    "fgsm": 0.2,
    "feature": 0.1,
    "square": 0.25,
    "apgd-ce": -0.02,
    "auto": -0.05,
    "multimodal": -0.04,
}
PARTS = {
    "auto": ("apgd-ce", "apgd-dlr-t", "square"),
    "multimodal": ("clean", "text", "image", "sequential", "joint", "independent"),
}


def write_profile(
    folder,
    base_model="openmoji-clip",
    datasets=DATASETS,
    attacks=ATTACKS,
    samples=24,
    sweeps=True,
    name="synthetic",
    trained="openmoji/birds",
    entries="",
):
    """Write the profile and return its path; `base_model` may be a checkpoint folder; `entries`: more models, such as ENTRIES."""
    path = folder / f"{name}.yaml"
    lists = {"datasets": ", ".join(datasets), "attacks": ", ".join(attacks), "all_attacks": ", ".join(ALL_ATTACKS)}
    lists |= {
        "trained": trained,
        "entries": entries.strip("\n") + "\n" if entries else "",
        "bent": "none, mmcoa, image_only" if entries else "none",
    }
    text = PROFILE + SWEEPS if sweeps else PROFILE
    path.write_text(text.format(name=name, base_model=base_model, samples=samples, fewer=max(1, samples // 2), **lists))
    return path


def write_results(profile, results):
    """Write made-up records and outcomes for every cell of a profile; returns the results folder of the profile."""
    profile = load_profile(profile)
    folder, trained = results / profile.name, {}
    for cell in expand(profile, results=results):
        made = {"device": "cpu", "threads": 1, "seconds": 2.0, "seed": 0, "synthetic": True}
        if cell.kind == "train":
            trained[cell.model] = cell.parameters
            write_record(folder, cell, made, training={"seconds": 1.5, "images": 16})
        else:
            settings = trained.get(cell.model, {})
            bonus = 0.02 * np.log2(settings["shots"] / 16) if settings.get("shots") else 0.0
            write_evaluation(folder, cell, made, profile.base_model, bonus=bonus, trained_on=settings.get("dataset", ""))
    return folder


def random(*key):
    """A generator that depends on the key alone: two evaluations of a model are about the same pictures."""
    return np.random.default_rng(int.from_bytes(hashlib.blake2b(repr(key).encode(), digest_size=4).digest(), "big"))


def write_evaluation(folder, cell, made, base_model, like=None, bonus=0.0, trained_on="openmoji/others"):
    """One made-up evaluate record with its outcomes; returns its rows.

    like: model whose luck with the pictures it shares, DEFENCE-seedN; bonus: added to every chance of a right prediction.
    """
    like = like or cell.model
    settings, defense = cell.parameters, like.split("-")[0]
    records = openmoji.glyph_records()
    names = [records[i]["name"] for i in openmoji.glyph_indices(settings["dataset"].removeprefix("openmoji/"))]
    n = settings["samples"]
    threat = ThreatModel(**{key: settings[key] for key in THREAT_FIELDS if settings[key] is not None})
    outcomes = pd.DataFrame({"sample_id": np.arange(n), "label": np.arange(n) % len(names)})
    rows, luck = [], random(like, settings["dataset"]).random(1000)[:n]
    right = luck < CHANCE[defense][0] + bonus
    for attack in settings["attacks"]:
        blur = 0.05 * random(cell.model, settings["dataset"], attack).random(1000)[:n]
        limit = chance(find(attack), defense, threat) + bonus + 0.025
        correct = right & (luck + blur < limit) if attack != "clean" else right
        outcomes[f"{attack}_correct"] = correct
        outcomes[f"{attack}_prediction"] = outcomes.label
        rows.append(make_row(cell, base_model, defense, find(attack), threat, int(correct.sum()), n, len(names), trained_on))
    (folder / "outcomes").mkdir(parents=True, exist_ok=True)
    outcomes.to_parquet(folder / "outcomes" / f"{cell.id}.parquet")
    edited = any(find(attack).text for attack in settings["attacks"])
    changes = [make_change(index, name, threat) for index, name in enumerate(names)] if edited else []
    checks = make_checks(cell.model) if not cell.sweep else []
    write_record(folder, cell, made, rows, changes, checks=checks, notes=[])
    return rows


def chance(attack, defense, threat):
    """Made up: stronger with every setting."""
    pictures, prompts = any(find(part).image for part in attack.parts) or attack.image, attack.text
    found = CHANCE[defense][(1 if pictures else 0) + (2 if prompts else 0)] + STRENGTH.get(attack.name, 0)
    if pictures:
        found -= 0.08 * np.log2(threat.epsilon * 255 / 2) + 0.02 * np.log2(threat.steps / 10) + 0.01 * (threat.restarts - 1)
    if prompts:
        found -= 0.05 * (threat.text_budget - 1) - 0.1 * (threat.attackable == "class_name")
        found += {"characters": 0.07, "neighbours": -0.06}.get(threat.candidate_source, 0)
    return float(np.clip(found, 0.01, 0.97))


def make_row(cell, base_model, defense, attack, threat, correct, n, classes, trained_on):
    low, high = wilson(correct, n)
    dataset = cell.parameters["dataset"]
    task = "zero_shot" if not trained_on else "in_distribution" if trained_on == dataset else "out_of_distribution"
    row = dict(model=cell.model, defense=defense, base_model=base_model, trained_on=trained_on, task=task, dataset=dataset)
    row |= dict(split="test", classes=classes, attack=attack.name, accuracy=100 * correct / n, correct=correct, n=n)
    row |= dict(ci_low=low, ci_high=high, **attack_settings(attack, PARTS.get(attack.name, ()), threat, classes))
    row |= dict(share_changed=100.0 if attack.text else 0.0, precision="fp32", check="ok", check_n=20)
    row |= dict(resize="openclip", train_seed=0, attack_seed=0, seed=0, config_hash="synthetic", device="cpu", seconds=0.1)
    return row | {"schema_version": 2, "sweep": cell.sweep, "sweep_value": cell.sweep_value}


def make_change(index, name, threat):
    """The template's word for every other class, a word of the class name for the rest; both where two words may change."""
    prompt = class_prompts([name], "This is a photo of a {}")[0]
    template = {"position": 3, "old_word": "photo", "new_word": "snapshot"}
    of_name = {"position": 6, "old_word": prompt.split()[6], "new_word": "thing"}
    edits = [of_name] if threat.attackable == "class_name" or index % 2 else [template]
    edits = [template, of_name] if threat.text_budget > 1 else edits
    words = prompt.split()
    for edit in edits:
        words[edit["position"]] = edit["new_word"]
        edit["source"] = threat.candidate_source
    change = dict(
        class_name=name, attack="text", prompt=prompt, adversarial_prompt=" ".join(words), changed=True, edits=edits, **edits[0]
    )
    return change | dict(score=0.5, similarity=None, variants=20, collisions_avoided=0)


def make_checks(model):
    """Two searches, all well but one check of one model."""
    checks = []
    for attack, check, value, limit, words in (
        ("pgd", "twice the steps", 11, 12, "more steps help the defender"),
        ("pgd", "without a bound", 0, 1, "a perturbation without bound leaves samples right"),
        ("text", "one more word", 4, 6, "more words help the defender"),
        ("text", "prompts changed (%)", 98.0, 50.0, "most prompts have no word to change"),
    ):
        passed = not (model == "mmcoa-seed1" and check == "twice the steps")
        item = dict(attack=attack, check=check, value=value if passed else limit + 2, limit=limit, passed=passed, n=20)
        checks.append(item | {"verdict": "ok" if passed else words})
    return checks


STRENGTH_CSV = """attack,norm,epsilon,steps,dataset,model,n,ours_robust,theirs_robust,difference_points,implementation,version,agrees,command
pgd,linf,2/255,10,openmoji/birds,openmoji-clip,100,60.0,60.0,0.0,torchattacks,3.5.1,True,python benchmarks/strength.py
apgd-ce,l2,0.2,50,openmoji/birds,openmoji-clip,100,57.0,55.0,2.0,torchattacks,3.5.1,no: 2.0 points above,python benchmarks/strength.py
"""
SPEED_CSV = """what,setting,ours,baseline,ratio,unit,target,versions,hardware
PGD step,batch 64,0.2,0.8,4.0,s a step,3.5x,torch 2.8,2 CPU cores
text attack,100 prompts,12.3,110.7,9.0,s,10x,torch 2.8,2 CPU cores
PGD image-steps,batch 64,350,,,1/s,,torch 2.8,2 CPU cores
peak memory of an evaluation,5000 samples,1400.0,1390.0,1.007,MB,at most 1.1x,torch 2.8,2 CPU cores
"""


def write_benchmarks(results):
    """Made-up CSV files as benchmarks/strength.py and benchmarks/speed.py write them."""
    for folder in ("strength", "speed"):
        (results / folder).mkdir(parents=True, exist_ok=True)
    (results / "strength" / "image.csv").write_text(STRENGTH_CSV)
    prompts = (
        "source,dataset,prompts,identical,differing\ntable:eval,openmoji/birds,21,21,0\ntable:synonyms,openmoji/birds,21,20,1\n"
    )
    (results / "strength" / "text.csv").write_text(prompts)
    clean = "dataset,n,agree,ours,theirs,implementation,version\nwds_cifar10,500,500,41.2,41.2,clip-benchmark,1.6.1\n"
    (results / "strength" / "clean.csv").write_text(clean)
    (results / "speed" / "cpu.csv").write_text(SPEED_CSV)
    (results / "speed" / "cpu-quick.csv").write_text(SPEED_CSV)  # a trial run's: not shown


def write_training(profile, results):
    """Made-up training logs of every trained model, and records that know of a held-out slice."""
    profile = load_profile(profile)
    folder = results / profile.name
    (folder / "training").mkdir(parents=True, exist_ok=True)
    for cell in expand(profile, results=results):
        if cell.kind != "train":
            continue
        seed = cell.parameters["seed"]
        final = {"clean": 90.0, "image": 60.0, "text": 40.0, "robust": 30.0 + seed}
        best = {"step": 2, **final} if seed else {"step": 1, **final, "robust": 35.0}
        training = {
            "seconds": 1.5 + seed,
            "images": 16,
            "train_samples": 32,
            "held_out": {"samples": 8, "final": final, "best": best},
        }
        write_record(folder, cell, {"device": "cpu", "threads": 1, "seconds": 2.0, "seed": 0}, training=training)
        log = pd.DataFrame({"step": [0, 1], "loss": [4.0, 2.0 + seed], "lr": 1e-3, "gradient_norm": 1.0, "seconds": [0.5, 1.0]})
        log = log.assign(images_per_second=16.0, **{f"held_out_{name}": [np.nan, value] for name, value in final.items()})
        log.to_csv(folder / "training" / f"{cell.model}.csv", index=False)


VARIANTS = {  # settings, seeds, and how many points better (made up)
    "mmcoa": ({}, (0, 1, 2), 0.0),
    "mmcoa-lambda25": ({"lambda_image": 0.25, "lambda_text": 0.75}, (0,), 0.1),
    "mmcoa-lambda75": ({"lambda_image": 0.75, "lambda_text": 0.25}, (0,), 0.0),
    "mmcoa-eps4": ({"epsilon": "4/255"}, (0,), 0.1),
    "mmcoa-inner1": ({"inner_steps": 1}, (1,), -0.1),
    "mmcoa-last1": ({"last_blocks": 1}, (0,), -0.2),
    "mmcoa-lr": ({"lr": 0.001}, (0,), 0.0),
    "gradient-leak": ({"fault": "gradient_leak"}, (0, 1, 2), -0.15),
    "index-positives": ({"fault": "index_positives"}, (0, 1, 2), 0.0),
    "all-faults": ({"fault": "all_faults"}, (0, 1), -0.25),
}
SETTINGS = {"defense": "mmcoa", "dataset": "openmoji/others", "split": "train", "steps": 2, "batch_size": 8, "inner_steps": 3}
SETTINGS |= dict.fromkeys(("lr", "lambda_image", "lambda_text", "positives", "trains", "last_blocks", "lora_rank", "fault"))
SETTINGS |= {"epsilon": "2/255", "candidate_source": "table:train"}


def write_ablations(results, variants=VARIANTS, datasets=DATASETS, samples=24):
    """A made-up results/ablations: variants of one model that share its luck with the pictures."""
    folder, rows = results / "ablations", []
    made = {"git_commit": "0123456789abcdef", "device": "cpu", "threads": 2, "seconds": 2.0, "seed": 0}
    for variant, (settings, seeds, bonus) in variants.items():
        assert settings.get("fault", "all_faults") in FAULTS
        for seed in seeds:
            name = f"{variant}-seed{seed}"
            parameters = {**SETTINGS, **settings, "seed": seed}
            write_record(
                folder, Cell(f"train__{name}", "train", name, parameters, {}), made, training={"seconds": 1.5, "images": 16}
            )
            for dataset in datasets:
                cell_id = f"{name}__{dataset.replace('/', '-')}"
                parameters = {
                    **EVALUATE_DEFAULTS,
                    "dataset": dataset,
                    "samples": samples,
                    "attacks": list(ATTACKS),
                    "epsilon": "2/255",
                }
                cell = Cell(cell_id, "evaluate", name, parameters, {})
                found = write_evaluation(folder, cell, made, "openmoji-clip", like=f"mmcoa-seed{seed}", bonus=bonus)
                rows += [{**row, "cell": cell_id} for row in found]
    frame = pd.DataFrame(rows)
    frame["defense"] = "mmcoa"
    frame["trained_on"] = SETTINGS["dataset"]
    frame.to_csv(folder / "rows.csv", index=False)
    return folder


def write_gallery(profile, results, datasets=("openmoji/birds", "photos/caltech101"), names=("duck", 'fish & "chips" <b>')):
    """A made-up gallery of the first two models: one grey picture of each data set and kind, random predictions."""
    models = study_models(profile, results=results)[:2]
    folder = results / load_profile(profile).name
    settings = load_profile(profile).evaluate.model_dump()
    kinds = list(choice.KINDS)
    examples = [
        {
            "dataset": dataset,
            "split": "test",
            "sample_id": 10 * i + j,
            "place": j,
            "label": i,
            "class_name": names[i],
            "kind": kind,
        }
        | {
            "clean": [0, 8 * (5 * i + j), 8, 8],
            "models": {model.name: made_up(names, i, kind, 8 * (5 * i + j), model.name) for model in models},
        }
        for i, dataset in enumerate(datasets)
        for j, kind in enumerate(kinds)
    ]
    files = {"clean": 8, **{model.name: 32 for model in models}}
    content = {
        "schema_version": SCHEMA_VERSION,
        "hash": "synthetic",
        "settings": {"examples": 10, "pictures": 20, "resize": "openclip", "datasets": list(datasets)}
        | {name: settings[name] for name in GALLERY_SETTINGS},
        "attacks": list(SHOWN_ATTACKS),
        "amplified": 10,
        "models": [
            {
                "name": model.name,
                "defense": model.name.split("-")[0],
                "trained_on": "" if model.train is None else "openmoji/birds",
                "base_model": "tiny-clip",
            }
            | {"weights": model.train.hash if model.train else model_hash(model.path), "description": ThreatModel().describe()}
            for model in models
        ],
        "kinds": choice.KINDS,
        "choice": [
            {
                "dataset": dataset,
                "pictures": 20,
                "right": 15,
                "kinds": dict.fromkeys(kinds, 3),
                "shown": dict.fromkeys(kinds, 1),
            }
            for dataset in datasets
        ],
        "compared": {
            "outcomes": 160,
            "models": ["none"],
            "differ": [
                {"model": "none", "dataset": datasets[0], "sample_id": 3, "attack": "image", "stored": True, "here": False}
            ],
        },
        "examples": examples,
        "provenance": {"git_commit": "0123456789abcdef", "git_dirty": False, "versions": {"torch": "2.0"}, "device": "cpu"},
    }
    grey = {name: np.full((80, width, 3), 128, np.uint8) for name, width in files.items()}
    write_gallery_files(content, grey, folder / "gallery")
    return folder


def made_up(names, label, kind, top, model):
    """What a model makes of one picture: wrong where the kind says so; the words of the prompt that change hold markup."""
    right = {
        "clean": True,
        "image": kind not in ("image", "each"),
        "text": kind not in ("text", "each"),
        "sequential": kind == "none",
    }
    prompt = f"This is a photo of a {names[label]}"
    adversarial = prompt if kind == "none" else prompt.replace("photo", "snap<i>shot")
    attacks = {}
    for attack, correct in right.items():
        probability = 0.5 + 0.4 * random(model, label, kind, attack).random()
        order = [names[label], "crow"] if correct else ["crow", "owl"]
        found = [[order[0], probability], [order[1], 0.9 - probability]]
        own = {"rank": 1, "probability": probability} if correct else {"rank": 7, "probability": 0.0004}
        attacks[attack] = {"top": found, "others": 0.1, "label": own, "correct": correct}
    for left, attack in ((0, "image"), (16, "sequential")):
        attacks[attack] |= {"picture": [left, top, 8, 8], "perturbation": [left + 8, top, 8, 8], "distance": 2 / 255}
    edit = {"position": 3, "old_word": "photo", "new_word": "snap<i>shot", "source": "table:eval"}
    return {"prompt": prompt, "adversarial_prompt": adversarial, "edits": [edit] if kind != "none" else [], "attacks": attacks}
