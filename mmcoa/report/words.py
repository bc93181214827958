"""Which words the text attack changes: examples for the gallery, and counts of template words and of class names."""

from collections import Counter

import pandas as pd

from mmcoa.attacks.words import class_name_positions, split_words
from mmcoa.errors import UserError
from mmcoa.report.names import METHODS, dataset_label, listed, method_label, ordered
from mmcoa.report.tables import require


def prompts_table(study, edits=1, clean=None):
    """For each data set the class whose pictures lose most under the text attack, undefended model.

    edits: only prompts with at least that many changed words; a data set without one is left out.
    clean: study that has the clean accuracy of the same pictures, where `study` is a sweep without it.
    Changed words are marked for MyST: `[word]{.was}` and `[word]{.now}`; `right before` and `right after` count pictures.
    """
    require(study, ["none"], ["text"])
    outcomes = study.outcomes[study.outcomes.method == "none"]
    if "clean_correct" not in outcomes and clean is not None:
        keys = ["model", "dataset", "sample_id"]
        outcomes = outcomes.merge(clean.outcomes[[*keys, "clean_correct"]], on=keys)
    rows = []
    for dataset, changes in text_changes(study).groupby("dataset"):
        counts = lost(outcomes[outcomes.dataset == dataset])
        enough = [
            label for label, change in enumerate(changes.itertuples()) if len(change.edits) >= edits and label in counts.index
        ]
        if not enough:
            continue
        label = counts.loc[enough, "lost"].idxmax()
        change, count = changes.iloc[label], counts.loc[label]
        row = {"data set": dataset_label(dataset), "prompt": marked(change.prompt, change.edits, ".was")}
        row |= {"adversarial prompt": marked(change.adversarial_prompt, change.edits, ".now")}
        if "clean" in count:
            row |= {"right before": f"{count.clean:.0f} of {count.n:.0f}"}
        rows.append(row | {"right after": f"{count.text:.0f} of {count.n:.0f}"})
    return pd.DataFrame(rows)


def text_changes(study, method="none"):
    """What the text attack did to each prompt, one method; without those of the joint attack."""
    changes = study.changes
    return changes[(changes.method == method) & (changes.attack == "text")] if len(changes) else changes


def lost(outcomes):
    """Per label of one data set: n, right pictures `clean` (where known) and `text`, and `lost`, by which the worst is
    found."""
    names = {name: f"{name}_correct" for name in ("clean", "text") if f"{name}_correct" in outcomes}
    counts = outcomes.groupby("label").agg(n=("label", "size"), **{name: (column, "sum") for name, column in names.items()})
    counts["lost"] = counts.get("clean", counts.n) - counts.text
    return counts


def marked(prompt, edits, style):
    """The prompt with the letters of its edited words (records of one change) in a styled span."""
    positions, words = {edit["position"] for edit in edits}, []
    for index, word in enumerate(split_words(prompt)):
        core = word.core.translate({ord(sign): "\\" + sign for sign in "*_[]`$<"})
        words.append(word.prefix + (f"[{core}]{{{style}}}" if index in positions and core else core) + word.suffix)
    return " ".join(words)


def hits(study, method="none"):
    """Every change of a word that the text attack makes on the models of a method.

    Returns columns model, dataset, where (`class name` or `template`), old_word, new_word; one row an edit.
    """
    require(study, [method], ["text"])
    rows = []
    for (model, dataset), changes in text_changes(study, method).groupby(["model", "dataset"]):
        for change, name in zip(changes.itertuples(), name_positions(changes), strict=True):
            for edit in change.edits:
                where = "class name" if edit["position"] in name else "template"
                words = {"old_word": edit["old_word"].lower(), "new_word": edit["new_word"].lower()}
                rows.append({"model": model, "dataset": dataset, "where": where, **words})
    return pd.DataFrame(rows, columns=["model", "dataset", "where", "old_word", "new_word"])


def name_positions(changes):
    """Positions of the class name in each prompt of one data set; none where prompts and class names share no word."""
    try:
        return class_name_positions(list(changes.prompt), list(changes.class_name))
    except UserError:
        return [[] for _ in changes.prompt]


def hits_table(study):
    """For each data set: prompts, how many of them lose a word of the template or of the class name, and the favourite word.

    With a budget of one word the three counts add up to the prompts.
    """
    found, rows = hits(study), []
    changes = text_changes(study)
    for dataset, part in changes.groupby("dataset"):
        own = found[found.dataset == dataset]
        where = own["where"].value_counts()
        row = {"data set": dataset_label(dataset), "prompts": len(part)}
        row |= {"template word": int(where.get("template", 0)), "class name": int(where.get("class name", 0))}
        row["unchanged"] = int((~part.changed.astype(bool)).sum())
        word, count = next(iter(Counter(own.old_word).most_common(1)), ("", 0))
        rows.append(row | {"most often replaced": f"{word} ({count})" if count > 1 else "none twice"})
    return pd.DataFrame(rows)


def methods_table(study):
    """For each method the share of its prompts that lose a template word, a word of the class name, or none; mean over
    seeds."""
    rows = []
    for method in ordered(study.methods, METHODS):
        changes, found = text_changes(study, method), hits(study, method)
        if changes.empty:
            continue
        models, where = changes.model.nunique(), found["where"].value_counts()
        row = {
            "method": method_label(method),
            "seeds": "–" if method == "none" else str(models),
            "n prompts": str(len(changes) // models),
        }
        for kind, label in (("template", "template word (%)"), ("class name", "class name (%)")):
            row[label] = f"{100 * where.get(kind, 0) / len(changes):.1f}"
        row["unchanged (%)"] = f"{100 * float((~changes.changed.astype(bool)).mean()):.1f}"
        word, count = next(iter(Counter(found.old_word).most_common(1)), ("none", 0))
        rows.append(
            row | {"most often replaced": f"{word} ({100 * count / len(changes):.0f}\u00a0% of the prompts)" if count else word}
        )
    return pd.DataFrame(rows)


def favourites(study, count=12):
    """Words that the text attack on the undefended model replaces most, over all data sets, one row a word.

    `has it`: prompts that hold the word; `replaced`: those in which it is replaced; `mostly by`: the commonest replacements.
    """
    found, changes = hits(study), text_changes(study)
    holds = Counter(word for prompt in changes.prompt for word in {word.core.lower() for word in split_words(prompt)})
    rows = []
    for word, times in Counter(found.old_word).most_common(count):
        own = found[found.old_word == word]
        news = ", ".join(f"{new} ({n})" for new, n in Counter(own.new_word).most_common(3))
        row = {
            "word": word,
            "part of": listed(dict.fromkeys(own["where"])),
            "has it (n)": str(holds[word]),
            "replaced": str(times),
        }
        rows.append(row | {"mostly by": news})
    return pd.DataFrame(rows)


def template_share(study):
    """Percent of the undefended model's changed words that belong to a template, not to a class name."""
    found = hits(study)
    return 100 * float((found["where"] == "template").mean()) if len(found) else 0.0
