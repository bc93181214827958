"""Clean and robust accuracy, sample by sample.

    rows = mmcoa.evaluate(model, dataset, attacks=["clean", "image", "text", "multimodal"])

A sample that the model gets wrong without any attack counts as wrong under every attack (the adversary may do nothing),
and is not attacked (trap I8); one that is broken leaves the search. Text features are encoded once. Pictures come batch by
batch, so memory does not grow with the data set, and finished batches are kept on disk where `resume` names a folder.
"""

# pyright: reportMissingParameterType=false

import itertools
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import pandas as pd
import torch

from mmcoa import identity
from mmcoa.attacks.catalog import find, usable_parts, versions
from mmcoa.attacks.floor import settled
from mmcoa.attacks.multimodal import AGAIN, whole_searches
from mmcoa.datasets.dataset import Dataset
from mmcoa.defenses.at_test import AtTest
from mmcoa.errors import UserError
from mmcoa.evaluation import at_test, saved
from mmcoa.evaluation.crafted import Crafted, check_craft
from mmcoa.evaluation.notes import near_chance, refuse_or_note, shared_pictures, unknown_words
from mmcoa.evaluation.outcomes import Journal
from mmcoa.evaluation.prompts import by_template, class_embeddings, prompt_features
from mmcoa.evaluation.rows import ends, make_row
from mmcoa.evaluation.self_checks import self_check, verdict
from mmcoa.evaluation.shards import Part, Shard
from mmcoa.model.clip import ImageTextModel, check_prompts
from mmcoa.runtime import release_memory
from mmcoa.store.files import digest
from mmcoa.threat import ThreatModel, default_threat, hint
from mmcoa.versions import EVALUATION

DEFAULT = ("clean", "image", "text", "multimodal")
BATCH = {"cpu": 64, "cuda": 256}  # a GPU's time goes by the number of batches until they fill it
FEW = {"cpu": 8, "cuda": 32}  # where a test-time defence scores many views of each picture, all in one graph


class Evaluation(list):
    """Result rows (dicts, one an attack and threat model), with what is behind them.

    Attributes:
        outcomes: DataFrame, one row a sample and epsilon; columns: outcomes.py.
        changes: one dict a class prompt, what the text attack did (empty where it was not run), and `epsilon` for each of
            several threat models.
        checks: one dict a self-check: attack, check, value, limit, passed, n, verdict.
        notes: what a reader must know, such as that an attack was left out.
        part: `Part` of a whole evaluation, where only a shard was asked for; None else.
    """

    def __init__(self, rows, outcomes, changes, checks=(), notes=(), part=None):
        super().__init__(rows)
        self.outcomes, self.changes, self.checks, self.notes = outcomes, changes, list(checks), list(notes)
        self.part = part


def evaluate(
    model: ImageTextModel,
    dataset: Dataset,
    attacks: Iterable[str] = DEFAULT,
    threat: ThreatModel | Sequence[ThreatModel] | None = None,
    batch_size: int | None = None,
    progress: Callable[[int, int], object] | None = None,
    attacker: Dataset | None = None,
    resume: str | Path | None = None,
    check: Dataset | None = None,
    defense: AtTest | None = None,
    save: str | Path | None = None,
    craft: ImageTextModel | None = None,
    shard: Shard | None = None,
) -> Evaluation:
    """Accuracy of a model on a data set under attacks.

    Arguments:
        model: `ImageTextModel`; weights are not changed.
        dataset: `Dataset`.
        attacks: names of `mmcoa.attacks.catalog`.
        threat: `ThreatModel`, or a list of them, evaluated one after the other; default `default_threat(model)`.
        batch_size: samples attacked at once, None: as many as fill the device; it does not influence the outcomes.
        progress: called with (samples done, samples in all), counted over all threat models.
        attacker: labelled pictures (`Dataset`) for `joint`, `universal` and the score `margin`:
            `mmcoa.datasets.attacker_dataset`. Without it `multimodal` leaves `joint` out.
        resume: folder for finished batches; a killed evaluation of the same model, data and threat goes on there.
        check: `Dataset` on whose first 200 samples the gradient-masking self-checks are run; None: rows say `not run`, and
            `not possible` where no checked sample is right without an attack, or a check fails.
        defense: a test-time defence (`mmcoa.defenses.at_test.choose`) that stands before the model, and who attacks it; rows
            then have further columns, and `clean` is always among them: evaluation/at_test.py.
        save: folder for the pictures as they were judged, under every attack: evaluation/saved.py. With several threat models a
            folder each, by its number.
        craft: the model that pictures and prompts are made on, default `model`; rows then have the column `crafted_on`:
            evaluation/crafted.py.
        shard: evaluate this part of the samples; self-checks are the first shard's: evaluation/shards.py joins all of them.

    Returns an `Evaluation`. Raises `UserError` for an unknown attack, an empty data set, labels or prompts that do not fit.
    """
    given = threat or default_threat(model)
    threats = [settled(one) for one in ([given] if isinstance(given, ThreatModel) else given)]
    names = attacks if defense is None else ["clean", *attacks]
    asked = [find(name) for name in dict.fromkeys(names)]
    check_dataset(model, dataset)
    model.requires_grad_(False)
    if craft is not None:
        check_craft(model, craft, threats, defense)
        check_dataset(craft, dataset)
        craft.requires_grad_(False)
    samples = len(dataset if shard is None else shard.of(dataset))
    check = check if shard is None or shard.number == 1 else None
    usual = FEW if defense is not None and defense.form == "scores" else BATCH
    batch_size = batch_size or usual.get(model.device.type, usual["cpu"])
    done = []
    for index, one in enumerate(threats):
        advance = (lambda now, index=index: progress(index * samples + now, len(threats) * samples)) if progress else None
        own = [folder if folder is None or len(threats) == 1 else f"{folder}/{index}" for folder in (resume, save)]
        more = (attacker, own[0], check, defense, own[1], craft, shard)
        done.append(_evaluate(model, dataset, asked, one, batch_size, advance, *more))
    if len(done) == 1:
        return done[0]
    changes = [change | {"epsilon": one.epsilon} for part, one in zip(done, threats, strict=True) for change in part.changes]
    frames = [part.outcomes.assign(threat=index) for index, part in enumerate(done)]
    checks, notes = ([item for part in done for item in getattr(part, name)] for name in ("checks", "notes"))
    outcomes = pd.concat(frames, ignore_index=True)
    parts = [one.part for one in done]
    whole = None
    if shard is not None:
        about, rows = ([item for part in parts for item in getattr(part, name)] for name in ("evaluation", "rows"))
        whole = Part(shard, len(dataset), about, rows, outcomes)
    return Evaluation([row for one in done for row in one], outcomes, changes, checks, dict.fromkeys(notes), whole)


def check_dataset(model, dataset):
    """`UserError` where there is nothing to evaluate, or labels or prompts do not fit."""
    if not len(dataset) or not dataset.prompts:
        raise UserError(
            f"data set '{dataset.name}' has {len(dataset)} samples and {len(dataset.prompts)} classes: nothing to evaluate"
        )
    low, high = int(dataset.labels.min()), int(dataset.labels.max())
    if low < 0 or high >= len(dataset.prompts):
        wrong = low if low < 0 else high
        raise UserError(
            f"data set '{dataset.name}': label {wrong} is outside 0..{len(dataset.prompts) - 1}, the range of its class names"
        )
    for prompts in dataset.prompt_sets():
        check_prompts(model, prompts)


def _evaluate(model, dataset, asked, threat, batch_size, progress, attacker, resume, check, defense, save, craft, shard):
    if shard is not None and threat.target is not None:
        raise UserError("where a target class is led to is counted over all samples: evaluate it without a shard")
    aimed = threat.aimed(dataset.class_names)  # as searches take it; rows and notes have the name
    attacker = None if dataset.ensemble else attacker  # `joint` and `margin` search one prompt a class
    parts = {a.name: usable_parts(a, len(dataset.class_names), attacker is not None) for a in asked if a.parts}
    leaves = [find(name) for a in asked for name in (parts.get(a.name) or (a.name,))]
    notes = refuse_or_note(asked, leaves, parts, dataset, attacker, threat) + shared_pictures(model, dataset)
    hashes = inputs(model, dataset, leaves, threat, attacker, craft)
    made_of = {**hashes, **depends_on(model, dataset, asked, threat, defense)}
    made_by = {"evaluation": EVALUATION, **versions([a.name for a in [*asked, *leaves]])}
    whole, of = dataset, {} if shard is None else {"shard": str(shard)}
    journal = Journal(resume, {**made_of, **of, "versions": made_by})
    features, texts, before = prompt_features(craft or model, dataset, leaves, aimed, attacker)
    prompts = {"clean": dataset.prompt_sets(), **{kind: by_template(text.prompts, dataset) for kind, text in texts.items()}}
    notes += unknown_words(texts, threat)
    if any(leaf.image for leaf in leaves) and (said := hint(threat.epsilon, threat.norm)):
        notes.append(said)
    if craft is None:
        sides = at_test.sides(model, defense, threat, features, prompts)
    else:
        with torch.no_grad():
            sides = Crafted(model, craft, {kind: class_embeddings(model, sets) for kind, sets in prompts.items()})
    dataset = dataset if shard is None else shard.of(dataset)
    told = saved.about(model, dataset, threat, asked, parts, {**made_of, **of, "versions": made_by}) if save else {}
    pictures = saved.Saved(save, told, prompts, sides.told_apart(asked, parts), parts, journal) if save else None
    searches = whole_searches(leaves) if sides.same else {leaf.search for leaf in leaves}
    extra = {"class_names": dataset.class_names, "attacker": attacker, "learned": {}}
    while journal.done < len(dataset):
        index = slice(journal.done, min(journal.done + batch_size, len(dataset)))
        images = dataset.images[index].to(model.device).float() / 255
        if threat.attacked_space == "model":
            images = model.resized(images)
        labels, ids = dataset.labels[index].to(model.device), dataset.ids[index]
        batches = sides.batches(images, labels, ids, features, aimed, searches, keep=pictures is not None, **extra)
        frame = sides.together({side: batch_outcomes(batch, asked, parts) for side, batch in batches.items()}, asked, parts)
        if pictures is not None:  # before the journal says that these samples are finished
            pictures.add(index.start, batches)
        journal.add(frame.assign(epsilon=threat.epsilon), sides.seconds(batches))
        del batches, images  # before the next ones are read, so that two batches never are in memory
        release_memory()
        if progress:
            progress(journal.done)
    outcomes = journal.outcomes()
    checks, rows, verdicts = [], [], []
    dead = None
    if shard is None or shard.number == 1:
        dead = sides.dead_gradients(check or whole, asked, parts, batch_size)
    for attack in asked:
        own = parts.get(attack.name, ())
        for name, about in sides.names(attack, own).items():
            found, judged = [], ("not run", 0)
            if check is not None and attack.name != "clean":  # there nothing is searched
                found, judged, failed = checked(sides, about, check, own or (attack.name,), threat, attacker)
                notes += [f"self-checks of {name}: not possible: {failed}"] if failed else []
            checks += [item for item in found if item not in checks]
            judged = judged if attack.name != "clean" else ("", 0)
            spent = _seconds(attack, parts, sides.spent(journal.seconds, about), before)
            row = make_row(model, dataset, attack, own, threat, outcomes, texts, spent, hashes, judged, defense, name)
            ended = ends(attack, sides.single(attack, about, own), aimed.target, outcomes)
            rows.append(sides.finished(row | ended, attack, about, own, outcomes, dead))
            verdicts.append(judged[0])
    changes = [
        {"class_name": name, "attack": kind, **change}
        for kind, text in texts.items()
        for name, change in zip(itertools.cycle(dataset.class_names), text.changes, strict=False)
    ]
    journal.discard()
    notes += near_chance(model, rows)
    part = None
    if shard is not None:
        about = json.loads(json.dumps({**made_of, "versions": made_by, "attacked prompts": digest(prompts)}))
        judged = [row | {"check": verdict} for row, verdict in zip(rows, verdicts, strict=True)]
        part = Part(shard, len(whole), [about], judged, outcomes)
    return Evaluation(rows, outcomes, changes, checks, notes, part)


def inputs(model, dataset, leaves, threat, attacker, craft):
    """{what goes in: its fingerprint}, as rows name it."""
    hashes = {"model": model.fingerprint(), "dataset": dataset.fingerprint()}
    if attacker is not None and (threat.text_score == "margin" or any(leaf.train_pictures for leaf in leaves)):
        hashes["attacker"] = attacker.fingerprint()
    if craft is not None:
        hashes["crafted_on"] = craft.fingerprint()
    return hashes


def depends_on(model, dataset, asked, threat, defense):
    """What else an evaluation's outcomes depend on, as a JSON value: finished batches of another one are no use."""
    return {
        "attacks": [attack.name for attack in asked],
        "threat": threat.asdict(),
        "precision": model.precision,
        "read_as": identity.reading(model),
        "words": identity.words(threat),
        "names": list(dataset.class_names),
        "ids": digest(dataset.ids.tolist()),
        **at_test.identity(defense),
        **({} if model.precision == "fp32" else {"again": AGAIN}),
    }


def batch_outcomes(batch, asked, parts):
    """Columns of outcomes.py for one batch."""
    columns = {"sample_id": batch.ids.cpu().numpy(), "label": batch.labels.cpu().numpy()}
    for attack in sorted(asked, key=lambda attack: bool(attack.parts)):  # a worst case uses what was searched for its parts
        outcome = batch.run(attack, parts.get(attack.name))
        columns[f"{attack.name}_prediction"] = outcome.prediction.cpu().numpy().astype("int32")
        columns[f"{attack.name}_margin"] = outcome.margin.float().cpu().numpy()
        columns[f"{attack.name}_correct"] = batch.right(outcome).cpu().numpy()
        if outcome.broken_by is not None:
            columns[f"{attack.name}_broken_by"] = outcome.broken_by
    return pd.DataFrame(columns)


def checked(sides, about, check, names, threat, attacker):
    """Self-checks of the attacks that `names` are made of, by the adversaries `about`; attacks share those of one search.

    Returns (checks, (verdict, samples), "") or, where one fails, ([], its verdict, the error): the evaluation is done, and a
    check costs none of its rows.
    """
    found = []
    try:
        for name, side in itertools.product(names, about):
            own = self_check(sides.searched[side], check.prefix(200), name, threat, attacker, sides.model)
            found += [item for item in sides.named(own, side) if item not in found]
        return found, (verdict(found), max(item["n"] for item in found)) if found else ("not run", 0), ""
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        return [], (f"not possible: {reason}", 0), f"{type(error).__name__}: {reason}"


def _seconds(attack, parts, seconds, before):
    """Time of an attack on all samples, and of the prompts that it is made with; of a worst case, what its parts took too.

    Attacks that share a search count it once, for the one that came first.
    """
    names = {attack.name, *parts.get(attack.name, ())}
    kinds = {find(name).judged for name in parts.get(attack.name) or (attack.name,)}
    return sum(seconds.get(name, 0.0) for name in names) + sum(before[kind] for kind in kinds)
