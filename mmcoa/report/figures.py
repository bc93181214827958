"""The report's figures of the main evaluation."""

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns

from mmcoa.report import style, tables
from mmcoa.report.names import MACRO, METHODS, attack_label, dataset_label, method_label, ordered, ordered_attacks


def impact(study):
    """Accuracy of the undefended model on each data set under each attack, with intervals; macro mean on top."""
    style.use()
    frame = tables.by_dataset(study)
    frame = frame[frame.method == "none"]
    means = tables.macro(study)
    means = means[means.method == "none"].assign(dataset=MACRO)
    attacks = ordered_attacks(study.attacks)
    clean = frame[frame.attack == "clean"].set_index("dataset").accuracy
    names = [*clean.sort_values().index, MACRO]
    figure, axes = plt.subplots(figsize=(style.WIDTH, 0.8 + 0.33 * len(names)))
    offsets = np.linspace(0.3, -0.3, len(attacks)) if len(attacks) > 1 else [0]
    for attack, offset in zip(attacks, offsets, strict=True):
        color, marker = style.ATTACKS.get(attack, style.OTHER)
        for source, size in ((frame, 4.5), (means, 6)):
            part = source[source.attack == attack]
            y = [names.index(name) + offset for name in part.dataset]
            label = attack_label(attack) if size == 6 else None
            _points(axes, part, y, color, marker, size, label)
    axes.axhspan(len(names) - 1.5, len(names) - 0.5, color="#f2f2f2", zorder=0)
    axes.set_yticks(range(len(names)), [name if name == MACRO else dataset_label(name) for name in names])
    axes.get_yticklabels()[-1].set_fontweight("bold")
    axes.set(xlim=(0, 101), ylim=(-0.6, len(names) - 0.5), xlabel="accuracy (%)")
    axes.grid(axis="y", visible=False)
    axes.legend(ncols=len(attacks), loc="lower center", bbox_to_anchor=(0.45, 1.0), columnspacing=1.2, handletextpad=0.3)
    return figure


def methods(study):
    """Macro accuracy of each method under each attack, with intervals; a dashed line marks the undefended model."""
    style.use()
    attacks = ordered_attacks(study.attacks)
    size = (style.WIDTH, 0.85 + 0.36 * len(study.methods))
    figure, panels = plt.subplots(1, len(attacks), figsize=size, squeeze=False)
    methods_row(panels[0], study, attacks)
    figure.supxlabel("macro accuracy (%)", size=8.5)
    figure.tight_layout(w_pad=0.6)
    return figure


def methods_row(panels, study, attacks):
    """Fill a row of panels, one an attack, that share no axis; names stand at the first."""
    frame, names = tables.macro(study), ordered(study.methods, METHODS)[::-1]
    for axes, attack in zip(panels, attacks, strict=True):
        part = frame[frame.attack == attack].set_index("method")
        for y, name in enumerate(names):
            color, marker = style.method(name)
            _points(axes, part.loc[[name]], [y], color, marker, 5.5)
            label = axes.text(part.accuracy[name], y + 0.2, f"{part.accuracy[name]:.0f}", ha="center", va="bottom", size=7)
            label.set_bbox({"fc": "white", "ec": "none", "pad": 0.4})  # the dashed line must not cross it
        if "none" in part.index:
            axes.axvline(part.accuracy["none"], color=style.GREY, ls=(0, (4, 3)), lw=0.9, zorder=1)
        axes.set_title(attack_label(attack), size=9 if len(panels) < 6 else 7.5)  # many panels are narrower than `independent`
        axes.set(xlim=(0, 104), ylim=(-0.6, len(names) - 0.25), xticks=[0, 50, 100])
        axes.set_yticks(range(len(names)), [method_label(name) for name in names] if axes is panels[0] else [])
        axes.grid(axis="y", visible=False)


def gains(study):
    """Heat map: points of accuracy that each method gains (or loses) on each data set, against the undefended model."""
    style.use()
    frame = tables.by_dataset(study)
    attacks = ordered_attacks(study.attacks)
    names = [name for name in ordered(study.methods, METHODS) if name != "none"]
    wide = frame.pivot(index=["dataset", "attack"], columns="method", values="accuracy")
    wide = wide[names].sub(wide["none"], axis=0)
    limit = max(10, np.ceil(wide.abs().max().max() / 10) * 10)
    sets, columns = (
        len(wide.index.unique("dataset")),
        max(1, min(len(attacks), 28 // len(names))),
    )  # cells across a page that can be read
    rows = -(-len(attacks) // columns)
    names_take = 0.065 * max(
        len(method_label(name)) for name in names
    )  # inches, upright: slanted, long names take the width of their panels
    size = (style.WIDTH, 0.1 + rows * (0.35 + names_take + 0.21 * sets))
    figure, panels = plt.subplots(rows, columns, figsize=size, sharey=True, squeeze=False, layout="constrained")
    for axes, attack in zip(panels.flat, attacks, strict=False):
        part = wide.xs(attack, level="attack")
        part.index = [dataset_label(name) for name in part.index]
        sns.heatmap(
            part, ax=axes, cmap="PuOr_r", vmin=-limit, vmax=limit, annot=part.map(lambda gain: tables.signed(gain, 0)), fmt="",
            cbar=False, linewidths=0.6, annot_kws={"size": 6 if len(names) * columns > 16 else 7},
        )  # fmt: skip
        axes.set(title=attack_label(attack), xlabel="", ylabel="")
        labels = [method_label(name) for name in names]
        axes.set_xticks(np.arange(len(names)) + 0.5, labels, rotation=90)
        axes.tick_params(axis="y", length=0, rotation=0)
    for axes in panels.flat[len(attacks) :]:
        axes.axis("off")
    bar = figure.colorbar(panels[0][0].collections[0], ax=panels.ravel().tolist(), fraction=0.025, pad=0.015, aspect=35)
    bar.set_label("points gained on undefended", size=8)
    bar.outline.set_visible(False)
    return figure


def _points(axes, part, y, color, marker, size, label=None):
    """Means with intervals as horizontal bars. A degenerate bootstrap interval may leave the mean by rounding: clip at 0."""
    errors = np.clip([part.accuracy - part.low, part.high - part.accuracy], 0, None)
    look = {"fmt": marker, "color": color, "ms": size, "elinewidth": 1.1, "mec": "white", "mew": 0.5}
    axes.errorbar(part.accuracy, y, xerr=errors, label=label, **look)
