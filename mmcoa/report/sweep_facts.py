"""Phrases about a study's sweeps, as facts.py has them about its main evaluation."""

import numpy as np
import pandas as pd

from mmcoa.report import sweeps
from mmcoa.report.facts import percent
from mmcoa.report.names import SWEEPS, attack_label, changes_what, listed, method_label
from mmcoa.report.tables import macro


def of_sweeps(study):
    """What captions and prose say of each sweep that the study has: `NAME_n`, `NAME_threat`, `NAME_says`; and `missing`."""
    missing = [
        label
        for name, label in SWEEPS.items()
        if not any("none" in set(part.rows.method) for part in study.sweeps.get(name, {}).values())
    ]
    facts = {"missing": listed(missing) or "none"}
    for name, parts in study.sweeps.items():
        own = [part.rows[part.rows.method == "none"] for part in parts.values()]
        if not any(len(rows) for rows in own):
            continue
        sizes = max(own, key=len).groupby("dataset").n.first()
        facts[f"{name}_n"] = f"{sizes.sum():,}"
        facts[f"{name}_sets"] = str(len(sizes))
        facts[f"{name}_threat"] = sweeps.threat_text(study, name)
        if name in sweeps.NUMERIC:
            facts[f"{name}_says"] = trends(name, sweeps.curve(study, name))
    if len(names := sweeps.methods_of(study, "epsilon")) > 1:
        facts["epsilon_methods_says"] = ends(study, names)
        facts["epsilon_methods_n"] = f"{max(sweeps.curve(study, 'epsilon', name).n.max() for name in names):,}"
        facts["epsilon_methods_threat"] = sweeps.threat_text(study, "epsilon", names[0])
    if "attacks" in study.sweeps:
        facts |= of_attacks(study)
    for name in ("source", "words"):
        if f"{name}_n" in facts:
            facts[f"{name}_says"] = extremes(sweeps.texts_table(study, name))
    if "budget_n" in facts:
        part = sweeps.most_edited(study)
        budget = int(part.rows.text_budget.max())
        facts |= {
            "edits_budget": f"at most {budget}",
            "edits_threat": part.rows[part.rows.attack == "text"].threat_text.iloc[0],
        }
    if shown := [name for name in ("steps", "restarts") if f"{name}_n" in facts]:  # one figure shows both
        for key, separator in (("n", " and "), ("threat", "; and "), ("says", "; ")):
            facts[f"search_{key}"] = separator.join(dict.fromkeys(facts[f"{name}_{key}"] for name in shown))
    return facts


def ends(study, names):
    """Of each attack, where the methods stand at the smallest and at the largest epsilon."""
    frame, clauses = pd.concat([sweeps.curve(study, "epsilon", name).assign(method=name) for name in names]), []
    for attack, part in frame.groupby("attack", sort=False):
        stops = [part[part.x == x] for x in (part.x.min(), part.x.max())]
        said = [
            f"at {own.value.iloc[0]} {listed(f'{method_label(r.method)} {percent(r.accuracy)}' for r in own.itertuples())}"
            for own in stops
        ]
        clauses.append(f"{attack_label(attack)}: {', '.join(said)}")
    return "; ".join(clauses)


PLACES = {"epsilon": "at {}", "steps": "after {} steps", "restarts": "with {} starts", "budget": "with {} words"}


def trends(name, frame):
    """Each attack of a curve: where it starts and ends, and whether it rises anywhere on the way."""

    def place(value):
        text = PLACES[name].format(value)
        return text.removesuffix("s") if value == "1" else text

    clauses = []
    for attack, part in frame.groupby("attack", sort=False):
        first, last = part.iloc[0], part.iloc[-1]
        rise = float(np.max(np.diff(part.accuracy), initial=0))
        way = "never rising on the way" if rise < 0.05 else f"rising by at most {rise:.1f} points from one value to the next"
        ends = f"from {first.accuracy:.0f} % {place(first.value)} to {last.accuracy:.0f} % {place(last.value)}"
        clauses.append(f"{attack_label(attack)} {ends}, {way}")
    return "; ".join(clauses)


def of_attacks(study):
    """The attacks of the sweep over all of them: how many, and the strongest of each kind."""
    part = sweeps.one(study, "attacks")
    means = macro(part)
    means = means[(means.method == "none") & (means.attack != "clean")]
    if means.empty:
        return {}
    kinds = {kind: means[means.attack.map(changes_what) == kind] for kind in ("picture", "prompts", "both")}
    names = {"picture": "on pictures", "prompts": "on prompts", "both": "on both"}
    clauses = [f"{names[kind]}, {strongest(own)}" for kind, own in kinds.items() if len(own)]
    seeds = int(macro(part).seeds.max())
    return {
        "attacks_count": str(len(means)),
        "attacks_strongest": "; ".join(clauses),
        "attacks_seeds": f"{seeds} training seed{'s' * (seeds != 1)}",
    }


def strongest(means):
    """`auto (56.9 %)`; of equals all."""
    least = means.accuracy.min()
    return f"{listed(means.attack[means.accuracy < least + 0.05].map(attack_label))} ({least:.1f} %)"


def extremes(table):
    """Of a `texts_table`: the row that leaves least and the one that leaves most."""
    label, accuracy = table.iloc[:, 0], table.accuracy.map(lambda text: float(text.split(" ")[0]))
    low, high = accuracy.idxmin(), accuracy.idxmax()
    if accuracy[low] == accuracy[high]:
        return f"{'all leave' if len(label) > 1 else f'{label[low]} leaves'} {accuracy[low]:.1f} %"
    return f"{label[low]} leaves least ({accuracy[low]:.1f} %), {label[high]} most ({accuracy[high]:.1f} %)"
