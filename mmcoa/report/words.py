"""Which modality breaks a picture, and which words break a prompt.

Text attacks come at levels: `any` word of the source, `synonym`, `meaning` (the changed prompt must stay similar), each with
words that no defence was trained on; and `any` with the words that they were trained on (`seen`). See the threat model.
"""

from collections import Counter

import numpy as np
import pandas as pd

from mmcoa.attacks.words import class_name_positions
from mmcoa.errors import UserError
from mmcoa.evaluation.statistics import by_relation
from mmcoa.report import statistics, style, tables
from mmcoa.report.names import METHODS, dataset_label, method_label, ordered

LEVELS = {"any": ("meaning", "any"), "synonym": ("meaning", "synonym"), "meaning kept": ("meaning", "meaning")}
SEEN = ("seen", "")  # sweep and value of the words that defences were trained on
SCORES = {"farthest embedding": "embedding", "most errors": "margin"}  # values of the sweep `score`: how words are chosen
KINDS = {
    "withstands both": ("#d9d9d9", ""),
    "only together": (style.PINK, "xxx"),
    "either alone": (style.RED, ""),
    "text alone": (style.ORANGE, "///"),
    "image alone": (style.BLUE, "..."),
    "wrong before": (style.BLACK, ""),
}  # what a picture falls to, with its look in figures
CASES = ["wrong before", "either alone", "image alone", "text alone", "only together"]  # as `shares` asks for them


def shares(study, sets=None, combined=("independent", "sequential")):
    """Macro share (%) of the pictures that fall to each of KINDS: one row a method.

    combined: attacks on both inputs; a picture falls to them together where one breaks what neither input alone does.
    """
    made = {}
    for method in ordered(study.methods, METHODS):
        by = {name: statistics.right(study, method, name, sets) for name in ("clean", "image", "text", *combined)}
        if not all(by.values()):
            continue
        rows = []
        for name in by["clean"]:
            clean, image, text, *both = (part[name].to_numpy() > 0.5 for part in by.values())
            together = ~np.all(both, axis=0)
            kind = np.select([~clean, ~image & ~text, ~image, ~text, together], CASES, "withstands both")
            rows.append([np.mean(kind == each) for each in KINDS])
        made[method] = 100 * np.mean(rows, axis=0)
    return pd.DataFrame.from_dict(made, orient="index", columns=list(KINDS))


def shares_table(frame):
    """`shares` to print."""
    numbers = frame.rename_axis("method").reset_index()
    return frame.map(tables.percent).rename(method_label).rename_axis("method").reset_index(), numbers


def at_levels(study, sets=None):
    """{level: frame (method, value, low, high, n ...)} of the accuracy without a text attack and at each level that was run."""
    found = {}
    for name, (sweep, value) in (LEVELS | {"any, seen words": SEEN}).items():
        part = study.sweeps.get(sweep, {}).get(value)
        if part is not None:
            found[name] = statistics.levels(part, sets, ["text"])
            sets = set(part.rows.dataset) & set(part.rows.dataset if sets is None else sets)
    parts = list(study.sweeps.get("meaning", {}).values())
    return {"no attack": without_attack(study, parts[0], sets)} | found if parts else found


def without_attack(study, part, sets):
    """Clean levels of the main evaluation on the very pictures of a sweep's `part`."""

    def clean(study, method, attack, sets):
        there, own = statistics.right(part, method, "text", sets), statistics.right(study, method, attack, sets)
        return statistics.on_pictures_of(there, own)

    return statistics.levels(study, sets, ["clean"], clean)


def by_score(study, sets=None):
    """{how words were chosen: frame, as of `at_levels`}; the last, `either`: what is right under both choices."""
    parts = {name: study.sweep("score")[value] for name, value in SCORES.items()}
    first = next(iter(parts.values()))

    def weakest(_, method, attack, sets):
        return statistics.together(np.minimum, *(statistics.right(part, method, attack, sets) for part in parts.values()))

    found = {name: statistics.levels(part, sets, ["text"]) for name, part in parts.items()}
    either = statistics.levels(first, sets, ["text"], weakest)
    return {"no attack": without_attack(study, first, sets)} | found | {"either": either}


def levels_table(found):
    """`at_levels` or `by_score` to print: one row a method, one column a level or choice."""
    numbers = pd.concat([frame.assign(level=name) for name, frame in found.items()], ignore_index=True)
    return tables.spread(numbers, tables.level, over="level"), numbers


def relations(study, sets=None):
    """Text attack on the undefended model by the relation of the new word to the old one, data sets pooled.

    Columns relation, prompts, n (pictures of these classes), clean, attacked (percent), damage (points).
    """
    clean, attacked = (statistics.right(study, "none", attack, sets) for attack in ("clean", "text"))
    parts = []
    for dataset, own in text_changes(study).groupby("dataset", sort=False):
        if dataset in attacked:
            label = attacked[dataset].index.get_level_values("label").to_numpy()
            right = clean[dataset].to_numpy(), attacked[dataset].to_numpy()
            parts.append(by_relation(label, *right, list(own.relation.fillna(""))))
    frame, rates = pd.concat(parts), ["clean", "attacked"]
    frame[rates] = frame[rates].mul(frame.n, axis=0)  # percent of one data set's pictures as a number of them
    frame = frame.groupby("relation")[["prompts", "n", *rates]].sum()
    frame[rates] = frame[rates].div(frame.n, axis=0)
    frame["damage"] = frame.clean - frame.attacked
    return frame.sort_values("prompts", ascending=False).reset_index()


def relations_table(frame):
    """`relations` to print."""
    shown = frame.assign(**{name: frame[name].map("{:,.0f}".format) for name in ("prompts", "n")})
    return shown.assign(**{name: frame[name].map(tables.percent) for name in ("clean", "attacked", "damage")}), frame


def text_changes(study, method="none"):
    """What the text attack on a model, by default the undefended one, did to each prompt."""
    return study.changes[(study.changes.method == method) & (study.changes.attack == "text")]


def edits(study, method="none"):
    """Every word that this attack changes: dataset, where (`class name` or `template`), old, new; one row an edit."""
    rows = []
    for dataset, own in text_changes(study, method).groupby("dataset", sort=False):
        try:
            places = class_name_positions(list(own.prompt), list(own.class_name))
        except UserError:  # prompts and class names share no word
            places = [[] for _ in range(len(own))]
        for change, name in zip(own.itertuples(), places, strict=True):
            for edit in change.edits:
                where = "class name" if edit["position"] in name else "template"
                rows.append((dataset, where, edit["old_word"].lower(), edit["new_word"].lower()))
    return pd.DataFrame(rows, columns=["dataset", "where", "old", "new"])


def in_template(study, tasks):
    """(shown, numbers): of the words that the text attack changes, the share (%) in the template and not in a class name.

    tasks: {name: data sets}. One row a method. A template is shared by all classes: a word of it moves all prompts alike, and
    where the attack prefers it, large distances need not be large harm.
    """
    made = {method: edits(study, method) for method in ordered(study.methods, METHODS)}
    made = {method: found for method, found in made.items() if len(found)}
    numbers = pd.DataFrame({"method": list(made)})
    for name, sets in tasks.items():
        own = [found[found.dataset.isin(sets)] for found in made.values()]
        numbers[name] = [100 * (found["where"] == "template").mean() for found in own]
    shown = numbers.assign(**{name: numbers[name].map(tables.percent) for name in tasks})
    return shown.assign(method=shown.method.map(method_label)), numbers


def favourites(study, count=10):
    """Words that the text attack on the undefended model replaces most: one row a word."""
    found, rows = edits(study), []
    for (word, where), own in sorted(found.groupby(["old", "where"]), key=lambda pair: -len(pair[1]))[:count]:
        news = ", ".join(f"{new} ({times})" for new, times in Counter(own.new).most_common(3))
        sets = ", ".join(dict.fromkeys(map(dataset_label, own.dataset)))
        rows.append({"word": word, "part of": where, "replaced": len(own), "mostly by": news, "data sets": sets})
    shown = pd.DataFrame(rows, columns=["word", "part of", "replaced", "mostly by", "data sets"])
    return shown, shown
