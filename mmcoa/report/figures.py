"""The report's figures, made from result files only (pictures of attacks: see examples.py)."""

import textwrap

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns

from mmcoa.report import style, tables
from mmcoa.report.holes import MISSING
from mmcoa.report.names import ATTACKS, MACRO, METHODS, attack_label, dataset_label, method_label, ordered


def impact(study):
    """Accuracy of the undefended model on each data set under each attack, with intervals; macro mean on top."""
    style.use()
    frame = tables.by_dataset(study)
    frame = frame[frame.method == "none"]
    means = tables.macro(study)
    means = means[means.method == "none"].assign(dataset=MACRO)
    attacks = ordered(study.attacks, ATTACKS)
    clean = frame[frame.attack == "clean"].set_index("dataset").accuracy
    names = [*clean.sort_values().index, MACRO]
    figure, axes = plt.subplots(figsize=(style.WIDTH, 0.8 + 0.33 * len(names)))
    offsets = np.linspace(0.3, -0.3, len(attacks)) if len(attacks) > 1 else [0]
    for dataset in dict.fromkeys([*frame.dataset[frame.accuracy.isna()], *means.dataset[means.accuracy.isna()]]):
        axes.text(50, names.index(dataset), MISSING, ha="center", va="center", size=7)
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
    attacks = ordered(study.attacks, ATTACKS)
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
            place, text = (
                (52, MISSING) if np.isnan(part.accuracy[name]) else (part.accuracy[name], f"{part.accuracy[name]:.0f}")
            )
            label = axes.text(place, y + 0.2, text, ha="center", va="bottom", size=7)
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
    attacks = ordered(study.attacks, ATTACKS)
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
        style.mark_holes(axes, part)
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


def adversarial_images(examples):
    """One column an example: the picture, its perturbation amplified, the adversarial picture, and the predictions."""
    style.use()
    figure, panels = plt.subplots(3, max(1, len(examples)), figsize=(style.WIDTH, 4.5), squeeze=False)
    for axes in panels.flat:
        axes.axis("off")
    for column, example in zip(panels.T, examples, strict=False):
        noise = 0.5 + (example.adversarial - example.clean) / (2 * example.epsilon)
        for axes, picture in zip(column, (example.clean, noise.clip(0, 1), example.adversarial), strict=True):
            axes.imshow(picture, interpolation="none")
        _prediction(column[0], example.clean_prediction, example.class_name, 1.04, "bottom")
        _prediction(column[2], example.adversarial_prediction, example.class_name, -0.04, "top")
    if not examples:
        panels[0, 0].text(0, 0.5, "No picture that may be shown here was broken by the attack in this profile.")
        return figure
    names = ("clean", f"perturbation × {0.5 / examples[0].epsilon:.0f}", "adversarial")
    for axes, name in zip(panels[:, 0], names, strict=True):
        axes.text(-0.06, 0.5, name, transform=axes.transAxes, ha="right", va="center", rotation=90, size=8, weight="bold")
    figure.subplots_adjust(wspace=0.1, hspace=0.06)
    return figure


def _prediction(axes, prediction, truth, height, align):
    """What the model says, and whether it is right: by sign and colour."""
    name, probability = prediction
    sign, color = ("✓", style.BLUE) if name == truth else ("✗", style.RED)
    text = "\n".join(textwrap.wrap(f"{sign} {name}", 19)) + f"\n{100 * probability:.0f} %"
    axes.text(0.5, height, text, transform=axes.transAxes, ha="center", va=align, size=7.5, color=color)


def _points(axes, part, y, color, marker, size, label=None):
    """Means with intervals as horizontal bars. A degenerate bootstrap interval may leave the mean by rounding: clip at 0."""
    errors = np.clip([part.accuracy - part.low, part.high - part.accuracy], 0, None)
    look = {"fmt": marker, "color": color, "ms": size, "elinewidth": 1.1, "mec": "white", "mew": 0.5}
    axes.errorbar(part.accuracy, y, xerr=errors, label=label, **look)
