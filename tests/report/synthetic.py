"""A clearly synthetic study as packed tables: made-up outcomes. Nothing in it was measured."""

import hashlib
import json
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from PIL import Image

from mmcoa.attacks.catalog import ATTACKS as CATALOG
from mmcoa.attacks.catalog import find
from mmcoa.datasets.openmoji import glyph_indices, glyph_records
from mmcoa.evaluation.statistics import wilson
from mmcoa.prompts import class_prompts
from mmcoa.store import packed
from mmcoa.threat import ThreatModel, format_epsilon

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


@dataclass(frozen=True)
class Entry:
    """A line of `models`: name, defence and seeds; in distribution the data sets; settings of its training; made-up bonus."""

    name: str
    defense: str
    seeds: tuple = (0, 1)
    datasets: tuple = ()
    settings: dict = field(default_factory=dict)
    bonus: float = 0.0


NONE = Entry("none", "none", ())
MODELS = (NONE, Entry("tecoa", "tecoa", (0,)), Entry("mmcoa", "mmcoa"))
BOTH, ONE = ("openmoji/birds", "openmoji/tools"), ("openmoji/birds",)
RICH = (
    *MODELS,
    Entry("image_only", "image_only", settings={"lr": 0.001}),
    Entry("image_only-matched", "image_only", settings={"steps": 4}),
    Entry("tecoa-in", "tecoa", datasets=BOTH),
    Entry("mmcoa-in", "mmcoa", datasets=BOTH),
    Entry("image_only-in", "image_only", datasets=ONE),
    *(
        Entry(f"{name}-{shots}shot", name, datasets=ONE, settings={"shots": shots}, bonus=0.02 * np.log2(shots / 16))
        for name in ("tecoa", "mmcoa")
        for shots in (1, 4)
    ),
)
VARIANTS = (  # of the study ablations
    Entry("mmcoa", "mmcoa", (0, 1, 2)),
    Entry("mmcoa-lambda25", "mmcoa", (0,), settings={"with": {"lambda_image": 0.25, "lambda_text": 0.75}}, bonus=0.1),
    Entry("mmcoa-lambda75", "mmcoa", (0,), settings={"with": {"lambda_image": 0.75, "lambda_text": 0.25}}),
    Entry("mmcoa-eps4", "mmcoa", (0,), settings={"epsilon": 4 / 255}, bonus=0.1),
    Entry("mmcoa-inner3", "mmcoa", (1,), settings={"inner_steps": 3}, bonus=-0.1),
    Entry("mmcoa-last1", "mmcoa", (0,), settings={"last_blocks": 1}, bonus=-0.2),
    Entry("mmcoa-lr", "mmcoa", (0,), settings={"lr": 0.001}),
    Entry("gradient-leak", "mmcoa", (0, 1, 2), settings={"fault": "gradient_leak"}, bonus=-0.15),
    Entry("index-positives", "mmcoa", (0, 1, 2), settings={"fault": "index_positives"}),
    Entry("all-faults", "mmcoa", (0, 1), settings={"fault": "all_faults"}, bonus=-0.25),
)
SWEEPS = (  # name, entries, attacks, field, values as the profile writes them
    ("attacks", ("none", "mmcoa"), ALL_ATTACKS, None, ("",)),
    ("epsilon", ("none",), ("image", "sequential"), "epsilon", ("1/255", "2/255", "4/255", "8/255")),
    ("steps", ("none",), ("image",), "steps", (1, 5, 10, 50)),
    ("restarts", ("none",), ("image",), "restarts", (1, 3)),
    ("budget", ("none",), ("text", "sequential"), "text_budget", (1, 2, 3)),
    ("source", ("none",), ("text",), "candidate_source", ("table:eval", "neighbours", "characters")),
    ("words", ("none",), ("text",), "attackable", ("content", "class_name")),
)
BENT = tuple((*one[:1], ("none", "mmcoa", "image_only"), *one[2:]) if one[0] == "epsilon" else one for one in SWEEPS)
SETTINGS = {
    "split": "train",
    "samples": np.nan,
    "shots": np.nan,
    "steps": 2,
    "batch_size": 8,
    "inner_steps": 1,
    "epsilon": 2 / 255,
}
SETTINGS |= dict.fromkeys(("lr", "last_blocks", "lora_rank"), np.nan) | dict.fromkeys(("trains", "precision", "fault"))
SETTINGS |= {"candidate_source": "table:train"}
OWN = {"lambda_image": 0.5, "lambda_text": 0.5, "positives": "class"}
HELD_OUT = ("clean", "image", "text", "robust")
CELL = {"identity": None, "versions": None, "commit": "0123456789abcdef", "dirty": None, "device": "cpu", "hardware": None}
CELL |= {
    "threads": 1,
    "python": "3",
    "torch": "2",
    "open_clip": "3",
    "mmcoa": "0",
    "started": "2026",
    "seconds": 2.0,
    "notes": "",
}


def study(entries=MODELS, sweeps=SWEEPS, trained="openmoji/birds", samples=24, attacks=ATTACKS, base="tiny-clip", logs=False):
    """The packed tables of a made-up study; logs: with training logs and held-out accuracy."""
    made = {name: [] for name in ("cells", "rows", "trainings", "checks", "logs", "outcomes", "changes")}
    for entry in entries:
        for name, seed, own in runs(entry):
            on = own or trained if seed is not None else ""
            about = {"model": name, "entry": entry.name, "defense": entry.defense}
            if seed is not None:
                add_training(made, about, entry, seed, on, base, logs)
            points = [("", "", attacks, {})]
            for sweep, models, named, setting, values in sweeps:
                if entry.name in models and not own:
                    points += [(sweep, str(value), named, {setting: value} if setting else {}) for value in values]
            for sweep, value, named, settings in points:
                for dataset in (own,) if own else DATASETS:
                    n = samples if not sweep else max(1, samples // 2)
                    threat = ThreatModel(**{"epsilon": "2/255", **settings})
                    point = {"dataset": dataset, "sweep": sweep, "sweep_value": value}
                    add_evaluation(made, about | point, seed, named, n, threat, on, base, entry.bonus)
    frames = {name: pd.DataFrame(made[name]) for name in ("cells", "rows", "trainings", "checks", "logs", "changes")}
    frames["rows"] = frames["rows"].reindex(columns=list(dict.fromkeys([*frames["rows"], *FIELDS])))
    empty = {"trainings": TRAININGS, "checks": CHECKS, "changes": packed.CHANGES}
    frames |= {name: pd.DataFrame(columns=list(empty[name])) for name in empty if frames[name].empty}
    return packed.Packed(outcomes=pd.concat(made["outcomes"], ignore_index=True), **frames)


def runs(entry):
    """[(model, seed, data set)] of an entry, as a profile names them."""
    if entry.defense == "none":
        return [(entry.name, None, None)]
    if not entry.datasets:
        return [(f"{entry.name}-seed{seed}", seed, None) for seed in entry.seeds]
    return [(f"{entry.name}-on-{d.replace('/', '-')}-seed{seed}", seed, d) for d in entry.datasets for seed in entry.seeds]


def random(*key):
    """A generator that depends on the key alone: two evaluations of a model are about the same pictures."""
    return np.random.default_rng(int.from_bytes(hashlib.blake2b(repr(key).encode(), digest_size=4).digest(), "big"))


def class_names(dataset):
    return [glyph_records()[i]["name"] for i in glyph_indices(dataset.removeprefix("openmoji/"))]


def add_training(made, about, entry, seed, dataset, base, logs):
    own = dict(entry.settings)
    given = OWN | own.pop("with", {}) if entry.defense == "mmcoa" else {}
    row = about | {"base_model": base, "dataset": dataset, **SETTINGS, **own, "seed": seed, "with": packed.as_json(given)}
    row |= {"seconds": 1.5 + seed * logs, "images": 16, "train_samples": 32 if logs else np.nan}
    final = {"clean": 90.0, "image": 60.0, "text": 40.0, "robust": 30.0 + seed}
    best = final if seed else final | {"robust": 35.0}
    row |= {"held_out_samples": 8 if logs else np.nan, "best_step": (2 if seed else 1) if logs else np.nan}
    for state, values in (("final", final), ("best", best)):
        row |= {f"{state}_{name}": values[name] if logs else np.nan for name in HELD_OUT}
    made["trainings"].append(row | {"device": "cpu", "threads": 1, "commit": CELL["commit"]})
    task = "in_distribution" if entry.datasets else "out_of_distribution"
    cell = {"cell": f"train__{about['model']}", "kind": "train", **about, "seed": seed, "task": task, "dataset": dataset}
    made["cells"].append(cell | {"sweep": "", "sweep_value": ""} | CELL)
    for step, loss in ((0, 4.0), (1, 2.0 + seed)) if logs else ():
        line = {"model": about["model"], "entry": entry.name, "step": step, "loss": loss, "lr": 1e-3, "seconds": 0.5 + step / 2}
        made["logs"].append(line | {f"held_out_{name}": value if step else np.nan for name, value in final.items()})


def add_evaluation(made, about, seed, attacks, n, threat, trained_on, base, bonus):
    """Rows, outcomes, changes and checks of one model on one data set; variants share their seed's luck with the pictures."""
    dataset, defense, model = about["dataset"], about["defense"], about["model"]
    names = class_names(dataset)
    point = {key: about[key] for key in packed.POINT}
    like = f"{defense}-seed{seed}" if about["entry"] in LIKE else model
    label, luck = np.arange(n) % len(names), random(like, dataset).random(1000)[:n]
    right = luck < CHANCE[defense][0] + bonus
    task = "zero_shot" if not trained_on else "in_distribution" if trained_on == dataset else "out_of_distribution"
    about = about | {"base_model": base, "trained_on": trained_on, "task": task, "split": "test", "classes": len(names)}
    for name in attacks:
        attack, blur = find(name), 0.05 * random(model, dataset, name).random(1000)[:n]
        correct = right & (luck + blur < chance(attack, defense, threat) + bonus + 0.025) if name != "clean" else right
        part = pd.DataFrame({"sample_id": np.arange(n), "label": label, "correct": correct})
        made["outcomes"].append(part.assign(attack=name, broken_by=None, **point))
        made["rows"].append(about | counted(name, int(correct.sum()), n) | used(attack, threat, len(names)))
    if any(find(name).text for name in attacks):
        made["changes"] += [point | make_change(index, name, threat) for index, name in enumerate(names)]
    if not about["sweep"]:
        made["checks"] += [point | check for check in make_checks(model)]
    cell = "__".join(
        filter(None, (model, dataset.replace("/", "-"), "-".join(filter(None, (about["sweep"], about["sweep_value"])))))
    )
    keys = ("model", "entry", "defense", "task", "dataset", "sweep", "sweep_value")
    made["cells"].append({"cell": cell, "kind": "evaluate", **{key: about[key] for key in keys}, "seed": seed} | CELL)


LIKE = {entry.name for entry in VARIANTS}  # whose entries share the luck of their seed
FIELDS = ("epsilon", "norm", "attacked_space", "step_size", "steps", "restarts", "keep", "targets", "apgd_steps", "queries")
FIELDS += ("candidate_source", "text_budget", "attackable", "text_score")
CHECKS = (*packed.POINT, "attack", "check", "value", "limit", "passed", "n", "verdict")
TRAININGS = (
    "model",
    "entry",
    "defense",
    "base_model",
    "dataset",
    *SETTINGS,
    "seed",
    "with",
    "seconds",
    "images",
    "train_samples",
)
TRAININGS += ("held_out_samples", *(f"{state}_{name}" for state in ("final", "best") for name in HELD_OUT), "best_step")
TRAININGS += ("device", "threads", "commit")


def counted(attack, correct, n):
    low, high = wilson(correct, n)
    row = dict(attack=attack, accuracy=100 * correct / n, correct=correct, n=n, ci_low=low, ci_high=high)
    return row | dict(resize="openclip", seed=0, device="cpu", seconds=0.1, config_hash="synthetic")


def used(attack, threat, classes):
    """What of the threat model an attack uses, and a sentence."""
    parts = [CATALOG[part] for part in attack.parts] or [attack]
    images, row = {part.image for part in parts if part.image}, {}
    if images:
        row |= {name: getattr(threat, name) for name in ("epsilon", "norm", "attacked_space")}
    if images - {"fgsm", "square"} and not all(name.startswith(("apgd", "square")) for name in images):
        row |= {name: getattr(threat, name) for name in ("step_size", "steps", "restarts", "keep", "targets")}
        row |= {"step_size": threat.epsilon, "keep": "last"} if attack.preset == "reference" else {}
    if any(name.startswith("apgd") for name in images):
        row |= {"apgd_steps": threat.apgd_steps, "restarts": threat.restarts, "targets": 9 if "apgd-dlr-t" in images else 0}
    if "square" in images:
        row |= {"queries": threat.queries}
    if attack.text:
        row |= {name: getattr(threat, name) for name in ("candidate_source", "text_budget", "attackable")}
        row |= {"text_score": "margin" if attack.judged == "joint" else "embedding", "share_changed": 100.0}
    said = [f"ℓ∞ ball of {format_epsilon(threat.epsilon)}, {threat.steps} steps, {threat.restarts} starts"] if images else []
    said += [f"{threat.text_budget} words from {threat.candidate_source}, {threat.attackable}"] if attack.text else []
    return row | {"threat_text": "; ".join(said) or "no attack"}


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
    change = dict(class_name=name, attack="text", prompt=prompt, adversarial_prompt=" ".join(words), changed=True, edits=edits)
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


STRENGTH_CSV = "\n".join(
    (
        "attack,norm,epsilon,steps,dataset,model,n,ours_robust,theirs_robust,difference_points,implementation,version,"
        "agrees,command",
        "pgd,linf,2/255,10,openmoji/birds,openmoji-clip,100,60.0,60.0,0.0,torchattacks,3.5.1,True,"
        "python benchmarks/strength.py",
        "apgd-ce,l2,0.2,50,openmoji/birds,openmoji-clip,100,57.0,55.0,2.0,torchattacks,3.5.1,no: 2.0 points above,"
        "python benchmarks/strength.py",
        "",
    )
)
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


KINDS = {
    "none": "survives every attack",
    "image": "broken by the image attack, not by the text attack",
    "text": "broken by the text attack, not by the image attack",
    "each": "broken by the image attack and by the text attack, each alone",
    "both": "survives each alone, broken by both together",
}


def write_gallery(folder, datasets=("openmoji/birds", "photos/caltech101"), names=("duck", 'fish & "chips" <b>')):
    """A made-up gallery of two models: one grey picture of each data set and kind, random predictions."""
    models, examples = {"none": "", "tecoa-seed0": "openmoji/birds"}, []
    for i, dataset in enumerate(datasets):
        for j, kind in enumerate(KINDS):
            top = 8 * (5 * i + j)
            one = {"dataset": dataset, "split": "test", "sample_id": 10 * i + j, "place": j, "label": i, "class_name": names[i]}
            made = {model: made_up(names, i, kind, top, model) for model in models}
            examples.append(one | {"kind": kind, "clean": [0, top, 8, 8], "models": made})
    sheets = {
        name: {"file": f"{name}.webp", "width": 8 if name == "clean" else 32, "height": 80} for name in ("clean", *models)
    }
    about = {"base_model": "tiny-clip", "description": "ℓ∞ ball of 2/255; one word a prompt"}
    count = {"pictures": 20, "right": 15, "kinds": dict.fromkeys(KINDS, 3), "shown": dict.fromkeys(KINDS, 1)}
    other = {"model": "none", "dataset": datasets[0], "sample_id": 3, "attack": "image", "stored": True, "here": False}
    content = {
        "settings": {"split": "test"},
        "attacks": ["clean", "image", "text", "sequential"],
        "amplified": 10,
        "models": [about | {"name": name, "defense": name.split("-")[0], "trained_on": on} for name, on in models.items()],
        "datasets": [
            {"name": name, "attribution": "OpenMoji, CC BY-SA 4.0" if "openmoji" in name else "Caltech-101, CC BY 4.0"}
            for name in datasets
        ],
        "kinds": KINDS,
        "choice": [{"dataset": dataset} | count for dataset in datasets],
        "compared": {"outcomes": 160, "models": ["none"], "differ": [other]},
        "examples": examples,
        "provenance": {"git_commit": CELL["commit"], "git_dirty": False, "versions": {"torch": "2.0"}, "device": "cpu"},
        "sheets": sheets,
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "gallery.json").write_text(json.dumps(content))
    for sheet in sheets.values():
        Image.fromarray(np.full((80, sheet["width"], 3), 128, np.uint8)).save(folder / sheet["file"], lossless=True)
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
