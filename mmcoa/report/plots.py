"""The report's plots. Each takes frames of numbers (statistics.py) and returns a matplotlib figure in the one style."""

import matplotlib.pyplot as plt
import numpy as np

from mmcoa.report import style, tables
from mmcoa.report.names import METHODS, attack_label, dataset_label, method_label, ordered

TASKS = {"in distribution": (style.ORANGE, "o"), "out of distribution": (style.BLUE, "s")}
LOOKS = ((style.BLACK, "o"), (style.BLUE, "s"), (style.ORANGE, "^"), (style.GREEN, "D"), (style.PINK, "v"))


def forest(frames, attacks, looks=TASKS, label="points gained on the undefended model"):
    """Gains with their intervals: one panel an attack, one row a method, one mark a frame.

    frames: {name: frame with method, attack, value, low, high}; looks: {name: (colour, marker)}, default those of the tasks.
    """
    style.use()
    methods = ordered((name for frame in frames.values() for name in frame.method), METHODS)
    size = (style.WIDTH, 0.9 + 0.26 * len(methods))
    figure, panels = plt.subplots(1, len(attacks), figsize=size, sharey=True, sharex=True, squeeze=False)
    for axes, attack in zip(panels[0], attacks, strict=True):
        axes.axvline(0, color="#555555", lw=0.8)
        for place, (name, frame) in enumerate(frames.items()):
            part = frame[frame.attack == attack].set_index("method")
            rows = [row for row, method in enumerate(methods) if method in part.index]
            values = part.loc[[methods[row] for row in rows]]
            shift = 0.32 * (place - (len(frames) - 1) / 2)
            with_intervals(axes, values, [-(row + shift) for row in rows], looks[name], name, ms=3.8, lw=1.1)
        axes.set_title(attack_label(attack))
        axes.grid(axis="y", visible=False)
        axes.tick_params(axis="y", length=0)
    panels[0, 0].set_yticks([-row for row in range(len(methods))], [method_label(name) for name in methods])
    panels[0, 0].set_ylim(-len(methods) + 0.4, 0.6)
    figure.supxlabel(label, fontsize=8.5)
    if len(frames) > 1:
        handles = panels[0, 0].get_legend_handles_labels()
        figure.legend(*handles, ncols=len(frames), loc="lower center", bbox_to_anchor=(0.55, 0.97))
    figure.tight_layout(w_pad=0.6)
    return figure


def with_intervals(axes, frame, at, look, label, **sizes):
    """Draw value, low and high of each row at one of the heights `at`; look: (colour, marker)."""
    errors = np.array([frame.value - frame.low, frame.high - frame.value])
    axes.errorbar(frame.value, at, xerr=errors, fmt=look[1], color=look[0], label=label, **sizes)


def legend_above(figure, axes):
    """What the methods of a panel look like, above all panels."""
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, ncols=min(6, len(labels)), loc="lower center", bbox_to_anchor=(0.5, 0.98))
    figure.tight_layout()


def curves(frame, x, xlabel, ylabel="accuracy (%)", panel="attack", title=attack_label, log=False):
    """Levels against a number: one panel a value of `panel`, one line a method. frame: method, x, value, panel."""
    style.use()
    values = list(dict.fromkeys(frame[panel]))
    rows, columns = style.grid(len(values))
    size = (style.WIDTH, 2.6 * rows)
    figure, panels = plt.subplots(rows, columns, figsize=size, sharey=True, sharex=True, squeeze=False)
    for axes, value in zip(panels.flat, values, strict=False):
        for method in ordered(frame.method, METHODS):
            part = frame[(frame[panel] == value) & (frame.method == method)].sort_values(x)
            color, marker = style.method(method)
            axes.plot(part[x], part.value, color=color, marker=marker, ms=3.5, lw=1.2, label=method_label(method))
        axes.set_title(title(value))
        axes.set_xlabel(xlabel)
        if log:
            axes.set_xscale("log", base=2)
            axes.set_xticks(sorted(set(frame[x])), [f"{value:g}" for value in sorted(set(frame[x]))])
            axes.minorticks_off()
    panels[0, 0].set_ylabel(ylabel)
    style.finish(panels, len(values))
    legend_above(figure, panels[0, 0])
    return figure


def tradeoff(levels, attacks):
    """Clean accuracy against accuracy under each attack: one panel an attack, one mark a method."""
    style.use()
    wide = levels.pivot(index="method", columns="attack", values="value")
    figure, panels = plt.subplots(1, len(attacks), figsize=(style.WIDTH, 3.0), sharex=True, squeeze=False)
    for axes, attack in zip(panels[0], attacks, strict=True):
        for method in ordered(wide.index, METHODS):
            color, marker = style.method(method)
            axes.plot(wide.clean[method], wide[attack][method], marker, color=color, ms=6, label=method_label(method))
        axes.axvline(wide.clean["none"], color="#999999", lw=0.8, ls=":")
        axes.set(title=attack_label(attack), xlabel="clean accuracy (%)")
        axes.set_ylim(bottom=0)
    panels[0, 0].set_ylabel("accuracy under attack (%)")
    legend_above(figure, panels[0, 0])
    return figure


def dots(frames, row="method", label=method_label, known=METHODS):
    """Levels of one thing several times: one row a method (or `row`), one mark with its interval a frame."""
    style.use()
    names = ordered((name for frame in frames.values() for name in frame[row]), known)
    figure, axes = plt.subplots(figsize=(style.WIDTH, 0.9 + 0.3 * len(names)))
    for place, (name, frame) in enumerate(frames.items()):
        at = [-(names.index(own) + 0.16 * (place - (len(frames) - 1) / 2)) for own in frame[row]]
        with_intervals(axes, frame, at, LOOKS[place], name, ms=4.2, lw=1.0)
    axes.set_yticks([-place for place in range(len(names))], [label(name) for name in names])
    axes.set(xlabel="accuracy (%)", ylim=(-len(names) + 0.4, 0.6))
    axes.grid(axis="y", visible=False)
    axes.legend(ncols=len(frames), loc="lower center", bbox_to_anchor=(0.45, 1.0))
    figure.tight_layout()
    return figure


def levels_by_set(study, attacks):
    """Undefended accuracy on each data set: `dots` with one mark an attack, Wilson intervals, easiest set first."""
    found = tables.per_set(study.rows[study.rows.method == "none"]).rename(columns={"accuracy": "value"})
    clean = found[found.attack == attacks[0]].sort_values("value", ascending=False)
    frames = {attack_label(attack): found[found.attack == attack] for attack in attacks}
    return dots(frames, row="dataset", label=dataset_label, known=list(clean.dataset))


def stacked(frame, looks):
    """Shares that add up to 100: one bar a method, one part a kind.

    frame: method as index, one column a kind in the order of the bar; looks: {kind: (colour, hatch)}.
    """
    style.use()
    methods = ordered(frame.index, METHODS)[::-1]
    figure, axes = plt.subplots(figsize=(style.WIDTH, 0.8 + 0.27 * len(methods)))
    start = np.zeros(len(methods))
    for kind, (color, hatch) in looks.items():
        values = frame.loc[methods, kind].to_numpy()
        axes.barh(range(len(methods)), values, left=start, color=color, hatch=hatch, edgecolor="white", lw=0.5, label=kind)
        start += values
    axes.set_yticks(range(len(methods)), [method_label(name) for name in methods])
    axes.set(xlim=(0, 100), xlabel="share of the pictures (%)")
    axes.grid(axis="y", visible=False)
    figure.legend(ncols=len(looks), loc="lower center", bbox_to_anchor=(0.5, 0.98), columnspacing=1.0, handletextpad=0.4)
    figure.tight_layout()
    return figure
