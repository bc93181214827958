"""Which learning rate each defence gets: the one whose models keep most on pictures that were held out of the training.

chosen(results)        # {"tecoa": 0.0003, ...}; the studies state these numbers in their profiles
"""

from pathlib import Path

import pandas as pd

from mmcoa.report import training
from mmcoa.report.names import METHODS, listed, method_label, ordered
from mmcoa.report.training import MEASURED
from mmcoa.store import packed

STUDY = "learning-rates"


def trained(study, results="results"):
    """trainings.csv of the tuning study where it was run for the base model of a study, else an empty frame."""
    folder = Path(results) / STUDY
    if packed.read_cells(folder) is None:
        return pd.DataFrame()
    frame = packed.read(folder).trainings
    return frame[frame.base_model.isin(set(study.rows.base_model))]


def measured(trained):
    """One row a model of `trained`: defense, lr, seed, MEASURED (percent of the held-out pictures), their mean, samples."""
    frame = trained[["defense", "lr", "seed"]].assign(**{name: trained[f"final_{name}"] for name in MEASURED})
    return frame.assign(samples=trained.held_out_samples, mean=frame[list(MEASURED)].sum(axis=1) / len(MEASURED))


def chosen(frame):
    """{defence: learning rate} of the largest mean over seeds of `measured`; of equal ones the smaller rate."""
    means = frame.groupby(["defense", "lr"])["mean"].mean()
    return {name: float(means[name].idxmax()) for name in ordered(means.index.get_level_values("defense"), METHODS)}


def table(frame):
    """Defence x learning rate of `measured`, as text: mean of the four accuracies over seeds, clean and both; the chosen
    rate is marked."""
    rows, means = [], frame.groupby(["defense", "lr"])[["mean", "clean", "robust"]].mean()
    for name, lr in chosen(frame).items():
        row = {"method": method_label(name)}
        for rate in sorted(frame.lr.unique()):
            one = means.loc[(name, rate)]
            mark = " *" if rate == lr else ""
            row[f"{rate:g}"] = f"{one['mean']:.1f}{mark} ({one['clean']:.0f}, {one['robust']:.0f})"
        rows.append(row | {"seeds": str(frame[frame.defense == name].seed.nunique()), "n": str(int(frame.samples.iloc[0]))})
    return pd.DataFrame(rows)


def facts(study, frame):
    """What the page says: which rates were chosen, and which methods of the study were trained with that rate or another."""
    best, used, by_rate, same, other = chosen(frame), training.learning_rates(study), {}, [], []
    for name, rate in best.items():
        by_rate.setdefault(rate, []).append(method_label(name))
        if name in used:
            (same if used[name] == (rate,) else other).append(method_label(name))
    rates = "; ".join(f"{rate:g} for {listed(names)}" for rate, names in sorted(by_rate.items()))
    return {"tuned_rates": rates, "tuned_same": listed(same) or "none", "tuned_other": listed(other) or "none"}
