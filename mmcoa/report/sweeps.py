"""Frames and tables of a study's sweeps: extra evaluations in which one setting of the adversary varies.

Each value of a sweep is a `Results` of its own (results.Results.sweeps). Macro means and their intervals are those of
tables.macro, on the sweep's own pictures, which may be fewer than the main evaluation's.
"""

import pandas as pd

from mmcoa.attacks.catalog import ATTACKS
from mmcoa.errors import UserError
from mmcoa.evaluation.statistics import macro_interval
from mmcoa.report.names import (
    METHODS,
    SWEEPS,
    attack_knows,
    attack_label,
    changes_what,
    method_label,
    ordered,
    ordered_attacks,
    source_label,
)
from mmcoa.report.tables import correct_by_sample, difference, macro, number, signed_interval
from mmcoa.report.words import text_changes
from mmcoa.threat import parse_epsilon

NUMERIC = ("epsilon", "steps", "restarts", "budget")  # sweeps whose values have a place on an axis


def one(study, name):
    """The only value of a sweep in which nothing varies (`attacks`)."""
    return next(iter(study.sweep(name).values()))


def curve(study, name, method="none"):
    """Macro accuracy of one method over a sweep with numbers for values.

    Returns columns value (as the profile has it), x (number), attack, accuracy, low, high, n, by attack and x; without
    `clean`, which no such setting changes.
    """
    frames = []
    for value, part in study.sweep(name).items():
        frame = macro(part)
        frame = frame[(frame.method == method) & (frame.attack != "clean")]
        frames.append(frame.assign(value=value, x=parse_epsilon(value)))
    frame = pd.concat(frames, ignore_index=True)
    if frame.empty:
        raise UserError(f"sweep '{name}' of study '{study.name}' has no attack on method '{method}'")
    order = {attack: i for i, attack in enumerate(ordered_attacks(frame.attack))}
    frame = frame.sort_values(["attack", "x"], key=lambda c: c.map(order) if c.name == "attack" else c, ignore_index=True)
    return frame[["value", "x", "attack", "accuracy", "low", "high", "n"]]


def methods_of(study, name):
    """Methods that every value of a sweep has, in the order of tables; none where the study lacks the sweep."""
    own = [set(part.methods) for part in study.sweeps.get(name, {}).values()]
    return ordered(set.intersection(*own), METHODS) if own else []


def clean(study, name, method="none"):
    """(macro clean accuracy of a method on the pictures of a sweep, low, high)."""
    part = next(iter(study.sweep(name).values()))
    source = part if "clean" in part.attacks else study
    return macro_interval(correct_by_sample(source, method, "clean", like=part))


def curve_table(study, name, method="none"):
    """`curve` as text, one row a value and one column an attack."""
    frame = curve(study, name, method)
    frame["text"] = [number(r.accuracy, r.low, r.high) for r in frame.itertuples()]
    attacks = list(dict.fromkeys(frame.attack))
    wide = frame.pivot(index=["x", "value", "n"], columns="attack", values="text").reset_index().sort_values("x")
    wide = wide[["value", "n", *attacks]].rename(columns={"value": name} | {attack: attack_label(attack) for attack in attacks})
    wide.columns.name = None
    return wide.astype(str).reset_index(drop=True)


def methods_curve_table(study, name):
    """`curve` of every method of a sweep as text: one row a method and value, one column an attack."""
    parts = [curve_table(study, name, method).assign(method=method_label(method)) for method in methods_of(study, name)]
    table = pd.concat(parts, ignore_index=True)
    return table[["method", *(column for column in table.columns if column != "method")]]


def attacks_table(study, method="none"):
    """Every attack of the sweep `attacks` on one method: what it changes and knows, its budget, macro accuracy."""
    part = one(study, "attacks")
    frame = macro(part)
    rows = []
    for row in frame[frame.method == method].itertuples():
        settings = part.rows[(part.rows.method == method) & (part.rows.attack == row.attack)]
        rows.append(
            {"attack": attack_label(row.attack), "changes": changes_what(row.attack), "knows": attack_knows(row.attack)}
        )
        rows[-1] |= {
            "steps": steps_text(row.attack, settings.iloc[0]),
            "n": str(row.n),
            "accuracy": number(row.accuracy, row.low, row.high),
        }
    return pd.DataFrame(rows)


def attacks_methods_table(study):
    """Macro accuracy (percent, with interval) of each method of the sweep `attacks` as text: one row an attack, one column
    a method."""
    frame = macro(one(study, "attacks"))
    frame["text"] = [number(r.accuracy, r.low, r.high) for r in frame.itertuples()]
    wide = frame.pivot(index="attack", columns="method", values="text")
    wide = wide.loc[ordered_attacks(wide.index), methods_of(study, "attacks")].reset_index()
    wide["attack"] = wide.attack.map(attack_label)
    return wide.rename(columns=method_label).rename_axis(columns=None)


def steps_text(attack, row):
    """Length of the image search: steps, times restarts and targets where there are several; queries of a black box."""
    if attack in ATTACKS and ATTACKS[attack].parts:
        return "as its parts"
    if row.queries > 0:
        return f"{int(row.queries):,} queries"
    steps = row.apgd_steps if row.apgd_steps > 0 else row.steps
    if not steps > 0:
        return "1" if row.epsilon > 0 else "–"  # a search without a number of steps is one step
    times = f" × {int(row.restarts)} restarts" if row.restarts > 1 else ""
    aims = f" × {int(row.targets)} targets" if row.targets > 0 else ""
    return f"{int(steps)}{aims}{times}"


def texts_table(study, name, method="none", reference=None):
    """Text attack under each value of a sweep without numbers (`source`, `words`), and its paired gap to one of them.

    reference: value that the others are compared with; default the first. Returns columns value label, n, share of prompts
    changed in percent, accuracy with interval, and points of accuracy against the reference with a paired interval.
    """
    parts = {value: part for value, part in study.sweep(name).items() if "text" in part.attacks and method in part.methods}
    if not parts:
        raise UserError(f"sweep '{name}' of study '{study.name}' has no text attack on method '{method}'")
    reference = reference if reference in parts else next(iter(parts))
    base, rows = parts[reference], []
    for value, part in parts.items():
        sets = correct_by_sample(part, method, "text")
        changed = part.rows[(part.rows.method == method) & (part.rows.attack == "text")].share_changed.mean()
        row = {
            LABELS[name]: value_label(name, value),
            "n": str(sum(len(label) for _, label in sets)),
            "prompts changed (%)": f"{changed:.0f}",
        }
        row["accuracy"] = number(*macro_interval(sets))
        gap = "–" if part is base else signed_interval(*gap_interval(part, base, method, "text"))
        rows.append(row | {f"against {value_label(name, reference)}": gap})
    return pd.DataFrame(rows)


def main_source(study):
    """Candidate source of the main evaluation's text attack, or an empty text."""
    rows = study.rows[study.rows.attack == "text"]
    return rows.candidate_source.iloc[0] if len(rows) else ""


LABELS = {"source": "candidate source", "words": "words that may change"}


def value_label(name, value):
    """A sweep's value as tables say it."""
    if name == "words":
        return {"content": "all content words", "class_name": "class name alone"}.get(value, value)
    return source_label(value) if name == "source" else value


def gap_interval(part, other, method, attack, against=None):
    """(points of macro accuracy that `attack` on `part` leaves more than `against` on `other`, low, high), paired.

    Only pictures that both have count.
    """
    ours = correct_by_sample(part, method, attack, like=other)
    theirs = correct_by_sample(other, method, against or attack, like=part)
    return macro_interval(difference(ours, theirs))


def longest_edit(study):
    """Most words that a prompt of `most_edited` loses, undefended model."""
    changes = text_changes(most_edited(study))
    return int(changes.edits.map(len).max()) if len(changes) else 0


def most_edited(study):
    """The study of the smallest budget above one word, of the sweep `budget`; without one, that of the largest."""
    parts = sorted(study.sweep("budget").items(), key=lambda item: parse_epsilon(item[0]))
    return next((part for value, part in parts if parse_epsilon(value) > 1), parts[-1][1])


USUAL = ("sequential", "image", "pgd", "text")  # attacks whose threat model captions give


def threat_text(study, name, method="none"):
    """Threat model of a sweep for captions: the sentence of the first value's attack, and what varies from where to where."""
    parts = study.sweep(name)
    values = sorted(parts, key=parse_epsilon) if name in NUMERIC else list(parts)
    text = described(parts[values[0]], method)
    if len(values) < 2:
        return text
    ends = f"from {values[0]} to {values[-1]}" if name in NUMERIC else ", ".join(value_label(name, value) for value in values)
    return f"{SWEEPS.get(name, name)} {ends}; at the first of these: {text}"


def described(part, method):
    """Threat model of one evaluation, as its most usual attack states it."""
    rows = part.rows[(part.rows.method == method) & (part.rows.attack != "clean")]
    order = rows.attack.map(lambda name: (*USUAL, name).index(name))
    return rows.threat_text.loc[order.idxmin()]
