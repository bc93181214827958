"""How each model was trained: loss curves, cost, the held-out slice, and what clean accuracy the robustness goes with."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from mmcoa import defenses
from mmcoa.errors import UserError
from mmcoa.evaluation.statistics import wilson
from mmcoa.report import style
from mmcoa.report.names import METHODS, attack_label, method_label, ordered
from mmcoa.report.strength_facts import span
from mmcoa.report.tables import number

MEASURED = ("clean", "image", "text", "robust")  # accuracies on the held-out slice


def logs(study):
    """Training logs of the study's models: columns model, method, step, loss, `relative` (to the model's own first loss),
    and more."""
    front = ["model", "method", "step", "loss", "relative"]
    if study.logs.empty:
        return pd.DataFrame(columns=front)
    first = study.logs.groupby("model", sort=False).loss.transform("first")
    frame = study.logs.assign(relative=study.logs.loss / first.where(first != 0))  # without a first loss no scale to measure by
    return frame[[*front, *(name for name in frame if name not in (*front, "entry"))]]


def loss_curves(frame):
    """`logs` by method and step: columns method, step, median, low, high of the relative loss over seeds, and `seeds`."""
    curves = frame.dropna(subset="relative").groupby(["method", "step"]).relative
    return curves.agg(median="median", low="min", high="max", seeds="size").reset_index()


def losses(frame):
    """Figure of `logs`: one panel a method, the median over seeds as a line and their range as a band."""
    style.use()
    curves = loss_curves(frame)
    names = ordered(curves.method, METHODS)
    columns = min(4, len(names))
    rows = -(-len(names) // columns)
    size = (style.WIDTH, 0.6 + 1.6 * rows)
    figure, panels = plt.subplots(rows, columns, figsize=size, sharex=True, sharey=True, squeeze=False)
    for axes, name in zip(panels.flat, names, strict=False):
        part = curves[curves.method == name]
        color, marker = style.method(name)
        axes.fill_between(part.step, part.low, part.high, color=color, alpha=0.25, lw=0)
        look = {"ms": 4, "mec": "white", "mew": 0.5, "markevery": max(1, len(part) // 5)}
        axes.plot(part.step, part["median"], f"{marker}-", color=color, lw=1.2, **look)
        axes.axhline(1, color=style.GREY, ls=(0, (4, 3)), lw=0.9, zorder=1)
        axes.set(title=method_label(name).replace(" (", "\n("))  # on one line the names of variants run into each other
    for axes in panels.flat[len(names) :]:
        axes.axis("off")
    panels[0, 0].set_ylim(bottom=0)
    figure.supxlabel("step", size=8.5)
    figure.supylabel("loss / first loss", size=8.5)
    figure.tight_layout(w_pad=0.6, h_pad=0.8)
    return figure


def cost(study):
    """Seconds per 1,000 pictures of each method, mean and range over its seeds.

    Returns columns method, seeds, seconds, low, high, per_second (pictures), ratio (to `clean`; nan without it), epoch
    (seconds for one pass over what it was trained on; nan where its size is not in the records).
    """
    frame = trained(study)
    frame = frame.assign(thousand=1000 * frame.seconds / frame.images)
    frame["epoch"] = frame.thousand * frame.train_samples / 1000
    rows = []
    for method in ordered(frame.method, METHODS):
        part = frame[frame.method == method]
        row = {"method": method, "seeds": len(part), "seconds": part.thousand.mean()}
        row |= {"low": part.thousand.min(), "high": part.thousand.max(), "per_second": (part.images / part.seconds).mean()}
        rows.append(row | {"epoch": part.epoch.mean()})
    table = pd.DataFrame(rows)
    base = table.seconds[table.method == "clean"]
    table["ratio"] = table.seconds / base.iloc[0] if len(base) else np.nan
    return table


def learning_rates(study):
    """{method: learning rates (sorted tuple)} as stated, else as the logs have them; empty for the base model's default."""
    found, peaks = {}, study.logs.groupby("model").lr.max() if len(study.logs) else pd.Series(dtype=float)
    for method in ordered(study.training.method, METHODS):
        part = study.training[study.training.method == method]
        rates = part.lr.fillna(part.model.map(peaks)).dropna()
        found[method] = tuple(sorted(set(rates)))
    return found


def trained(study):
    """The study's `training`. Raises `UserError` where nothing is trained."""
    if study.training.empty:
        raise UserError(f"study '{study.name}' trains nothing: there is no training to report")
    return study.training


def attacks_images(defense):
    """Whether a defence attacks pictures while it trains; one that is no longer here is taken to."""
    return defense not in defenses.names() or "image" in defenses.record(defense).inner


def cost_table(study):
    """`cost` as text; columns that no row could fill are left out."""
    frame, frame_of, rows = cost(study), dict(list(study.training.groupby("method"))), []
    for row in frame.itertuples():
        between = f" ({short(row.low)} to {short(row.high)})" if row.seeds > 1 else ""
        cells = {"method": method_label(row.method), "seeds": str(row.seeds)}
        first = frame_of[row.method].iloc[0]
        cells["pictures seen"] = f"{int(frame_of[row.method].images.mean()):,}"
        cells["PGD steps inside"] = (
            f"{first.inner_steps:.0f}" if attacks_images(first.defense) and pd.notna(first.inner_steps) else "–"
        )
        cells |= {f"{unit(study)} per 1,000 pictures": short(row.seconds) + between, "pictures/s": short(row.per_second)}
        cells |= {"ratio to clean fine-tuning": short(row.ratio), f"{unit(study)} per epoch": short(row.epoch)}
        rows.append(cells)
    table = pd.DataFrame(rows)
    return table.loc[:, (table != "–").any()]


def unit(study):
    """What the time is time of: one device is busy for as long as the clock on the wall says."""
    return "GPU seconds" if study.training.device.str.startswith("cuda").all() else "device-seconds"


def short(value):
    """`12.3`, `0.34`, `1,234`; a dash for what is not known."""
    if pd.isna(value):
        return "–"
    return f"{value:.2f}" if value < 9.95 else f"{value:.1f}" if value < 99.95 else f"{value:,.0f}"


def held_out(study):
    """Accuracy on the held-out slice: one row a model and state (`final`, `best`), with step, samples and MEASURED in
    percent."""
    rows = []
    for row in study.training[study.training.held_out_samples.notna()].to_dict("records"):
        for state in ("final", "best"):
            item = {"model": row["model"], "method": row["method"], "state": state, "samples": int(row["held_out_samples"])}
            item |= {name: row[f"{state}_{name}"] for name in MEASURED}
            rows.append(item | {"step": row["best_step"] if state == "best" else None})
    return pd.DataFrame(rows, columns=["model", "method", "state", "step", "samples", *MEASURED])


def held_out_table(study):
    """`held_out` by method and state, mean over seeds, with Wilson intervals for one slice's pictures."""
    frame, rows = held_out(study), []
    for method in ordered(frame.method, METHODS):
        for state in ("final", "best"):
            part = frame[(frame.method == method) & (frame.state == state)]
            steps = "last" if state == "final" else span(part.step.astype(int))
            n = int(part.samples.iloc[0])
            row = {"method": method_label(method), "state": state, "step": steps, "seeds": str(len(part)), "n": str(n)}
            for name in MEASURED:
                mean = part[name].mean()
                row[name] = number(mean, *wilson(mean / 100 * n, n))
            rows.append(row)
    return pd.DataFrame(rows)


def robust_attack(study):
    """The per-sample worst case where the study has it, else the attack that leaves least, mean over all models."""
    if "multimodal" in study.attacks:
        return "multimodal"
    means = study.rows[study.rows.attack != "clean"].groupby("attack").accuracy.mean()
    if means.empty:
        raise UserError(f"study '{study.name}' has no attack: there is no robust accuracy to report")
    return means.idxmin()


def tradeoff(study):
    """Macro accuracy of each model, not averaged over seeds: columns model, method, clean, robust (percent), n."""
    attack = robust_attack(study)
    rows = study.rows[study.rows.attack.isin(["clean", attack])]
    keys = ["model", "method"]
    wide = rows.groupby([*keys, "attack"], sort=False).accuracy.mean().unstack("attack")
    wide["n"] = rows[rows.attack == "clean"].groupby(keys).n.sum()
    return wide.rename(columns={attack: "robust"})[["clean", "robust", "n"]].reset_index().rename_axis(columns=None)


def scatter(study):
    """Figure of `tradeoff`: one point a model; dashed lines through the undefended one."""
    style.use()
    frame = tradeoff(study)
    figure, axes = plt.subplots(figsize=(style.WIDTH, 3.6))
    for row in frame[frame.method == "none"].itertuples():
        for draw, value in ((axes.axvline, row.clean), (axes.axhline, row.robust)):
            draw(value, color=style.GREY, ls=(0, (4, 3)), lw=0.9, zorder=1)
    for name in ordered(frame.method, METHODS):
        part = frame[frame.method == name]
        color, marker = style.method(name)
        look = {"color": color, "marker": marker, "s": 52, "edgecolor": "white", "linewidth": 0.6, "zorder": 3}
        axes.scatter(part.clean, part.robust, label=method_label(name), **look)
    axes.margins(0.08)
    axes.set(xlabel="clean macro accuracy (%)", ylabel=f"macro accuracy (%), {attack_label(robust_attack(study))}")
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), handletextpad=0.3)
    return figure
