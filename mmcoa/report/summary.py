"""The first page: verdicts, accuracies and settings of a study at a glance."""

import matplotlib.pyplot as plt

from mmcoa.report import claim_report, figures, style, tables, tasks, training_facts
from mmcoa.report.facts import of_study, percent
from mmcoa.report.names import METHODS, attack_label, listed, method_label, ordered

MAIN = ("clean", "image", "text", "sequential")  # attacks of the first page


def own_methods(study):
    """The study out of distribution with methods of their own name (no variants)."""
    out = tasks.out_of_distribution(study)
    own = [name for name in out.methods if name.partition("-")[0] == name or name.partition("-")[0] not in METHODS]
    return tasks.only(out, own)


def claims_table(judged):
    """Verdict and smallest effect of each claim."""
    table = claim_report.verdict_table(judged)
    return table.drop(columns="parts supported")


def figure(out):
    """One panel an attack of MAIN, one row a method; dashed: undefended. out: `own_methods`."""
    style.use()
    attacks = [name for name in MAIN if name in out.attacks]
    size = (style.WIDTH, 0.87 + 0.33 * len(out.methods))
    canvas, panels = plt.subplots(1, len(attacks), figsize=size, sharex=True, squeeze=False)
    figures.methods_row(panels[0], out, attacks)
    canvas.supxlabel("macro accuracy (%)", size=8.5)
    canvas.tight_layout(w_pad=0.6, h_pad=1.2)
    return canvas


def facts(study, out, folder="results"):
    """What captions and prose of the page say: {key: text}. out: `own_methods`."""
    said, means = of_study(out), tables.macro(out).pivot(index="method", columns="attack", values="accuracy")
    keys = {"models": "base_model", "sets": "datasets", "n": "n_all", "threat": "threat", "trained": "trained_on"}
    rates = training_facts.lr_says(out, folder)
    return {f"sum_{key}": said[name] for key, name in keys.items()} | {
        "sum_study": study.name,
        "sum_all": of_study(tasks.everywhere(study))["n_all"],
        "sum_attacks": attacks_says(study),
        "sum_defences": defences_says(means, out),
        "sum_prices": prices_says(means.clean),
        "sum_rates": rates[:1].upper() + rates[1:],
    }


def attacks_says(study):
    """Macro accuracy of the undefended model under each attack of MAIN, over all data sets of the study."""
    means = tables.macro(tasks.only(tasks.everywhere(study), ["none"])).set_index("attack").accuracy
    named = {
        "clean": "without attack",
        "image": "after the image attack",
        "text": "after one changed word a prompt",
        "sequential": "after both",
    }
    return listed(f"{percent(means[name])} {words}" for name, words in named.items() if name in means.index)


def defences_says(means, out):
    """Per attack the fine-tuned method with the highest accuracy, beside undefended."""
    trained = [name for name in ordered(out.methods, METHODS) if name != "none"]
    best = {name: means.loc[trained, name] for name in MAIN[1:] if name in means}
    return "; ".join(
        f"{attack_label(name)}, {method_label(own.idxmax())} with {percent(own.max())} (undefended "
        f"{percent(means.loc['none', name])})"
        for name, own in best.items()
    )


def prices_says(clean):
    """Clean accuracy before fine-tuning, and the range after it."""
    after = clean.drop("none")
    ends = f"{after.min():.0f} ({method_label(after.idxmin())}) to {after.max():.0f} % ({method_label(after.idxmax())})"
    return f"{percent(clean['none'])} before and {ends} after"
