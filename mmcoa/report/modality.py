"""Which modality breaks a picture: the image attack alone, the text attack alone, either of them, or only both put together.

From per-sample outcomes. A picture falls to a combined attack where one of COMBINED that the study has breaks it; the
per-sample worst case is no attack of its own and is not among them.
"""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from mmcoa.evaluation.statistics import macro_interval, wilson
from mmcoa.report import style, words
from mmcoa.report.facts import percent
from mmcoa.report.names import MACRO, METHODS, attack_label, dataset_label, listed, method_label, ordered
from mmcoa.report.tables import correct_by_sample, number, require, signed_interval

COMBINED = ("independent", "sequential", "joint", "co_attack")
WRONG, IMAGE, TEXT, EITHER, TOGETHER, STANDS = (
    "wrong unattacked",
    "image alone",
    "text alone",
    "either",
    "only combined",
    "stands",
)
KINDS = (STANDS, TOGETHER, EITHER, TEXT, IMAGE, WRONG)
LOOKS = {
    STANDS: ("#d9d9d9", ""),
    TOGETHER: (style.PINK, "xxx"),
    EITHER: (style.RED, ""),
    TEXT: (style.ORANGE, "///"),
    IMAGE: (style.BLUE, "..."),
    WRONG: (style.BLACK, ""),
}
KEYS = ["method", "dataset", "label", "sample_id"]


def combined(study):
    """Names of the combined attacks that every evaluation of the study has."""
    return [name for name in COMBINED if name in study.attacks]


def kinds(study):
    """What each picture falls to: KEYS and one column for each of KINDS, the share of a method's models of which it is true."""
    require(study, ["none"], ["clean", "image", "text"])
    frame = study.outcomes
    broken = {name: ~frame[f"{name}_correct"].astype(bool) for name in ("clean", "image", "text", *combined(study))}
    together = np.any([broken[name] for name in combined(study)], axis=0) if combined(study) else np.zeros(len(frame), bool)
    conditions = [broken["clean"], broken["image"] & broken["text"], broken["image"], broken["text"], together]
    kind = np.select(conditions, [WRONG, EITHER, IMAGE, TEXT, TOGETHER], STANDS)
    made = frame[KEYS].assign(**{name: (kind == name).astype(float) for name in KINDS})
    return made.groupby(KEYS, sort=False)[list(KINDS)].mean().reset_index()


def shares(study):
    """Share of the pictures that fall to each kind, by method and data set, macro mean last.

    Returns columns method, dataset, kind, share, low, high (percent; Wilson for a data set, clustered bootstrap for the
    mean), n.
    """
    rows, every = [], kinds(study)
    for method in study.methods:
        part = every[every.method == method]
        sets = [own for _, own in part.groupby("dataset")]
        for kind in KINDS:
            for own in sets:
                low, high = wilson(own[kind].sum(), len(own))
                rows.append((method, own.dataset.iloc[0], kind, 100 * own[kind].mean(), low, high, len(own)))
            mean = macro_interval([(own[kind].to_numpy(), own.label.to_numpy()) for own in sets])
            rows.append((method, MACRO, kind, *mean, len(part)))
    return pd.DataFrame(rows, columns=["method", "dataset", "kind", "share", "low", "high", "n"])


def methods_table(frame):
    """Macro shares of `shares`, one row a method and one column a kind."""
    rows = []
    for method in ordered(frame.method, METHODS):
        part = frame[(frame.method == method) & (frame.dataset == MACRO)].set_index("kind")
        rows.append(
            {"method": method_label(method), "n": f"{part.n.iloc[0]:.0f}"}
            | {kind: number(*part.loc[kind, ["share", "low", "high"]]) for kind in KINDS[::-1]}
        )
    return pd.DataFrame(rows)


def sets_table(frame, method="none"):
    """Shares of one method on each data set."""
    rows = []
    for dataset in sorted(set(frame.dataset) - {MACRO}):
        part = frame[(frame.method == method) & (frame.dataset == dataset)].set_index("kind")
        rows.append(
            {"data set": dataset_label(dataset), "n": f"{part.n.iloc[0]:.0f}"}
            | {kind: number(*part.loc[kind, ["share", "low", "high"]]) for kind in KINDS[::-1]}
        )
    return pd.DataFrame(rows)


def interaction(study):
    """What a combined attack takes beyond the union of the image and the text attack, each made alone.

    Returns columns method, attack, points, low, high, n: macro mean over data sets, paired; negative where the two
    perturbations, put together, undo part of each other.
    """
    rows = []
    for method in ordered(study.methods, METHODS):
        for attack in combined(study):
            frame = study.outcomes[study.outcomes.method == method]
            both = frame.image_correct.astype(bool) & frame.text_correct.astype(bool)
            frame = frame.assign(beyond=both.astype(float) - frame[f"{attack}_correct"].astype(float))
            means = frame.groupby(["dataset", "sample_id", "label"]).beyond.mean()
            sets = [
                (part.to_numpy(), part.index.get_level_values("label").to_numpy()) for _, part in means.groupby(level="dataset")
            ]
            rows.append((method, attack, *macro_interval(sets), len(means)))
    return pd.DataFrame(rows, columns=["method", "attack", "points", "low", "high", "n"])


def interaction_table(frame):
    """`interaction` to print."""
    rows = []
    for method, part in frame.groupby("method", sort=False):
        rows.append(
            {"method": method_label(method), "n": str(part.n.iloc[0])}
            | {attack_label(r.attack): signed_interval(r.points, r.low, r.high) for r in part.itertuples()}
        )
    return pd.DataFrame(rows)


def figure(frame):
    """Stacked bars of `shares`: left one row a method (macro mean), right one row a data set, undefended model."""
    style.use()
    methods, sets = ordered(frame.method, METHODS)[::-1], sorted(set(frame.dataset) - {MACRO}, reverse=True)
    size = (style.WIDTH, 1.0 + 0.27 * max(len(methods), len(sets)))
    figure, (left, right) = plt.subplots(1, 2, figsize=size, sharex=True)
    for axes, names, column, label in ((left, methods, "method", method_label), (right, sets, "dataset", dataset_label)):
        part = (
            frame[frame.dataset == MACRO] if column == "method" else frame[(frame.method == "none") & (frame.dataset != MACRO)]
        )
        wide, start = part.pivot(index=column, columns="kind", values="share").loc[names], np.zeros(len(names))
        for kind in KINDS:
            color, hatch = LOOKS[kind]
            axes.barh(
                range(len(names)),
                wide[kind],
                left=start,
                color=color,
                hatch=hatch,
                edgecolor="white",
                lw=0.5,
                height=0.78,
                label=kind,
            )
            start += wide[kind].to_numpy()
        axes.set_yticks(range(len(names)), [label(name) for name in names])
        axes.set(xlim=(0, 100), ylim=(-0.6, len(names) - 0.4), xlabel="share of the pictures (%)")
        axes.grid(axis="y", visible=False)
        axes.tick_params(axis="y", length=0)
    left.set_title("all methods, macro mean")
    right.set_title("undefended, by data set")
    figure.legend(
        *left.get_legend_handles_labels(),
        ncols=len(KINDS),
        loc="lower center",
        bbox_to_anchor=(0.5, 0.98),
        columnspacing=1.0,
        handletextpad=0.4,
    )
    figure.tight_layout(w_pad=1.0)
    return figure


def class_losses(study):
    """How the text attack treats each class: columns method, dataset, label, right (pictures right unattacked, summed over
    models), lost.

    Classes without a right picture are left out. `kind`: `keeps all`, `loses some` or `loses all` of them.
    """
    frame = study.outcomes
    right = frame.clean_correct.astype(bool)
    frame = frame.assign(right=right, lost=right & ~frame.text_correct.astype(bool))
    counts = frame.groupby(["method", "model", "dataset", "label"], sort=False)[["right", "lost"]].sum().reset_index()
    counts = counts[counts.right > 0]
    return counts.assign(
        kind=np.select([counts.lost == 0, counts.lost == counts.right], ["keeps all", "loses all"], "loses some")
    )


CLASS_KINDS = {"keeps all": ("#d9d9d9", ""), "loses some": (style.SKY, "///"), "loses all": (style.ORANGE, "")}


def classes_table(frame):
    """`class_losses` by method: shares of the classes (percent, all data sets and models pooled), and quartiles of the
    share lost."""
    rows = []
    for method in ordered(frame.method, METHODS):
        part = frame[frame.method == method]
        share, models = 100 * part.lost / part.right, part.model.nunique()
        row = {"method": method_label(method), "n classes": f"{len(part) / models:.0f}"}
        for kind in CLASS_KINDS:
            count = (part.kind == kind).sum() / models
            row[f"{kind} (%)"] = number(100 * count / (len(part) / models), *wilson(count, len(part) / models))
        rows.append(
            row
            | {
                "lost by the median class (%)": f"{share.median():.0f}",
                "quartiles": f"{share.quantile(0.25):.0f} to {share.quantile(0.75):.0f}",
            }
        )
    return pd.DataFrame(rows)


def facts(study, frame, beyond):
    """What captions and prose of the page say. frame: `shares`; beyond: `interaction`."""
    macro = frame[frame.dataset == MACRO].set_index(["method", "kind"])

    def share(method, *names):
        return percent(sum(macro.share[method, kind] for kind in names))

    union = [
        (a * b, label)
        for (a, label), (b, _) in zip(*(correct_by_sample(study, "none", name) for name in ("image", "text")), strict=True)
    ]
    base = beyond[beyond.method == "none"]
    trained = [name for name in ordered(study.methods, METHODS) if name != "none"]
    made = {
        "kind_image": share("none", IMAGE), "kind_text": share("none", TEXT), "kind_either": share("none", EITHER),
        "kind_together": share("none", TOGETHER), "kind_stands": share("none", STANDS), "kind_wrong": share("none", WRONG),
        "kind_by_text": listed(f"{method_label(name)} {share(name, TEXT, EITHER)}" for name in trained) or "no model",
        "kind_by_image": listed(f"{method_label(name)} {share(name, IMAGE, EITHER)}" for name in trained) or "no model",
        "kind_base_text": share("none", TEXT, EITHER), "kind_base_image": share("none", IMAGE, EITHER),
        "union": f"{number(*macro_interval(union))} %",
        "beyond": listed(f"{attack_label(r.attack)} "
            f"{signed_interval(r.points, r.low, r.high)}" for r in base.itertuples()) or "none was run",
        "combined": listed(map(attack_label, combined(study))) or "none",
    }  # fmt: skip
    made["template_share"] = f"{words.template_share(study):.0f} %"
    classes = class_losses(study)
    own = classes[classes.method == "none"]
    counts = own.kind.value_counts()
    return made | {
        "classes_all": str(len(own)),
        "classes_lose": str(counts.get("loses all", 0)),
        "classes_keep": str(counts.get("keeps all", 0)),
        "classes_some": str(counts.get("loses some", 0)),
    }
