"""Tables of the ablations, as text ready to print, and the forest plot of the faults."""

import re

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from mmcoa.report import style
from mmcoa.report.ablations import GROUPS, REFERENCE, faults, label
from mmcoa.report.names import attack_label
from mmcoa.report.tables import signed_interval
from mmcoa.training.faults import FAULTS


def group_table(found, group, frame):
    """One row a variant of a group, the reference first: accuracy, and points against the reference (Δ), under each attack.

    frame: `ablations.group_effects` of the group.
    """
    own = {key: found.settings[REFERENCE].get(key) for key in GROUPS[group][1]}
    text = label({key: value for key, value in own.items() if value is not None})
    first = {"variant": f"{text} (reference)".strip(), **reference_cells(found)}
    return pd.DataFrame([first, *({"variant": part.label.iloc[0], **effect_cells(part)} for part in by_variant(frame))])


def faults_table(found, frame):
    """One row a fault, the reference first: accuracy, and faulty minus right (Δ).

    frame: `ablations.fault_effects`.
    """
    rows = [{"fault": part.label.iloc[0], **effect_cells(part)} for part in by_variant(frame)]
    return pd.DataFrame([{"fault": "none (reference)", **reference_cells(found)}, *rows])


def meanings(found, frame):
    """What each fault of `faults_table` is, in its order."""
    known = {part.label.iloc[0]: FAULTS.get(faults(found)[part.variant.iloc[0]], "–") for part in by_variant(frame)}
    rows = [
        {"fault": name, "what it is": re.sub(r" \([A-Z]\d+\)$", "", text)} for name, text in known.items()
    ]  # numbers of a design page
    return pd.DataFrame(rows)


def by_variant(frame):
    """The parts of `ablations.effects`, one a variant."""
    return [part for _, part in frame.groupby("variant", sort=False)]


def reference_cells(found):
    """The reference's row: mean over all its seeds."""
    own = found.outcomes[found.outcomes.method == REFERENCE]
    cells = {"seeds": seeds_text(sorted(own.train_seed.unique()))}
    cells["n"] = str(len(own[["dataset", "sample_id"]].drop_duplicates()))
    for attack in found.attacks:
        cells |= {attack_label(attack): f"{macro(own, attack):.1f}", f"Δ {attack_label(attack)}": "–"}
    return cells


def macro(outcomes, attack):
    """Macro mean over data sets, in percent, of the outcomes of one or many seeds."""
    return 100 * outcomes.groupby("dataset")[f"{attack}_correct"].mean().mean()


def effect_cells(part):
    """The row of one variant's effects."""
    first = part.iloc[0]
    cells = {"seeds": seeds_text(first.seeds), "n": str(first.n)}
    for row in part.itertuples():
        cells[attack_label(row.attack)] = f"{row.accuracy:.1f}"
        cells[f"Δ {attack_label(row.attack)}"] = signed_interval(row.points, row.low, row.high)
    return cells


def seeds_text(seeds):
    return ", ".join(str(seed) for seed in seeds)


def lambda_figure(frame):
    """Figure of `ablations.lambda_curve`: one panel an attack; the hollow marker is the reference."""
    style.use()
    attacks = list(dict.fromkeys(frame.attack))
    figure, panels = plt.subplots(1, len(attacks), figsize=(style.WIDTH, 2.5), sharey=True, squeeze=False)
    for axes, attack in zip(panels[0], attacks, strict=True):
        part, (color, marker) = frame[frame.attack == attack], style.ATTACKS.get(attack, style.OTHER)
        errors = np.clip([part.accuracy - part.low, part.high - part.accuracy], 0, None)
        axes.errorbar(
            part.x, part.accuracy, yerr=errors, fmt=f"{marker}-", color=color, ms=5.5, lw=1.2, elinewidth=1, mec=color
        )
        own = part[part.variant == REFERENCE]
        axes.plot(own.x, own.accuracy, marker, color=color, mfc="white", ms=5.5, zorder=4)
        axes.set(title=attack_label(attack), xlim=(0, 1), ylim=(0, 102), xticks=[0, 0.25, 0.5, 0.75, 1])
        axes.set_xticklabels(["0", "¼", "½", "¾", "1"])
    panels[0][0].set_ylabel("macro accuracy (%)")
    figure.supxlabel("λ image (λ text is the rest to 1)", size=8.5)
    figure.tight_layout(w_pad=0.8)
    return figure


def forest(frame):
    """Forest plot of `ablations.fault_effects`: one panel an attack, one row a fault; hollow where the interval covers zero."""
    style.use()
    parts = by_variant(frame)[::-1]
    attacks = list(dict.fromkeys(frame.attack))
    size = (style.WIDTH, 0.9 + 0.36 * len(parts))
    figure, panels = plt.subplots(1, len(attacks), figsize=size, sharex=True, sharey=True, squeeze=False)
    for axes, attack in zip(panels[0], attacks, strict=True):
        color, marker = style.ATTACKS.get(attack, style.OTHER)
        for y, part in enumerate(parts):
            (row,) = part[part.attack == attack].itertuples()
            errors = np.clip([[row.points - row.low], [row.high - row.points]], 0, None)
            look = {"color": color, "ms": 5.5, "elinewidth": 1.1, "mec": color, "mfc": "white" if row.covers else color}
            axes.errorbar([row.points], [y], xerr=errors, fmt=marker, **look)
        axes.axvline(0, color=style.GREY, ls=(0, (4, 3)), lw=0.9, zorder=1)
        axes.set(title=attack_label(attack), ylim=(-0.6, len(parts) - 0.4))
        axes.grid(axis="y", visible=False)
    panels[0][0].set_yticks(range(len(parts)), [part.label.iloc[0] for part in parts])
    figure.supxlabel("faulty minus right (points of macro accuracy)", size=8.5)
    figure.tight_layout(w_pad=0.6)
    return figure
