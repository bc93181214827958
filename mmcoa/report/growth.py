"""How the seconds of an evaluation grow with samples, classes, steps, epsilons and restarts: results/cost/*.csv.

Those files are written by `python benchmarks/cost.py`; a folder that is absent gives an empty frame, and the page says so.
"""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from mmcoa.errors import UserError
from mmcoa.report import style
from mmcoa.report.comparisons import short
from mmcoa.report.names import attack_label, dataset_label, listed, ordered_attacks
from mmcoa.report.strength_facts import span

COMMAND = "python benchmarks/cost.py"
WHATS = {"samples": "picture", "classes": "class", "steps": "step", "epsilons": "epsilon", "restarts": "restart"}
AXES = {
    "samples": "pictures",
    "classes": "classes",
    "steps": "steps of the image attack",
    "epsilons": "epsilons",
    "restarts": "random starts of the image attack",
}
NUMBERS = ("value", "seconds", "median", "longest", "n", "classes", "steps", "restarts", "repetitions", "load")


def cost(results="results"):
    """Measurements of benchmarks/cost.py on all machines, one row a point; columns as there, by hardware, what, attack and
    value.

    Raises `UserError` for a damaged file.
    """
    frames = []
    for path in sorted((Path(results) / "cost").glob("*.csv")):
        try:
            frame = pd.read_csv(path, keep_default_na=False)
            frames.append(frame.assign(**{name: pd.to_numeric(frame[name]) for name in NUMBERS}))
        except (OSError, ValueError, KeyError) as error:
            raise UserError(f"damaged table {path}: {error}; make it again: {COMMAND} --again") from error
    if not frames:
        return pd.DataFrame()
    frame = pd.concat(frames, ignore_index=True)
    places = [list(WHATS).index(what) for what in frame.what]
    return frame.assign(place=places).sort_values(["hardware", "place", "attack", "value"], kind="stable").drop(columns="place")


def slopes(frame):
    """Straight line through the points of each machine, part and attack of `cost`, by least squares.

    Returns columns hardware, what, attack, low, high (values), first, last (seconds there), slope (seconds a unit), fixed
    (seconds at zero, by the line), r2 (share of the variance that the line explains), points.
    """
    rows = []
    for (machine, what), part in frame.groupby(["hardware", "what"], sort=False):
        for attack in ordered_attacks(part.attack):
            own = part[part.attack == attack].sort_values("value")
            if len(own) < 2:
                continue  # no line through one point
            x, y = own.value.to_numpy(float), own.seconds.to_numpy()
            slope, fixed = np.polyfit(x, y, 1)
            rest, spread = ((y - fixed - slope * x) ** 2).sum(), ((y - y.mean()) ** 2).sum()
            row = {"hardware": machine, "what": what, "attack": attack, "low": own.value.iloc[0], "high": own.value.iloc[-1]}
            row |= {"first": y[0], "last": y[-1], "slope": slope, "fixed": fixed, "r2": 1 - rest / spread if spread else np.nan}
            rows.append(row | {"points": len(own)})
    return pd.DataFrame(rows)


def slopes_table(frame):
    """`slopes` to print."""
    rows, several = [], frame.hardware.nunique() > 1
    for row in frame.itertuples():
        cells = {"machine": row.hardware} if several else {}
        cells |= {
            "grows with": WHATS[row.what],
            "attack": attack_label(row.attack),
            "from": f"{row.low:,}",
            "to": f"{row.high:,}",
        }
        cells |= {"seconds at first": short(row.first), "at last": short(row.last)}
        cells |= {"seconds a unit": minus(short(row.slope)), "fixed": minus(short(row.fixed))}
        rows.append(cells | {"R²": "–" if np.isnan(row.r2) else f"{row.r2:.2f}", "n": str(row.points)})
    return pd.DataFrame(rows)


def minus(text):
    """A true minus sign."""
    return text.replace("-", "−")


def curves(frame):
    """Figure of `cost` on its first machine: one panel a part, one marker and line an attack, the line that of `slopes`."""
    style.use()
    frame = frame[frame.hardware == frame.hardware.iloc[0]]
    lines = slopes(frame).set_index(["what", "attack"]) if len(frame) else frame
    names = [what for what in WHATS if what in set(frame.what)]
    rows = -(-(len(names) + 1) // 3)  # one place is the legend's
    figure, panels = plt.subplots(rows, 3, figsize=(style.WIDTH, 0.4 + 2.1 * rows), squeeze=False)
    for axes, what in zip(panels.flat, names, strict=False):
        part = frame[frame.what == what]
        for attack in ordered_attacks(part.attack):
            own = part[part.attack == attack]
            color, marker = style.ATTACKS.get(attack, style.OTHER)
            axes.plot(
                own.value, own.seconds, marker, color=color, ms=6, mec="white", mew=0.5, label=attack_label(attack), zorder=3
            )
            if (what, attack) in lines.index:
                line, ends = lines.loc[(what, attack)], np.array([own.value.min(), own.value.max()])
                axes.plot(ends, line.fixed + line.slope * ends, color=color, ls=(0, (4, 2)), lw=1)
        axes.set(xlabel=AXES[what])
        axes.set_xlim(left=0)
        axes.set_ylim(bottom=0)
    for axes in panels[:, 0]:
        axes.set_ylabel("seconds")
    for axes in panels.flat[len(names) :]:
        axes.axis("off")
    handles, labels = panels.flat[0].get_legend_handles_labels()
    panels.flat[len(names)].legend(
        handles, labels, loc="center left", title="attack", title_fontsize=8.5, alignment="left", handletextpad=0.3
    )
    figure.tight_layout(w_pad=0.8, h_pad=1.0)
    return figure


def of_growth(results="results"):
    """What captions and prose of the page say, of the first machine; see facts.py. Empty where nothing was measured."""
    frame = cost(results)
    if frame.empty:
        return {}
    machines = list(frame.hardware.unique())
    own = frame[frame.hardware == machines[0]]
    lines, slowed = slopes(own).set_index(["what", "attack"]), own["median"] / own.seconds
    facts = {
        "growth_machine": machines[0],
        "growth_machines": listed(machines),
        "growth_versions": "; ".join(own.versions.unique()),
        "growth_load": " to ".join(dict.fromkeys(f"{value:.1f}" for value in (own.load.min(), own.load.max()))),
        "growth_repetitions": span(own.repetitions),
        "growth_disturbed": f"typically {slowed.median():.1f} and at most {slowed.max():.1f}",
        "growth_sets": listed(
            f"{dataset_label(name)} ({listed(part.what.unique())})" for name, part in own.groupby("dataset", sort=False)
        ),
        "growth_says": says(lines),
    }
    several = own[own.what == "epsilons"].sort_values("value").epsilons
    fixed = own[own.what != "samples"]
    facts |= {"growth_n": span(fixed.n), "growth_classes": span(own[own.what != "classes"].classes)} if len(fixed) else {}
    facts |= (
        {"growth_epsilons": ", ".join(several.iloc[-1].split()), "growth_epsilon": several.iloc[0].split()[0]}
        if len(several)
        else {}
    )
    others = own[(own.attack == "image") & ~own.what.isin(["steps"])]
    return facts | ({"growth_steps": span(others.steps)} if len(others) else {})


def says(lines):
    """`a picture more costs 0.023 s under image and ...; ...`, of the lines that explain at least nine tenths of the
    variance."""
    clauses = []
    for what, unit in WHATS.items():
        if what not in lines.index.get_level_values("what"):
            continue
        part = lines.loc[what]
        part = part[part.r2 >= 0.9]
        costs = [f"{short(row.slope)} s ({attack_label(row.Index)})" for row in part.itertuples()]
        clauses += [f"one more {unit}, {listed(costs)}"] if costs else []
    return "; ".join(clauses) or "nothing that a line describes"
