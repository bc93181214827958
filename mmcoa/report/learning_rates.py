"""Which learning rate each defence gets: the one whose models keep most on pictures that were held out of the training.

chosen("learning-rates")        # {"tecoa": 0.0003, ...}; the studies state these numbers in their profiles
"""

from pathlib import Path

import pandas as pd

from mmcoa.errors import UserError
from mmcoa.report import training
from mmcoa.report.names import METHODS, listed, method_label, ordered
from mmcoa.study.cells import expand
from mmcoa.study.profiles import load_profile
from mmcoa.study.records import is_current, read_record
from mmcoa.training.heldout import MEASURED

PROFILES = ("learning-rates", "learning-rates-photos")  # one for each base model


def profile_of(study, results="results"):
    """The tuning profile that was run for the base model of a study, or None."""
    bases = set(study.rows.base_model)
    for name in PROFILES:
        tuned = Path(load_profile(name).base_model).name in bases  # a name, or the folder that another study left
        if tuned and any((Path(results) / name / "records").glob("train__*.json")):
            return name
    return None


def measured(profile, results="results"):
    """One row a fine-tuned model of a tuning profile: defense, lr, seed, clean, image, text, robust (percent of the held-out
    pictures), mean of the four, samples. Raises `UserError` where a record is missing or stale."""
    name = load_profile(profile).name
    rows = []
    for cell in expand(profile, results=results):
        record = read_record(Path(results) / name, cell.id)
        if not is_current(record, cell.hash):
            raise UserError(f"{cell.id} of '{name}' is {'stale' if record else 'missing'}; run: mmcoa run {profile}")
        if cell.kind == "train":
            found = record["training"]["held_out"]
            row = {"defense": cell.parameters["defense"], "lr": cell.parameters["lr"], "seed": cell.parameters["seed"]}
            row |= {key: found["final"][key] for key in MEASURED} | {"samples": found["samples"]}
            rows.append(row | {"mean": sum(found["final"][key] for key in MEASURED) / len(MEASURED)})
    return pd.DataFrame(rows)


def chosen(profile, results="results"):
    """{defence: learning rate} of the largest mean over seeds; of equal ones the smaller rate."""
    means = measured(profile, results).groupby(["defense", "lr"])["mean"].mean()
    return {name: float(means[name].idxmax()) for name in ordered(means.index.get_level_values("defense"), METHODS)}


def table(profile, results="results"):
    """Defence x learning rate, as text: mean of the four held-out accuracies over seeds, and those of clean and of both attacks; the chosen rate is marked."""
    frame, best, rows = measured(profile, results), chosen(profile, results), []
    means = frame.groupby(["defense", "lr"])[["mean", "clean", "robust"]].mean()
    for name, lr in best.items():
        row = {"method": method_label(name)}
        for rate in sorted(frame.lr.unique()):
            one = means.loc[(name, rate)]
            mark = " *" if rate == lr else ""
            row[f"{rate:g}"] = f"{one['mean']:.1f}{mark} ({one['clean']:.0f}, {one['robust']:.0f})"
        rows.append(row | {"seeds": str(frame[frame.defense == name].seed.nunique()), "n": str(int(frame.samples.iloc[0]))})
    return pd.DataFrame(rows)


def facts(study, profile, results="results"):
    """What the page says: which rates were chosen, and which methods of the study were trained with that rate or another."""
    best, used, by_rate, same, other = chosen(profile, results), training.learning_rates(study, results), {}, [], []
    for name, rate in best.items():
        by_rate.setdefault(rate, []).append(method_label(name))
        if name in used:
            (same if used[name] == (rate,) else other).append(method_label(name))
    rates = "; ".join(f"{rate:g} for {listed(names)}" for rate, names in sorted(by_rate.items()))
    return {"tuned_rates": rates, "tuned_same": listed(same) or "none", "tuned_other": listed(other) or "none"}
