"""Three questions of our own. Each yields (what, values): values as `statistics.together` gives them, or an `Estimate`.

All are asked out of distribution, on the pictures that a sweep shares with the evaluation that it is compared with. Their
intervals are not adjusted for each other.
"""

from operator import sub

import pandas as pd

from mmcoa.report import at_test
from mmcoa.report.claims import NUMBERS, cells, filled
from mmcoa.report.names import METHODS, method_label, ordered
from mmcoa.report.statistics import known, right, together
from mmcoa.report.tasks import macro_sets

TEXT_DEFENCES = ("text_only", "mat", "mmcoa")  # trained with words of the table


def seen_words(study):
    """Gains under text with the words of the training, with other words, and the difference."""
    parts = [study.sweeps.get("seen", {}).get(""), study.sweeps.get("meaning", {}).get("any")]
    for name in TEXT_DEFENCES if all(parts) else ():
        gains = [together(sub, *(right(part, who, "text", macro_sets(study)) for who in (name, "none"))) for part in parts]
        yield f"{method_label(name)}, words of its training", gains[0]
        yield f"{method_label(name)}, other words", gains[1]
        yield f"{method_label(name)}, difference", together(sub, *gains)


def meaning(study):
    """What text attacks take from the undefended model, and its share of what any word takes, in percent."""
    clean, parts = right(study, "none", "clean", macro_sets(study)), study.sweeps.get("meaning", {})
    damage = {value: together(sub, clean, right(part, "none", "text")) for value, part in parts.items()}
    for value, own in damage.items():
        yield f"{value}, damage", own
        if own and value != "any" and damage.get("any"):
            yield f"{value}, share of the damage of any (%)", share(own, damage["any"])


def share(part, whole):
    """`Estimate` of the ratio of two macro means in percent, by the delta method; None where there is nothing to share."""
    top, bottom = known(part).value / 100, known(whole).value / 100
    return known(together(lambda a, b: (a - top / bottom * b + top) / bottom, part, whole)) if bottom > 0 else None


def switched_on(study):
    """What a test-time defence gains over none, by what the adversary knows; a masked number is left out."""
    for part in at_test.parts(study):
        hidden, defence = set(part.rows.attack[part.rows.masked.astype(str) == "True"]), part.rows.defense_at_test.iloc[0]
        for name in ordered(part.methods, METHODS):
            for attack in [each for each in dict.fromkeys(part.rows.attack) if each not in hidden]:
                base = right(study, name, attack.partition("@")[0], macro_sets(study))
                what = attack.replace("@", ", ") if "@" in attack or attack == "clean" else f"{attack}, worst"
                yield f"{method_label(name)} with {defence}: {what}", together(sub, right(part, name, attack), base)


def table(studies, asks):
    """(shown, numbers): what one of these functions finds in some studies, one row an answer."""
    answers = [(study.name, what, known(values)) for study in studies for what, values in asks(study)]
    found = [{"study": name, "what": what} | vars(one) for name, what, one in answers if one]
    numbers = pd.DataFrame(found, columns=["study", "what", *NUMBERS])
    return filled([{"study": one.study, "": one.what} | cells(one) for one in numbers.itertuples()]), numbers
