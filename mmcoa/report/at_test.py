"""Test-time defences, attacked: one line a fine-tuned model, defence and attack, with what each adversary leaves.

Numbers come from every evaluation of a study, main or sweep, that names a test-time defence. A mean that would hold a masked
number is `masked`: a search without a gradient says nothing about robustness.
"""

import pandas as pd

from mmcoa.defenses.at_test import names, record
from mmcoa.evaluation.statistics import macro_interval
from mmcoa.report.names import METHODS, attack_label, method_label, ordered
from mmcoa.report.tables import correct_by_sample, number

SIDES = ("transfer", "adaptive", "worst")
COLUMNS = ["fine-tuned", "at test", "attack", "n", "clean", *SIDES, "unusable gradients", "signs"]


def there(study):
    """Whether a study has evaluated a test-time defence."""
    return bool(parts(study))


def parts(study):
    """[`Results` whose rows name a test-time defence]: of the main evaluation and of sweeps."""
    every = [study, *(part for values in study.sweeps.values() for part in values.values())]
    return [part for part in every if "defense_at_test" in part.rows and (part.rows.defense_at_test.fillna("") != "").any()]


def table(study):
    """COLUMNS as text: accuracy in percent with a 95 % bootstrap interval, mean over data sets."""
    rows = []
    for part in parts(study):
        (defense,) = part.rows.defense_at_test.unique()
        for method in ordered(part.methods, METHODS):
            own = part.rows[part.rows.method == method]
            for attack in own[own.adversary == "worst"].attack.unique():
                rows.append(line(part, own, method, defense, attack))
    order = {name: place for place, name in enumerate(names())}
    rows.sort(key=lambda row: (order.get(row["at test"], len(order)), row["fine-tuned"]))
    labels = {name: record(name).label for name in names()}
    return pd.DataFrame(rows, columns=COLUMNS).replace({"at test": labels})


def line(part, own, method, defense, attack):
    """One row of the table as a dict."""
    of = {"clean": "clean", "worst": attack, **{side: f"{attack}@{side}" for side in SIDES[:2]}}
    rows = {side: own[own.attack == name] for side, name in of.items()}
    dead = rows["adaptive"].dead_gradients.astype(float)
    signs = {sign for side in SIDES for text in rows[side].check for sign in str(text).split("; ") if sign.startswith("susp")}
    return {
        "fine-tuned": method_label(method),
        "at test": defense,
        "attack": attack_label(attack),
        "n": str(int(rows["clean"].groupby("dataset").n.first().sum())),
        **{side: mean(part, method, of[side], rows[side]) for side in of},
        "unusable gradients": f"{dead.mean():.0f} %",
        "signs": "; ".join(sorted(signs)) or "none",
    }


def mean(part, method, name, rows):
    """Macro mean of one outcome as text, `masked` where one of its numbers is."""
    if rows.masked.astype(str).eq("True").any():
        return "masked"
    return number(*macro_interval(correct_by_sample(part, method, name)))


def facts(study):
    """What the page says in its text."""
    found = table(study)
    return {
        "at_test_defences": ", ".join(dict.fromkeys(found["at test"])),
        "at_test_masked": str(int((found == "masked").any(axis=1).sum())),
        "at_test_rows": str(len(found)),
        "at_test_threat": next(row.threat_text for part in parts(study) for row in part.rows.itertuples() if row.adversary),
    }
