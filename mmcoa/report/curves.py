"""Figures of the sweeps, and of the words that the text attack hits."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns

from mmcoa.report import style, sweeps, tables, words
from mmcoa.report.names import MACRO, attack_label, changes_what, dataset_label, method_label, ordered_attacks

AXES = {
    "epsilon": "epsilon (pixel units of [0, 1])",
    "steps": "steps of the image attack",
    "restarts": "random starts of the image attack",
    "budget": "words that may change in a prompt",
}


def epsilon(study):
    """Macro accuracy of the undefended model against the size of the ball."""
    return _figure(study, ["epsilon"])


def search(study):
    """Macro accuracy against steps, and against restarts: one panel for each of the two sweeps that the study has."""
    return _figure(study, [name for name in ("steps", "restarts") if name in study.sweeps])


def budget(study):
    """Macro accuracy against the number of words that may change."""
    return _figure(study, ["budget"])


def epsilon_methods(study):
    """Macro accuracy against the size of the ball, one panel an attack and one line a method, with intervals."""
    style.use()
    names = sweeps.methods_of(study, "epsilon")
    frame = pd.concat([sweeps.curve(study, "epsilon", name).assign(method=name) for name in names])
    attacks, values = list(dict.fromkeys(frame.attack)), list(dict.fromkeys(frame.sort_values("x").value))
    figure, panels = plt.subplots(1, len(attacks), figsize=(style.WIDTH, 3.0), sharey=True, squeeze=False)
    for axes, attack in zip(panels[0], attacks, strict=True):
        for name, offset in zip(names, np.linspace(-0.12, 0.12, len(names)), strict=True):
            part = frame[(frame.attack == attack) & (frame.method == name)]
            color, marker = style.method(name)
            errors = np.clip([part.accuracy - part.low, part.high - part.accuracy], 0, None)
            look = {"fmt": f"{marker}-", "color": color, "ms": 5, "lw": 1.2, "elinewidth": 1, "mec": "white", "mew": 0.5}
            axes.errorbar(
                [values.index(value) + offset for value in part.value],
                part.accuracy,
                yerr=errors,
                label=method_label(name),
                **look,
            )
        axes.set(title=attack_label(attack), xlim=(-0.35, len(values) - 0.65), ylim=(0, 102), xlabel=AXES["epsilon"])
        axes.set_xticks(range(len(values)), values)
        axes.grid(axis="x", visible=False)
    panels[0][0].set_ylabel("macro accuracy (%)")
    figure.legend(
        *panels[0][0].get_legend_handles_labels(),
        ncols=min(5, len(names)),
        loc="lower center",
        bbox_to_anchor=(0.5, 0.97),
        handletextpad=0.4,
    )
    figure.tight_layout(w_pad=1.2)
    return figure


def _figure(study, names):
    """One panel a sweep, one line an attack, with intervals; the dashed line is the clean accuracy of the same pictures."""
    style.use()
    figure, panels = plt.subplots(1, len(names), figsize=(style.WIDTH, 2.8), sharey=True, squeeze=False)
    for axes, name in zip(panels[0], names, strict=True):
        _panel(axes, study, name)
    panels[0][0].set_ylabel("macro accuracy (%)")
    handles = {label: handle for axes in panels[0] for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    columns = min(4, len(handles))
    figure.legend(
        handles.values(), handles.keys(), ncols=columns, loc="lower center", bbox_to_anchor=(0.5, 0.97), handletextpad=0.4
    )
    figure.tight_layout(w_pad=1.2)
    return figure


def _panel(axes, study, name):
    frame = sweeps.curve(study, name)
    values = list(dict.fromkeys(frame.sort_values("x").value))
    attacks = list(dict.fromkeys(frame.attack))
    mean, low, high = sweeps.clean(study, name)
    axes.axhspan(low, high, color="#efefef", zorder=0)
    axes.axhline(mean, color=style.BLACK, ls=(0, (4, 3)), lw=0.9, label=attack_label("clean"))
    offsets = np.linspace(-0.09, 0.09, len(attacks)) if len(attacks) > 1 else [0]
    for attack, offset in zip(attacks, offsets, strict=True):
        part = frame[frame.attack == attack]
        color, marker = style.ATTACKS.get(attack, style.OTHER)
        errors = np.clip([part.accuracy - part.low, part.high - part.accuracy], 0, None)
        x = [values.index(value) + offset for value in part.value]
        look = {"fmt": f"{marker}-", "color": color, "ms": 5, "lw": 1.2, "elinewidth": 1, "mec": "white", "mew": 0.5}
        axes.errorbar(x, part.accuracy, yerr=errors, label=attack_label(attack), **look)
    axes.set_xticks(range(len(values)), values)
    axes.set(xlim=(-0.35, len(values) - 0.65), ylim=(0, 102), xlabel=AXES[name])
    axes.grid(axis="x", visible=False)


def heat(study):
    """Heat map: accuracy on each data set under each attack of the sweep `attacks`, undefended model; macro mean below."""
    style.use()
    part = sweeps.one(study, "attacks")
    frame = tables.by_dataset(part)
    frame = frame[frame.method == "none"]
    names = ordered_attacks(frame.attack)
    wide = frame.pivot(index="dataset", columns="attack", values="accuracy")[names].sort_index()
    wide.index = [dataset_label(name) for name in wide.index]
    wide = pd.concat([wide, wide.mean(skipna=False).to_frame(MACRO).T])
    figure, axes = plt.subplots(figsize=(style.WIDTH, 1.5 + 0.25 * len(wide)))
    light = sns.light_palette(style.BLUE, as_cmap=True)
    sns.heatmap(
        wide, ax=axes, cmap=light, vmin=0, vmax=100, annot=True, fmt=".0f", linewidths=0.6,
        cbar_kws={"label": "accuracy (%)", "fraction": 0.03, "pad": 0.015, "aspect": 35},
        annot_kws={"size": 6.5 if len(names) > 12 else 7.5},
    )  # fmt: skip
    axes.set(xlabel="", ylabel="")
    axes.set_xticks(
        np.arange(len(names)) + 0.5, [attack_label(name) for name in names], rotation=55, ha="left", rotation_mode="anchor"
    )
    axes.tick_params(axis="x", top=True, labeltop=True, bottom=False, labelbottom=False, pad=1)
    axes.tick_params(axis="y", length=0, rotation=0)
    axes.get_yticklabels()[-1].set_fontweight("bold")
    axes.axhline(len(wide) - 1, color=style.BLACK, lw=1)
    kinds = [changes_what(name) for name in names]
    for place in range(1, len(names)):
        if kinds[place] != kinds[place - 1]:  # pictures, prompts, both
            axes.axvline(place, color=style.BLACK, lw=1)
    return figure


def hits(study):
    """Share of each data set's prompts in which a template word, a word of the class name, or none was replaced."""
    style.use()
    table = words.hits_table(study)
    kinds = {"template word": (style.SKY, ""), "class name": (style.ORANGE, "////"), "unchanged": ("#dddddd", "")}
    total = table[list(kinds)].sum(axis=1)
    share = table[list(kinds)].astype(float).div(total.where(total > 0, 1), axis=0) * 100
    share.index = table["data set"]
    share = share.sort_values(["class name", "template word"])
    figure, axes = plt.subplots(figsize=(style.WIDTH, 0.9 + 0.24 * len(share)))
    left = np.zeros(len(share))
    for kind, (color, hatch) in kinds.items():
        axes.barh(
            range(len(share)), share[kind], left=left, color=color, hatch=hatch, edgecolor="white", height=0.78, label=kind
        )
        for y, (start, width) in enumerate(zip(left, share[kind], strict=True)):
            if width >= 7:
                text = axes.text(start + width / 2, y, f"{width:.0f}", ha="center", va="center", size=7, color=style.BLACK)
                text.set_bbox(
                    {"fc": "white", "ec": "none", "pad": 0.8, "alpha": 0.85} if hatch else {"fc": "none", "ec": "none"}
                )
        left = left + share[kind].to_numpy()
    axes.set_yticks(range(len(share)), share.index)
    axes.set(xlim=(0, 100), ylim=(-0.6, len(share) - 0.4), xlabel="share of the prompts (%)")
    axes.grid(axis="y", visible=False)
    axes.legend(ncols=3, loc="lower center", bbox_to_anchor=(0.45, 1.0), columnspacing=1.2, handletextpad=0.5)
    return figure
