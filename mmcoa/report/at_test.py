"""Test-time defences, attacked: one line a fine-tuned model, defence and attack, with what each adversary leaves.

Numbers of `table` come from every evaluation of a study, main or sweep, that names a test-time defence; those of `defences`
from two sweeps that have several of them on one model. A masked number enters no mean: a search without a gradient says
nothing about robustness.
"""

import pandas as pd

from mmcoa.defenses.at_test import names, record
from mmcoa.report import statistics, tables
from mmcoa.report.names import METHODS, attack_label, method_label, ordered

SEVERAL, MEANING = "defences", "defences-meaning"  # sweeps over `defense_at_test`: image, any word; words that keep the meaning
COLUMNS = {  # of `defences`: the sweep and the outcome
    "clean": (SEVERAL, "clean"),
    "image, transfer": (SEVERAL, "image@transfer"),
    "image, adaptive": (SEVERAL, "image@adaptive"),
    "image, worst": (SEVERAL, "image"),
    "any word": (SEVERAL, "text"),
    "meaning kept": (MEANING, "text"),
    "image and word, worst": (SEVERAL, "sequential"),
}


def parts(study):
    """[`Results` whose rows name a test-time defence]: of the main evaluation and of sweeps but those of `defences`."""
    sweeps = [values for name, values in study.sweeps.items() if name not in (SEVERAL, MEANING)]
    every = [study, *(part for values in sweeps for part in values.values())]
    return [part for part in every if "defense_at_test" in part.rows and (part.rows.defense_at_test.fillna("") != "").any()]


def without(study, like, method, attack):
    """`Estimate` without the defence, of the main evaluation, on the pictures of `like`, a part of `parts`."""
    there, own = statistics.right(like, method, "clean"), statistics.right(study, method, attack)
    return statistics.level(statistics.on_pictures_of(there, own))


def lines(study):
    """Numbers: method, defense, attack, side (`no defence, clean`, `no defence`, `clean`, SIDES), value, low, high, n,
    dead (% of gradients that no float can hold), masked."""
    rows = []
    for part in parts(study):
        (defense,) = part.rows.defense_at_test.unique()
        for method in ordered(part.methods, METHODS):
            own = part.rows[part.rows.method == method]
            for attack in own[own.adversary == "worst"].attack.unique():
                dead = own[own.attack == f"{attack}@adaptive"].dead_gradients.astype(float).mean()
                key = {"method": method, "defense": defense, "attack": attack, "dead": dead}
                for side, of in (("no defence, clean", "clean"), ("no defence", attack)):
                    if (found := without(study, part, method, of)) is not None:
                        rows.append(key | {"side": side, "masked": False} | vars(found))
                sides = {"clean": "clean", "transfer": f"{attack}@transfer", "adaptive": f"{attack}@adaptive", "worst": attack}
                for side, of in sides.items():
                    masked = own[own.attack == of].masked.astype(str).eq("True").any()
                    found = statistics.level(statistics.right(part, method, of))
                    rows.append(key | {"side": side, "masked": masked} | vars(found))
    return pd.DataFrame(rows)


def table(study):
    """(shown, numbers) of `lines`: one row a model, defence and attack."""
    numbers, rows = lines(study), []
    if numbers.empty:
        return numbers, numbers
    labels = {name: record(name).label for name in names()}
    for (method, defense, attack), part in numbers.groupby(["method", "defense", "attack"], sort=False):
        row = {"fine-tuned": method_label(method), "at test": labels.get(defense, defense), "attack": attack_label(attack)}
        row |= {"n": f"{int(part.n.max()):,}"}
        for one in part.itertuples():
            row[one.side] = "masked" if one.masked else tables.level(one)
        rows.append(row | {"unusable gradients": f"{part.dead.iloc[0]:.0f} %"})
    return pd.DataFrame(rows), numbers


def defences(*studies):
    """(shown, numbers) of the undefended models of some studies without and with each test-time defence: one row each.

    numbers: bed, defense, side (COLUMNS), value, low, high, n, masked, dead (% of the gradients), seconds (a picture).
    """
    numbers, shown = [], []
    for study in studies:
        bed = study.rows.base_model.iloc[0]
        for name in study.sweeps.get(SEVERAL, {}):
            row = {"model": bed, "at test": "none" if name == "none" else record(name).label}
            for side, (sweep, attack) in COLUMNS.items():
                part = study.sweep(sweep)[name]
                own, found = part.rows[part.rows.attack == attack], statistics.level(statistics.right(part, "none", attack))
                row[side] = tables.DASH
                if found:
                    masked = "masked" in own and own.masked.astype(str).eq("True").any()
                    dead = own.dead_gradients.astype(float).mean() if "dead_gradients" in own else None
                    about = {"bed": bed, "defense": name, "side": side, "masked": masked, "dead": dead}
                    numbers.append(about | {"seconds": own.seconds.sum() / own.n.sum()} | vars(found))
                    row |= {side: "masked" if masked else tables.level(found), "n": f"{found.n:,}"}
            shown.append(row)
    return pd.DataFrame(shown), pd.DataFrame(numbers)
