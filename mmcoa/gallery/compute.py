"""Compute a gallery and write it: gallery.json and one sheet of pictures a model.

`notebooks/gallery.ipynb` calls `run_gallery`.
"""

import json
import time
from pathlib import Path

import pandas as pd
import torch

from mmcoa import identity
from mmcoa.datasets import attacker_dataset, load_dataset
from mmcoa.errors import UserError, unknown
from mmcoa.evaluation.loop import evaluate
from mmcoa.gallery import choice, sheets
from mmcoa.gallery.attacked import attack
from mmcoa.gallery.identity import ATTACKS, SCHEMA_VERSION, SETTINGS, gallery_identity, is_current, read
from mmcoa.gallery.showable import attribution, shows_people
from mmcoa.model.loading import load_model, resolve_device
from mmcoa.runtime import tune_allocator
from mmcoa.store import packed
from mmcoa.store.files import file_digest, write_atomic, write_text
from mmcoa.store.finished import provenance
from mmcoa.study.compute import needs_attacker
from mmcoa.study.settings import THREAT_FIELDS, reading_of, safe_name
from mmcoa.threat import default_threat, preset


def run_gallery(
    models, datasets, *, examples=15, pictures=24, resize="openclip", device="auto", output=None, progress=None, **settings
):
    """Choose pictures by the undefended model's outcomes, attack them with each model and write what there is to see.

    Arguments:
        models: {id in the study: name or checkpoint folder}; the first is the undefended one and decides which pictures are
            shown.
        datasets: names, of which all must be showable.
        examples: about how many pictures; pictures: of each data set, those among which they are chosen (at most `samples`).
        output: results/PROFILE; the gallery goes into its folder `gallery`, outcomes that lie there are compared. None:
            writes nothing.
        progress: called with (what is attacked, steps done, steps in all).
        settings: any of `SETTINGS`, as in an evaluation.

    Returns what gallery.json holds; results/README.md explains it. Where the folder holds the gallery that these settings and
    these models make, it is read. Raises `UserError` for a data set whose pictures may not be shown, and where no picture is
    right.
    """
    datasets = [datasets] if isinstance(datasets, str) else list(datasets)
    settings = complete(models, datasets, settings)
    asked = {"examples": examples, "pictures": pictures, "resize": resize, "datasets": datasets, **settings}
    made_of = gallery_identity(models, asked)
    if output is not None and is_current(output, made_of):
        return read(output)
    tune_allocator()
    began, started, device = time.monotonic(), time.time(), str(resolve_device(device))
    steps = iter(range(1, len(models) + len(datasets) + 1))
    report = (lambda what: progress(what, next(steps), len(models) + len(datasets))) if progress else (lambda what: None)
    looked = pictures if settings["samples"] is None else min(pictures, settings["samples"])
    shown, outcomes, places = {}, [], {}
    for name, path in models.items():
        model = load_model(path, device, resize=resize)
        if not shown:
            kinds, outcomes = look(name, model, datasets, settings, looked, report)
            chosen = choice.choose(kinds, examples)
            places = {dataset: [place for own, place in chosen if own == dataset] for dataset in datasets}
        found = {dataset: attacked(model, dataset, settings, looked, some) for dataset, some in places.items() if some}
        shown[name] = describe(name, path, model, found), found
        outcomes += [
            (name, dataset, int(sample), one.outcome(place))
            for dataset, one in found.items()
            for place, sample in enumerate(one.dataset.ids)
        ]
        report(name)
    threat = next(iter(found.values())).threat
    compared = compare(outcomes, threat, output)
    content = {
        "schema_version": SCHEMA_VERSION,
        "identity": made_of,
        "settings": asked,
        "attacks": list(ATTACKS),
        "amplified": sheets.AMPLIFIED,
        "models": [who for who, _ in shown.values()],
        "datasets": [{"name": name, "attribution": attribution(name)} for name in datasets],
        "kinds": choice.KINDS,
        "choice": choice.counts(kinds, chosen),
        "compared": compared,
        "examples": [],
        "provenance": provenance(started, time.monotonic() - began, settings["seed"], device, torch.get_num_threads()),
    }
    found = {name: pictures for name, (_, pictures) in shown.items()}
    content["examples"], drawn = draw(found, chosen, kinds)
    return content if output is None else write(content, drawn, Path(output) / "gallery")


def complete(models, datasets, settings):
    """All settings, defaults included.

    Raises `UserError` for one that is unknown, for pictures that may not be shown, for no model.
    """
    for parameter in settings:
        if parameter not in SETTINGS:
            raise unknown("parameter", parameter, SETTINGS)
    if not models or not datasets:
        raise UserError(f"a gallery needs a model and a data set, got {len(models)} and {len(datasets)}")
    for dataset in datasets:
        attribution(dataset)
    return {**SETTINGS, **settings}


def look(name, model, datasets, settings, looked, report):
    """Evaluate the undefended model on the first `looked` pictures of each data set.

    Returns ({data set: kind of each picture, None for what is wrong without an attack or not to be shown}, outcomes [(model,
    data set, sample id, {attack: right}), ...]). Raises `UserError`
    where the model is not undefended, and where it gets no picture right.
    """
    if model.metadata.get("defense", "none") != "none":
        raise UserError(
            f"the first model of a gallery is the undefended one; '{name}' was fine-tuned with {model.metadata['defense']}"
        )
    kinds, outcomes = {}, []
    for dataset in datasets:
        pictures, threat, attacker = load(model, dataset, settings, looked)
        frame = evaluate(model, pictures, ATTACKS, threat, attacker=attacker).outcomes
        rights = [
            {attack_name: bool(row[f"{attack_name}_correct"]) for attack_name in ATTACKS} for row in frame.to_dict("records")
        ]
        hidden = [shows_people(pictures.class_names[label]) for label in frame.label.tolist()]
        kinds[dataset] = [None if hide else choice.kind_of(right) for hide, right in zip(hidden, rights, strict=True)]
        outcomes += [(name, dataset, sample, right) for sample, right in zip(frame.sample_id.tolist(), rights, strict=True)]
        report(f"{name}, {dataset}")
    if not any(any(found) for found in kinds.values()):
        raise UserError(f"'{name}' gets none of the first {looked} pictures of {', '.join(datasets)} right: nothing to show")
    return kinds, outcomes


def attacked(model, name, settings, looked, places):
    """`Attacked` for the pictures of a data set at `places`, which are among the first `looked`."""
    dataset, threat, attacker = load(model, name, settings, looked)
    return attack(model, dataset.take(torch.tensor(places)), threat, attacker)


def load(model, name, settings, looked):
    """(the first `looked` pictures of a data set, threat model, labelled pictures that the text attack needs or None), as
    in an evaluation.
    """
    threat = preset(
        default_threat(model, **{key: settings[key] for key in THREAT_FIELDS if key in settings}), settings["preset"]
    )
    reading = {**reading_of(settings, name), **model.picture_input}
    learns = needs_attacker(ATTACKS, threat) and settings["split"] != "train"  # never from what is shown
    attacker = attacker_dataset(name, threat, **reading) if learns else None
    return load_dataset(name, settings["split"], samples=looked, **reading), threat, attacker


def compare(outcomes, threat, output):
    """Outcomes [(model, data set, sample id, {attack: right}), ...] beside those that are packed in `output` for the same
    threat.

    Returns {"outcomes": number compared, "models": their names, "differ": one dict an outcome that is another here}.
    """
    here = {
        (name, dataset, sample, attack_name): right
        for name, dataset, sample, rights in outcomes
        for attack_name, right in rights.items()
    }
    known = {key: before for key, before in stored_outcomes(threat, output).items() if key in here}
    names = list(dict.fromkeys(name for name, *_ in known))
    keys = ("model", "dataset", "sample_id", "attack")
    differ = [
        dict(zip(keys, key, strict=True)) | {"stored": was, "here": here[key]} for key, was in known.items() if was != here[key]
    ]
    return {"outcomes": len(known), "models": names, "differ": differ}


def stored_outcomes(threat, output):
    """{(model, data set, sample id, attack): right} of the packed main evaluations that were made under this threat model."""
    if output is None or not (Path(output) / "cells.csv").is_file():
        return {}
    tables = packed.read(output)
    rows, own = tables.rows[tables.rows.sweep == ""], threat.asdict()
    fields = [name for name in own if name in rows.columns and name != "seed"]
    same = rows[[all(pd.isna(row[name]) or row[name] == own[name] for name in fields) for _, row in rows.iterrows()]]
    wanted = set(zip(same.model, same.dataset, same.attack, strict=True))
    found = tables.outcomes[(tables.outcomes.sweep == "") & tables.outcomes.attack.isin(ATTACKS)]
    columns = (found[name] for name in ("model", "dataset", "sample_id", "attack", "correct"))
    return {
        (model, dataset, int(sample), name): bool(correct)
        for model, dataset, sample, name, correct in zip(*columns, strict=True)
        if (model, dataset, name) in wanted
    }


def describe(name, path, model, found):
    """A model, its threat model and where its weights come from."""
    threat = next(iter(found.values())).threat
    who = {"name": name, "defense": model.metadata.get("defense", "none"), "trained_on": model.metadata.get("trained_on", "")}
    who |= {
        "base_model": model.metadata.get("base_model") or model.name,
        "weights": identity.model(path),
        "fingerprint": model.fingerprint(),
    }
    return who | {"threat": threat.asdict(), "description": threat.describe()}


def draw(found, chosen, kinds):
    """(examples, {file name: sheet uint8 [H, W, 3]}).

    Arguments:
        found: {model: {data set: `Attacked`}}, of each data set the chosen pictures in their order.
        chosen: [(data set, place), ...], sorted; kinds: {data set: kind of each place}.
    """
    rows = {dataset: iter(range(len(kinds[dataset]))) for dataset, _ in chosen}
    at = [(dataset, place, next(rows[dataset])) for dataset, place in chosen]
    first = next(iter(found.values()))
    examples = [example(first[dataset].dataset, place, row, kinds[dataset][place]) for dataset, place, row in at]
    drawn = {}
    drawn["clean"], boxes = sheets.sheet([[sheets.pixels(first[dataset].clean[row])] for dataset, _, row in at])
    for one, (box,) in zip(examples, boxes, strict=True):
        one["clean"] = box
    for name, pictures in found.items():
        drawn[name], boxes = sheets.sheet([drawings(pictures[dataset], row) for dataset, _, row in at])
        for one, (dataset, _, row), own in zip(examples, at, boxes, strict=True):
            one["models"][name] = made_of(pictures[dataset], row, own)
    return examples, drawn


def example(dataset, place, row, kind):
    """What one picture is; `row`: its place among the chosen ones of the data set."""
    label = int(dataset.labels[row])
    who = {"dataset": dataset.name, "split": dataset.split, "sample_id": int(dataset.ids[row]), "place": place}
    return who | {"label": label, "class_name": dataset.class_names[label], "kind": kind, "models": {}}


def drawings(one, row):
    """Of one picture, for each attack that changes it: the adversarial picture and the perturbation, uint8 [H, W, 3] each."""
    pairs = [
        (sheets.pixels(pictures[row]), sheets.perturbation(pictures[row], one.clean[row]))
        for pictures in one.adversarial.values()
    ]
    return [picture for pair in pairs for picture in pair]


def made_of(one, row, boxes):
    """What a model makes of one picture: prompts and predictions, and where its drawings are on the sheet."""
    change = one.changes[int(one.dataset.labels[row])]
    attacks = {name: one.prediction(name, row) for name in ATTACKS}
    for index, name in enumerate(one.adversarial):
        picture, perturbation = boxes[2 * index : 2 * index + 2]
        attacks[name] |= {"picture": picture, "perturbation": perturbation, "distance": one.distance(name, row)}
    return {key: change[key] for key in ("prompt", "adversarial_prompt", "edits")} | {"attacks": attacks}


def write(content, drawn, folder):
    """Write sheets, then gallery.json, which says that all is there; sheets of an earlier gallery go."""
    content["sheets"] = {}
    for name, picture in drawn.items():
        path = write_atomic(folder / f"{safe_name(name)}.webp", lambda path, picture=picture: sheets.save(picture, path))
        content["sheets"][name] = {
            "file": path.name,
            "width": picture.shape[1],
            "height": picture.shape[0],
            "sha256": file_digest(path),
        }
    text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
    write_text(folder / "gallery.json", text)
    for path in folder.glob("*.webp"):
        if path.name not in {sheet["file"] for sheet in content["sheets"].values()}:
            path.unlink()
    return content
