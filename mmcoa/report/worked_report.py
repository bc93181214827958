"""Tables, figures and phrases of the worked example (worked.py)."""

import textwrap

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from mmcoa.report import style
from mmcoa.report.names import attack_label, dataset_label, listed
from mmcoa.report.tables import signed
from mmcoa.report.words import marked

ABOUT = {  # what was done to picture and prompts, in the notation of book/threat.md
    "clean": "clean: $x$, $t$",
    "image": "image: $x'$, $t$",
    "text": "text: $x$, $t'$",
    "independent": "independent: $x'$, $t'$",
    "sequential": "sequential: $x''$, $t'$",
}


def facts(example):
    """Phrases for the page, {key: text}."""
    choice, label = example.choice, example.label
    clean, image, text, both = (example.conditions[name] for name in ("clean", "image", "text", "sequential"))
    change = example.changes.iloc[label]
    found = {
        "dataset": dataset_label(choice.row["dataset"]),
        "class": example.class_names[label],
        "classes": str(len(example.class_names)),
        "sample": str(choice.sample_id),
        "base_model": choice.row["base_model"],
        "split": choice.row["split"],
        "n": str(choice.n),
        "right": str(choice.right),
        "fitting": str(choice.fitting),
        "sets": str(choice.sets),
        "threat": example.threat.describe().replace("l_inf", "ℓ∞").replace("l_2", "ℓ2"),
        "steps": str(example.threat.steps),
        "loss_before": f"{image.losses[0]:.2f}",
        "loss_after": f"{max(image.losses):.2f}",
        "margin_clean": signed(margin_of(clean, label), 2),
        "margin_image": signed(margin_of(image, label), 2),
        "margin_text": signed(margin_of(text, label), 2),
        "margin_sequential": signed(margin_of(both, label), 2),
        "margin_independent": signed(margin_of(example.conditions["independent"], label), 2),
        "crossed": crossed(image.margins),
        "edits": edited(change),
        "variants": str(change.variants),
        "cosine": f"{example.cosines[label]:.2f}".replace("-", "−"),
        "cosines": f"{np.median(example.cosines):.2f}".replace("-", "−"),
        "changed": f"{int(example.changes.changed.astype(bool).sum())} of {len(example.changes)}",
        "amplified": f"{0.5 / example.threat.epsilon:.0f}",
    }
    for name, condition in example.conditions.items():
        found[f"says_{name}"] = f"“{example.class_names[condition.top[0]]}” ({percent(condition, condition.top[0])} %)"
        found[f"right_{name}"] = f"{percent(condition, label)} %"
    return found


def edited(change):
    """`replaces “post” by “billet”`."""
    return listed(f"replaces “{edit['old_word']}” by “{edit['new_word']}”" for edit in change.edits) or "changes nothing"


def margin_of(condition, label):
    """Largest wrong logit less the right one: positive where the prediction is wrong."""
    return float(np.delete(condition.logits, label).max() - condition.logits[label])


def crossed(margins):
    """When a search first has the model wrong: `at its start`, `after 3 steps`, or `at no step`."""
    wrong = [step for step, value in enumerate(margins) if value > 0]
    if not wrong:
        return "at no step"
    return f"after {wrong[0]} step{'s' * (wrong[0] > 1)}" if wrong[0] else "at its start"


def percent(condition, place):
    return f"{100 * condition.probabilities[place]:.0f}"


def places(example):
    """Classes worth a row: the likeliest without attack, then those that an attack makes likeliest, each once."""
    first = [condition.top[0] for condition in example.conditions.values()]
    return list(dict.fromkeys([*example.conditions["clean"].top, *first]))


def probabilities_table(example):
    """One row a class: logit without attack, and its probability (percent) under each attack; the right class is marked."""
    rows = []
    for place in places(example):
        row = {"class": example.class_names[place] + (" ✓" if place == example.label else "")}
        row["logit"] = f"{example.conditions['clean'].logits[place]:.2f}"
        rows.append(row | {attack_label(name): percent(found, place) for name, found in example.conditions.items()})
    return pd.DataFrame(rows)


def prompts_table(example):
    """The same classes: prompt and attacked prompt, changed words marked, and the cosine of their embeddings."""
    rows = []
    for place in places(example):
        change = example.changes.iloc[place]
        rows.append({"class": example.class_names[place] + (" ✓" if place == example.label else "")})
        rows[-1] |= {"prompt $t_c$": marked(change.prompt, change.edits, ".was")}
        rows[-1] |= {"adversarial prompt $t'_c$": marked(change.adversarial_prompt, change.edits, ".now")}
        rows[-1] |= {"cosine": f"{example.cosines[place]:.2f}".replace("-", "−")}
    return pd.DataFrame(rows)


def image_figure(example):
    """Picture, amplified perturbation and adversarial picture of the image attack, and its search step by step."""
    style.use()
    figure = plt.figure(figsize=(style.WIDTH, 4.2))
    grid = figure.add_gridspec(2, 6, height_ratios=[1.15, 1], hspace=0.2, wspace=1.6)
    clean, attacked = (example.conditions[name] for name in ("clean", "image"))
    noise = 0.5 + (attacked.image - clean.image) / (2 * example.threat.epsilon)
    titles = ("picture $x$", f"perturbation × {0.5 / example.threat.epsilon:.0f}", "adversarial picture $x'$")
    for column, (shown, title) in enumerate(zip((clean.image, noise.clip(0, 1), attacked.image), titles, strict=True)):
        axes = figure.add_subplot(grid[0, 2 * column : 2 * column + 2])
        axes.imshow(shown, interpolation="none")
        axes.set_title(title)
        axes.axis("off")
    for column, (name, unit) in enumerate((("losses", "cross-entropy"), ("margins", "margin (logits)"))):
        axes = figure.add_subplot(grid[1, 3 * column : 3 * column + 3])
        for attack in ("image", "sequential"):
            color, marker = style.ATTACKS[attack]
            values = getattr(example.conditions[attack], name)
            axes.plot(values, color=color, marker=marker, ms=4, lw=1.2, label=attack_label(attack))
        if name == "margins":
            axes.axhline(0, color=style.GREY, ls=(0, (4, 3)), lw=0.9)
        axes.set(xlabel="step of PGD", ylabel=unit)
    axes.legend(loc="best")
    return figure


def bars_figure(example):
    """One row a condition: the picture as the model sees it, and its likeliest prompts with their probabilities."""
    style.use()
    names = list(example.conditions)
    figure, panels = plt.subplots(len(names), 2, figsize=(style.WIDTH, 1.15 * len(names)), width_ratios=[1, 3.4])
    for (left, right), name in zip(panels, names, strict=True):
        condition = example.conditions[name]
        left.imshow(condition.image, interpolation="none")
        left.axis("off")
        top = condition.top
        colors = [style.BLUE if place == example.label else style.RED for place in top]
        bars = right.barh(range(len(top)), 100 * condition.probabilities[top], color=colors, height=0.7)
        for bar, place in zip(bars, top, strict=True):
            bar.set_hatch("" if place == example.label else "///")
            bar.set_edgecolor("white")
            right.text(bar.get_width() + 1, bar.get_y() + 0.35, percent(condition, place), va="center", size=7)
        right.set_yticks(range(len(top)), [shortened(condition.prompts[place]) for place in top])
        right.tick_params(axis="y", labelsize=7)
        right.set(xlim=(0, 108), ylim=(len(top) - 0.4, -0.6))
        right.set_title(ABOUT[name], loc="left")
        right.grid(axis="y", visible=False)
        right.tick_params(axis="x", labelbottom=right is panels[-1][1])
    panels[-1][1].set_xlabel("probability (%) over all class prompts")
    figure.tight_layout(h_pad=0.7)
    return figure


def shortened(prompt, width=44):
    return textwrap.shorten(prompt, width, placeholder=" …").replace("$", r"\$")
