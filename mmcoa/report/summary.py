"""The first page: all studies of a book side by side, from their results and the tables that their pages wrote."""

from dataclasses import dataclass
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd

from mmcoa.report import figures, results, style, tables, tasks, training_facts
from mmcoa.report.facts import of_study, percent
from mmcoa.report.holes import MISSING
from mmcoa.report.names import METHODS, attack_label, listed, method_label, ordered

MAIN = ("clean", "image", "text", "sequential")  # attacks of the first page


@dataclass(frozen=True)
class Shown:
    """One study of the book. title: empty in a book of one; folder: of its tables/ and figures/; study: all results; out: those out
    of distribution, methods of their own name (no variants)."""

    title: str
    folder: Path
    study: object
    out: object


def load(studies, folder="results", holes=False):
    """[`Shown`, ...] of [{profile, title, folder}, ...]. `holes`: see `results.load`."""
    shown = []
    for each in studies:
        study = results.load(each["profile"], folder, holes)
        out = tasks.out_of_distribution(study)
        own = [name for name in out.methods if name.partition("-")[0] == name or name.partition("-")[0] not in METHODS]
        shown.append(Shown(each["title"], Path(each["folder"]), study, tasks.only(out, own)))
    return shown


def claims_table(shown):
    """Verdict and smallest effect of each claim on each study, as the studies' own pages have them."""
    tables_of = [pd.read_csv(each.folder / "tables" / "claims.csv", keep_default_na=False) for each in shown]
    table = tables_of[0].iloc[:, :2].rename(columns={tables_of[0].columns[0]: ""})
    for each, own in zip(shown, tables_of, strict=True):
        where = f", {each.title}" if each.title else ""
        table[f"verdict{where}"] = own["verdict"]
        table[f"smallest effect (points){where}"] = own["smallest effect (points)"]
    return table


def figure(shown):
    """One row of panels a study, one panel an attack of MAIN, one row a method; dashed: undefended."""
    style.use()
    attacks = [name for name in MAIN if all(name in each.out.attacks for each in shown)]
    counts = [len(each.out.methods) for each in shown]
    size = (style.WIDTH, sum(0.62 + 0.33 * count for count in counts) + 0.25)
    canvas, panels = plt.subplots(len(shown), len(attacks), figsize=size, sharex=True, squeeze=False, height_ratios=counts)
    for each, row in zip(shown, panels, strict=True):
        figures.methods_row(row, each.out, attacks)
        if each.title:
            row[0].set_ylabel(each.title, fontweight="bold")
    canvas.supxlabel("macro accuracy (%)", size=8.5)
    canvas.tight_layout(w_pad=0.6, h_pad=1.2)
    return canvas


def facts(shown, folder="results"):
    """What captions and prose of the page say: {key: text}."""
    each_facts = [of_study(each.out) for each in shown]
    return {
        "sum_studies": listed(
            f"{own['profile']}{f' ({each.title})' if each.title else ''}" for each, own in zip(shown, each_facts, strict=True)
        ),
        "sum_models": together(shown, [own["base_model"] for own in each_facts]),
        "sum_sets": together(shown, [own["datasets"] for own in each_facts]),
        "sum_n": together(shown, [own["n_all"] for own in each_facts]),
        "sum_all": together(shown, [of_study(tasks.everywhere(each.study))["n_all"] for each in shown]),
        "sum_threat": together(shown, [own["threat"] for own in each_facts], "; "),
        "sum_trained": together(shown, [own["trained_on"] for own in each_facts]),
        "sum_attacks": "; ".join(prefixed(each, attacks_says(each)) for each in shown),
        "sum_defences": ". ".join(capital(prefixed(each, defences_says(each), ": ")) for each in shown),
        "sum_prices": "; ".join(prefixed(each, prices_says(each)) for each in shown),
        "sum_rates": capital("; ".join(prefixed(each, training_facts.lr_says(each.out, folder)) for each in shown)),
    }


def prefixed(each, text, mark=", "):
    """`on emoji, ...`; in a book of one study the text itself."""
    return f"on {each.title}{mark}{text[:1].lower()}{text[1:]}" if each.title else text


def capital(text):
    return text[:1].upper() + text[1:]


def together(shown, texts, separator=", "):
    """One text where all studies say the same, else each with the study's title."""
    if len(set(texts)) == 1:
        return texts[0]
    return separator.join(f"{text} ({each.title})" for each, text in zip(shown, texts, strict=True))


def attacks_says(each):
    """Macro accuracy of the undefended model under each attack of MAIN, over all data sets of the study."""
    means = tables.macro(tasks.only(tasks.everywhere(each.study), ["none"])).set_index("attack").accuracy
    named = {
        "clean": "without attack",
        "image": "after the image attack",
        "text": "after one changed word a prompt",
        "sequential": "after both",
    }
    return listed(f"{percent(means[name])} {words}" for name, words in named.items() if name in means.index)


def defences_says(each):
    """Per attack the fine-tuned method with the highest accuracy, beside undefended."""
    means = tables.macro(each.out).pivot(index="method", columns="attack", values="accuracy")
    trained = [name for name in ordered(each.out.methods, METHODS) if name != "none"]
    there = {name: means.loc[trained, name].dropna() for name in MAIN[1:] if name in means}
    best = {
        name: f"{method_label(own.idxmax())} with {percent(own.max())}" if len(own) else MISSING for name, own in there.items()
    }
    return "; ".join(
        f"{attack_label(name)}, {text} (undefended {percent(means.loc['none', name])})" for name, text in best.items()
    )


def prices_says(each):
    """Clean accuracy before fine-tuning, and the range after it."""
    means = tables.macro(each.out)
    clean = means[means.attack == "clean"].set_index("method").accuracy
    after = clean.drop("none").dropna()
    if after.empty:
        return f"{percent(clean['none'])} before, {MISSING} after"
    return f"{percent(clean['none'])} before and {after.min():.0f} ({method_label(after.idxmin())}) to {after.max():.0f} % ({method_label(after.idxmax())}) after"
