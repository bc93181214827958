"""Few-shot fine-tuning: accuracy against the number of pictures of each class that a model was trained on."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from mmcoa.report import in_distribution, style
from mmcoa.report.in_distribution import ALL, UNDEFENDED
from mmcoa.report.names import METHODS, attack_label, dataset_label, listed, method_label, ordered, ordered_attacks, shots_label
from mmcoa.report.tables import number, signed_interval


def curve(study):
    """Macro accuracy of each defence at each number of shots, on the data sets that every point of the curve has.

    Returns columns defense, shots (0: undefended; ALL: every picture), attack, accuracy, low, high (percent), n, sets,
    seeds, and gain, gain_low, gain_high: points against the undefended model on the same pictures.
    """
    found = in_distribution.entries(study)
    few = found[found.shots < ALL]
    whole = found[(found.shots == ALL) & found.defense.isin(few.defense) & found.dataset.isin(few.dataset)]
    groups = {key: in_distribution.chosen(part) for key, part in few.groupby(["defense", "shots"])}
    shared = set.intersection(*(set(part.dataset) for part in groups.values()))
    for key, part in whole.groupby(["defense", "shots"]):
        if shared <= set(part.dataset):  # else the last point would be about other data sets
            groups[key] = in_distribution.chosen(part)
    frames = []
    for (_, shots), part in groups.items():
        own = in_distribution.named(study, part[part.dataset.isin(shared)])
        means, gains = (in_distribution.macro(own, against) for against in (None, UNDEFENDED))
        for name in ("accuracy", "low", "high"):
            means["gain" + name.removeprefix("accuracy").replace("low", "_low").replace("high", "_high")] = gains[name]
        means["shots"] = np.where(means.method == UNDEFENDED, 0.0, shots)
        frames.append(means.assign(defense=means.method))
    frame = pd.concat(frames, ignore_index=True).drop_duplicates(["defense", "shots", "attack"])
    order = {name: place for place, name in enumerate(ordered(frame.defense, METHODS))}
    frame = frame.sort_values(
        ["defense", "shots"], key=lambda c: c.map(order) if c.name == "defense" else c, kind="stable", ignore_index=True
    )
    columns = ["defense", "shots", "attack", "accuracy", "low", "high", "gain", "gain_low", "gain_high", "n", "sets", "seeds"]
    return frame[columns]


SAID = ("image", "text", "sequential")  # attacks of the prose


def amount(shots):
    return "all pictures" if shots == ALL else shots_label(int(shots))


def shots_text(shots):
    return "–" if shots == 0 else "all" if shots == ALL else f"{shots:.0f}"


def table(frame):
    """`curve` to print: accuracy under each attack."""
    rows = []
    for (defense, shots), part in frame.groupby(["defense", "shots"], sort=False):
        row = {
            "method": method_label(defense),
            "shots": shots_text(shots),
            "seeds": "–" if shots == 0 else str(part.seeds.iloc[0]),
            "n": str(part.n.iloc[0]),
        }
        rows.append(row | {attack_label(r.attack): number(r.accuracy, r.low, r.high) for r in part.itertuples()})
    return pd.DataFrame(rows)


def figure(frame):
    """One panel an attack, one line a defence, with intervals; a dashed line and its band mark the undefended model."""
    style.use()
    attacks = ordered_attacks(frame.attack)
    shots = sorted(set(frame.shots) - {0})
    rows, columns = style.grid(len(attacks))
    figure, panels = plt.subplots(
        rows, columns, figsize=(style.WIDTH, 0.7 + 1.75 * rows), sharex=True, sharey=True, squeeze=False
    )
    names = [name for name in ordered(frame.defense, METHODS) if name != UNDEFENDED]
    for axes, attack in zip(panels.flat, attacks, strict=False):
        own = frame[frame.attack == attack]
        base = own[own.defense == UNDEFENDED].iloc[0]
        axes.axhspan(base.low, base.high, color="#efefef", zorder=0)
        axes.axhline(base.accuracy, color=style.GREY, ls=(0, (4, 3)), lw=0.9, label=method_label(UNDEFENDED))
        for name, offset in zip(names, np.linspace(-0.1, 0.1, len(names)) if len(names) > 1 else [0], strict=True):
            part = own[own.defense == name]
            color, marker = style.method(name)
            errors = np.clip([part.accuracy - part.low, part.high - part.accuracy], 0, None)
            look = {"fmt": f"{marker}-", "color": color, "ms": 5, "lw": 1.2, "elinewidth": 1, "mec": "white", "mew": 0.5}
            axes.errorbar(
                [shots.index(value) + offset for value in part.shots],
                part.accuracy,
                yerr=errors,
                label=method_label(name),
                **look,
            )
        axes.set(title=attack_label(attack), ylim=(0, 102), xlim=(-0.4, len(shots) - 0.6))
        axes.set_xticks(range(len(shots)), [shots_text(value) for value in shots])
        axes.grid(axis="x", visible=False)
    style.finish(panels, len(attacks))
    handles, texts = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, texts, ncols=len(texts), loc="lower center", bbox_to_anchor=(0.5, 0.98), handletextpad=0.4)
    figure.supxlabel("pictures of each class in training", size=8.5)
    figure.supylabel("macro accuracy (%)", size=8.5)
    figure.tight_layout(w_pad=0.6, h_pad=0.8)
    return figure


def facts(study):
    """What captions and prose say of `curve`: {key: text}."""
    frame, found = curve(study), in_distribution.entries(study)
    sets = set(found.dataset[found.shots < ALL])
    return {
        "few_sets": listed(dataset_label(name) for name in sorted(sets))
        if len(sets) == frame.sets.iloc[0]
        else f"{frame.sets.iloc[0]} data sets",
        "few_n": f"{frame.n.iloc[0]:,}",
        "few_says": says(frame),
    }


def says(frame):
    """Gain of each defence at the fewest and at the most shots, under the two single attacks and the sequential one."""
    clauses = []
    for attack in [name for name in SAID if name in set(frame.attack)]:
        own, parts = frame[(frame.attack == attack) & (frame.shots > 0)], []
        for name, part in own.groupby("defense", sort=False):
            ends = [
                f"{signed_interval(r.gain, r.gain_low, r.gain_high)} with {amount(r.shots)}"
                for r in (part.iloc[0], part.iloc[-1])
            ]
            parts.append(f"{method_label(name)} {' and '.join(dict.fromkeys(ends))}")
        clauses.append(f"{attack_label(attack)}, {listed(parts)}")
    return "; ".join(clauses)
