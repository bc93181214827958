"""The claims C1 to C5 of Zhou et al. (arXiv 2404.19287) judged on result files.

    for bed in beds(results.load("main")):
        print(bed.name, bed.control, bed.word("C3"), bed.parts)

A bed is a base model, the data that it was fine-tuned on, and a task. A claim is a function that lists its parts: those that
decide, and others shown beside them. Effects are points of macro accuracy, positive as claimed; p-values are adjusted over all
parts of a bed. Where a bed's control fails, no claim has a verdict. Functions that make tables return (shown, numbers).
"""

from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from operator import sub

import numpy as np
import pandas as pd
from scipy import stats

from mmcoa.errors import UserError
from mmcoa.evaluation.statistics import control_holds
from mmcoa.report import plots, statistics, style
from mmcoa.report.names import METHODS, attack_label, dataset_label, listed, method_label, ordered
from mmcoa.report.statistics import Estimate, among_right, known, right, together
from mmcoa.report.tables import DASH, gain, level, percent, points
from mmcoa.report.tasks import IN, macro_sets

STUDIES = ("main", "emoji")  # whose beds stand on the page
ALPHA = 0.05  # of adjusted p-values
OUT = "out_of_distribution"
IMAGE_DEFENCES = ("tecoa", "fare", "pmg_aft", "agft", "image_only", "tga_zsr", "advflyp")  # trained against image attacks alone
BOTH = ("independent", "sequential")  # attacks on both inputs that are searches of their own
NUMBERS = dict.fromkeys(Estimate.__dataclass_fields__, np.nan)  # of what is not measured


@dataclass(frozen=True)
class Bed:
    """methods: {defence: method of the study, see results.py}; within: the bed in distribution of the same study."""

    study: object
    task: str
    trained_on: tuple
    sets: tuple
    methods: dict
    within: object = None

    @property
    def name(self):
        return f"{self.study.name}, {self.task.replace('_', ' ')}"

    def right(self, defence, attack, values=right):
        """`statistics.right`; {} where the study lacks the method or the attack."""
        return values(self.study, self.methods.get(defence), attack, self.sets)

    @cached_property
    def level(self):
        """`Estimate` of undefended accuracy under the image attack, or None."""
        return statistics.level(self.right("none", "image"))

    @cached_property
    def gain(self):
        """`Estimate` of what TeCoA gains under the image attack, or None."""
        return known(together(sub, self.right("tecoa", "image"), self.right("none", "image")))

    @property
    def control(self):
        if not (self.level and self.gain):
            return "was not made"
        return "holds" if control_holds(self.level.value, self.gain.value, self.gain.low) else "fails"

    @cached_property
    def parts(self):
        """One row a part: bed, claim, part, decides, attack, the fields of `Estimate` (NaN: not measured), above (data sets
        with an effect above zero), accuracy (text), holm (adjusted p), sign (1: as claimed, -1: the other way, 0: open)."""
        rows = [row(self, key, *ask) for key, (_, asks) in CLAIMS.items() for ask in asks(self)]
        found = pd.DataFrame(rows).assign(bed=self.name, holm=np.nan)
        there = found.p.notna()
        found.loc[there, "holm"] = statistics.holm(found.p[there])
        return found.assign(sign=((found.low > 0) * 1 - (found.high < 0) * 1) * (found.holm < ALPHA))

    def deciding(self, key):
        """The rows of `parts` that decide a claim, as far as they are measured."""
        return self.parts[(self.parts.claim == key) & self.parts.decides & self.parts.p.notna()]

    def word(self, key):
        """The verdict on a claim."""
        signs = set(self.deciding(key).sign)
        if not signs:
            return "not measured"
        if self.control != "holds":
            return f"not judged here: the control {self.control}"
        if {1, -1} <= signs:
            return "mixed"
        return "contradicted" if -1 in signs else "supported" if signs == {1} else "undecided"


def there(load):
    """The study that a book is about, and those of STUDIES that there are. load: as `book.study`."""
    found = {}
    for name in (None, *STUDIES):
        with suppress(UserError):
            one = load(name)
            found[one.name] = one
    return list(found.values())


def beds(study):
    """The beds of a study, in distribution first. Methods count that are called by their defence's own name, or with `-in`
    where a study trained models for that task; variants do not."""
    rows, inside, found = study.rows[study.rows.defense != "none"], None, []
    for task, ending in ((IN, ""), (IN, "-in"), (OUT, "")):
        own = rows[(rows.task == task) & (rows.method == rows.defense + ending)]
        sets = macro_sets(study) if task == OUT else tuple(own.dataset.unique())
        if len(own) and sets and "none" in study.methods and not (task == IN and inside):
            methods = {"none": "none"} | {name: name + ending for name in ordered(own.defense, METHODS)}
            found.append(Bed(study, task, tuple(own.trained_on.unique()), sets, methods, inside))
            inside = found[0] if task == IN else inside
    return found


def row(bed, claim, part, decides, values, sides=(), attack=""):
    """One row of `Bed.parts`. values: as `together` gives them, or an `Estimate`; sides: (defence, attack) behind them."""
    made, texts = {"claim": claim, "part": part, "decides": decides, "attack": attack, "above": np.nan}, []
    if isinstance(values, dict) and values:
        made["above"] = sum(each.mean() > 0 for each in values.values())
        for defence, name in sides:  # accuracy, in brackets among the pictures that are right without attack
            both = [bed.right(defence, name, how) for how in (right, among_right)]
            every, among = (known({key: own[key] for key in values if key in own}, over_sets=False) for own in both)
            text = f"{method_label(defence) if len(dict(sides)) > 1 else attack_label(name)} {percent(every.value)}"
            texts.append(text + (f" ({percent(among.value)})" if among and name != "clean" else ""))
    return made | (vars(found) if (found := known(values)) else NUMBERS) | {"accuracy": "; ".join(texts)}


def c1(bed):
    """Accuracy left by one attack minus that left by both. `sequential` starts from the text attack and so cannot be weaker:
    it is asked for interaction alone, against what survives both attacks, each made alone."""
    image, text = bed.right("none", "image"), bed.right("none", "text")
    asks = [(BOTH[0], "stronger single attack", True, lambda i, t, b: min(i, t, key=np.mean) - b)]
    asks += [(attack, "union of both", False, lambda i, t, b: i * t - b) for attack in BOTH]
    for attack, other, decides, make in asks:
        sides = [("none", name) for name in ("image", "text", attack)]
        values = together(make, image, text, bed.right("none", attack))
        yield f"{attack_label(attack)}, beyond the {other}", decides, values, sides


def c2(bed):
    """What the text attack takes from a model, beyond half of what it takes from the undefended one."""
    base = [bed.right("none", attack) for attack in ("clean", "text")]
    for name in IMAGE_DEFENCES:
        own, sides = [bed.right(name, attack) for attack in ("clean", "text")], [("none", "text"), (name, "text")]
        damage = together(lambda c, t, c0, t0: (c - t) - (c0 - t0) / 2, *own, *base)
        yield f"{method_label(name)}, damage beyond half", True, damage, sides
        yield f"{method_label(name)}, gain under text", False, together(sub, own[1], base[1]), sides


def mmcoa_over(other):
    """The function of a claim that MMCoA is more robust than another method, under four attacks."""

    def asks(bed):
        for attack in ("image", "text", *BOTH):
            values = together(sub, bed.right("mmcoa", attack), bed.right(other, attack))
            yield attack_label(attack), True, values, [(other, attack), ("mmcoa", attack)], attack

    return asks


def c5(bed):
    """Clean accuracy lost; out of distribution also how much more than in distribution."""
    own = [name for name in bed.methods if name not in ("none", "clean")]
    yield "all defences, mean", True, lost(bed, own)
    if bed.task == OUT:
        yield "out of minus in distribution", True, shift(bed, bed.within) if bed.within else None
    for name in (*own, "clean"):
        yield method_label(name), False, lost(bed, [name]), [("none", "clean"), (name, "clean")]


def lost(bed, names):
    """Clean accuracy of the undefended model minus the mean of some methods'."""
    own = [bed.right(name, "clean") for name in names]
    return together(lambda base, *each: base - sum(each) / len(each), bed.right("none", "clean"), *own) if own else {}


def shift(out, within):
    """`Estimate` of what the same defences lose in one bed minus what they lose in another, or None. Their data sets differ:
    half widths add up in squares (Zou and Donner, Statistics in Medicine 2008)."""
    names = [name for name in out.methods if name in within.methods and name not in ("none", "clean")]
    a, b = (known(lost(bed, names)) for bed in (out, within))
    if not (a and b):
        return None
    value, half = a.value - b.value, np.hypot(a.half, b.half)
    p = 2 * stats.norm.sf(abs(value) / half * stats.norm.ppf(0.975)) if half else float(value == 0)
    draws = " and ".join(dict.fromkeys((a.draws, b.draws)))
    return Estimate(value, value - half, value + half, float(p), a.n + b.n, a.sets + b.sets, draws)


CLAIMS = {  # {key: (the claim in our words, the function of its parts)}
    "C1": ("A multimodal attack hurts CLIP more than an attack on either input alone.", c1),
    "C2": ("Models defended against image attacks alone stay open to text attacks.", c2),
    "C3": ("MMCoA is more robust than undefended CLIP under image, text and multimodal attacks.", mmcoa_over("none")),
    "C4": ("Training against both attacks beats training against image attacks alone.", mmcoa_over("image_only")),
    "C5": ("Robustness costs clean accuracy, and more so out of distribution.", c5),
}


def filled(rows):
    """A data frame; with a row that says so where there is none: a page cannot show a table without rows."""
    return pd.DataFrame(rows or [{"": "not measured"}])


def cells(one):
    """What every table says of an effect."""
    return {"effect": gain(one), "n": f"{one.n:,.0f}", "data sets": f"{one.sets:.0f}", "drawn": one.draws}


def controls(found):
    """One row a bed: its positive control."""
    shown, numbers = [], []
    for bed in found:
        on = listed(map(dataset_label, bed.trained_on)) if len(bed.trained_on) < 3 else "each data set itself"
        made = {"bed": bed.name, "base model": bed.study.rows.base_model.iloc[0], "fine-tuned on": on}
        made |= {"undefended, image (%)": level(bed.level) if bed.level else DASH}
        made |= {"TeCoA's gain": gain(bed.gain) if bed.gain else DASH, "data sets": str(len(bed.sets))}
        shown.append(made | {"control": bed.control})
        numbers += [{"bed": bed.name} | vars(one) for one in (bed.level, bed.gain) if one]
    return filled(shown), pd.DataFrame(numbers)


def verdicts(found):
    """One row a claim, one column a bed: the effects that decide, in points, then the verdict."""
    shown = []
    for key, (says, _) in CLAIMS.items():
        shown.append({"": key, "claim": says} | {bed.name: f"{effects(bed.deciding(key))}; {bed.word(key)}" for bed in found})
    return pd.DataFrame(shown), pd.concat([pd.DataFrame(), *(bed.parts for bed in found)])


def effects(rows):
    """`image +20.1, text −0.3`; of more than four the ends."""
    texts = [f"{short(one.part)} {points(one.value)}" for one in rows.sort_values("value", kind="stable").itertuples()]
    return f"{texts[0]} to {texts[-1]}" if len(texts) > 4 else ", ".join(texts) or DASH


def short(part):
    """What a part is about, without what is measured."""
    return part.partition(",")[0]


def parts(found, key):
    """The parts of a claim in all beds; of data sets also how many have an effect above zero."""
    every = pd.concat([pd.DataFrame(), *(bed.parts[(bed.parts.claim == key) & bed.parts.p.notna()] for bed in found)])
    shown = []
    for one in every.itertuples():
        made = {"bed": one.bed, "part": one.part, "decides": "yes" if one.decides else "no"} | cells(one)
        made["data sets"] += "" if np.isnan(one.above) else f" ({one.above:.0f} above 0)"
        made["p"] = "< 0.001" if one.holm < 0.001 else f"{one.holm:.3f}"
        shown.append(made | {"accuracy (%)": one.accuracy or DASH})
    return filled(shown), every


def left_out(found):
    """Names of the deciding parts that a bed could not measure: `main, in distribution: C2 (AGFT), C5 (MMCoA)`."""
    texts = []
    for bed in found:
        lacks = bed.parts[bed.parts.p.isna() & bed.parts.decides].groupby("claim").part
        own = ", ".join(f"{claim} ({listed(map(short, names))})" for claim, names in lacks)
        texts += [f"{bed.name}: {own}"] if own else []
    return "; ".join(texts) or "none"


def forest(found):
    """MMCoA over the undefended model (C3) and over image only (C4): one panel an attack, one mark a bed."""
    names = {"C3": "over undefended", "C4": "over image only"}
    frames = {bed.name: bed.parts[bed.parts.claim.isin(names) & bed.parts.p.notna()] for bed in found}
    frames = {name: own.assign(method=own.claim.map(names)) for name, own in frames.items() if len(own)}
    looks = dict(zip(frames, [(style.BLUE, "s"), (style.ORANGE, "o"), (style.GREEN, "D"), (style.PINK, "v")], strict=False))
    attacks = list(dict.fromkeys(name for own in frames.values() for name in own.attack)) or ["image"]
    return plots.forest(frames, attacks, looks, "points that MMCoA has over another model")
