"""Phrases about training, as facts.py has them about the main evaluation."""

import math

import pandas as pd

from mmcoa.report import learning_rates, training
from mmcoa.report.names import METHODS, attack_label, dataset_label, listed, method_label, ordered
from mmcoa.report.strength_facts import counted, span
from mmcoa.threat import format_epsilon, parse_epsilon


def of_training(study, results="results"):
    """What captions and prose of the page say; see facts.py."""
    frame, costs = training.trained(study), training.cost(study)
    machines = frame[["device", "threads"]].drop_duplicates().sort_values(["device", "threads"])
    dear, cheap = costs.loc[costs.seconds.idxmax()], costs.loc[costs.seconds.idxmin()]
    found = {
        "inner_threat": inner_threat(study),
        "lr_says": lr_says(study, results),
        "cost_unit": training.unit(study),
        "cost_devices": listed(f"{row.device}, {counted(row.threads, 'thread')}" for row in machines.itertuples()),
        "cost_says": " and ".join(
            f"{method_label(row.method)} {how} ({training.short(row.seconds)})"
            for row, how in ((cheap, "least"), (dear, "most"))
        ),
        "base_sets": listed(dict.fromkeys(map(dataset_label, frame.dataset))),
        "tradeoff_attack": attack_label(training.robust_attack(study)),
        "tradeoff_says": tradeoff_says(training.tradeoff(study)),
    }
    log, slices = training.logs(study), training.held_out(study)
    if len(log):
        found |= {"loss_runs": str(log.model.nunique()), "loss_says": loss_says(training.loss_curves(log))}
    if len(slices):
        found |= {"held_out_n": span(slices.samples)}
        found["held_out_says"] = held_out_says(slices)
    return found


def lr_says(study, results="results"):
    """Which learning rates the methods have and, where they were tuned, on what, as a sentence without its full stop."""
    rates, by_rate = training.learning_rates(study), {}
    for method in sorted(rates, key=lambda method: rates[method] or (math.inf,)):
        text = listed(f"{rate:g}" for rate in rates[method]) or "the base model's default"
        by_rate.setdefault(text, []).append(method_label(method))
    if len(by_rate) == 1:
        return f"All methods have the same learning rate, {next(iter(by_rate))}"
    named = listed(f"{text} ({', '.join(without_variants(labels))})" for text, labels in by_rate.items())
    tuned = learning_rates.trained(study, results)
    if tuned.empty:
        return f"Learning rates differ between methods: {named}"
    sets = listed(map(dataset_label, tuned.dataset.unique()))
    return f"Learning rates were chosen for each method on held-out pictures of {sets}: {named}"


def without_variants(labels):
    """`image only (equal compute)` goes where `image only` stands beside it."""
    return [label for label in labels if label.partition(" (")[0] not in labels or "(" not in label]


def inner_threat(study):
    """Threat model of the inner attacks, for captions."""
    texts = []
    for row in study.training[["epsilon", "inner_steps", "candidate_source"]].drop_duplicates().itertuples():
        ball = "the base model's own epsilon" if pd.isna(row.epsilon) else format_epsilon(parse_epsilon(row.epsilon))
        steps = "the usual number of" if pd.isna(row.inner_steps) else f"{row.inner_steps:.0f}"
        texts.append(f"ℓ∞ ball of {ball}, {steps} PGD steps; one word a prompt from {row.candidate_source}")
    return listed(texts, "or")


def loss_says(curves):
    """Where the median of each method ends: `TeCoA 0.45, MMCoA 0.61`."""
    last = curves.sort_values("step").groupby("method").tail(1).set_index("method")["median"]
    return listed(f"{method_label(name)} {last[name]:.2f}" for name in ordered(last.index, METHODS))


def held_out_says(slices):
    """For how many models the last state is the best, and what the best is better by, on average over the others."""
    wide = slices.pivot(index="model", columns="state", values="robust")
    gain = (wide.best - wide.final)[wide.best > wide.final]
    better = f"; in the others an earlier state is better, by {gain.mean():.1f} points on average" if len(gain) else ""
    return f"in {len(wide) - len(gain)} of {len(wide)} models the last state is as robust there as any measured before{better}"


def tradeoff_says(frame):
    """The most robust model, and on which side of the undefended one the others lie."""
    best, base, tuned = frame.loc[frame.robust.idxmax()], frame[frame.method == "none"], frame[frame.method != "none"]
    text = f"most robust is {method_label(best.method)} ({best.robust:.1f} %, clean {best.clean:.1f} %)"
    if base.empty:
        return text
    base = base.iloc[0]
    above, right = int((tuned.robust > base.robust).sum()), int((tuned.clean >= base.clean).sum())
    return (
        f"{text}; undefended has {base.robust:.1f} % (clean {base.clean:.1f} %). Of {len(tuned)} fine-tuned models {above} "
        f"are more robust than undefended, and {right} keep at least its clean accuracy"
    )
