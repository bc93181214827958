"""How strong the attacks are, by a study's own results: self-checks, and gaps between attacks. As frames and tables.

Comparisons with other implementations: comparisons.py.
"""

import pandas as pd

from mmcoa.evaluation.statistics import macro_interval
from mmcoa.report import sweeps
from mmcoa.report.names import METHODS, attack_label, dataset_label, listed, method_label, ordered, source_label
from mmcoa.report.tables import signed_interval

# (stronger, weaker): what the first is asked to add. `pgd` and `image` are one attack, whichever a profile lists.
GRADIENT = ("image", "pgd", "cw", "apgd-ce", "apgd-dlr", "apgd-dlr-t")
PAIRS = (
    (("auto",), ("pgd", "image")),
    (("apgd-ce",), ("pgd", "image")),
    (("pgd", "image"), ("pgd-reference",)),
    (("pgd", "image"), ("fgsm",)),
    (GRADIENT, ("square",)),
    (("joint",), ("sequential",)),
    (("sequential",), ("co_attack",)),
)
UNION = "gradient attacks together"
SAMPLE = ["model", "dataset", "sample_id", "label"]
CHECK_COLUMNS = ["method", "model", "attack", "check", "value", "limit", "passed", "n", "verdict"]
GAP_COLUMNS = [
    *("first", "second", "method", "n", "first_accuracy", "second_accuracy", "gap", "low", "high", "only_first", "only_second")
]


def checks(study):
    """The self-checks of the main evaluation and of the sweep over attacks: CHECK_COLUMNS, one row a model, search and check.

    They are made once for each model and search; the data sets of an evaluation repeat them.
    """
    parts = [study, *study.sweeps.get("attacks", {}).values()]
    frames = [part.checks[CHECK_COLUMNS] for part in parts if len(part.checks)]
    if not frames:
        return pd.DataFrame(columns=CHECK_COLUMNS)
    return pd.concat(frames).drop_duplicates(["model", "attack", "check"], ignore_index=True)


def verdicts_table(study):
    """One row a method and search: models, checks passed by all of them, samples, and the plain verdict."""
    frame, rows = checks(study), []
    for method in ordered(frame.method, METHODS):
        for attack, part in frame[frame.method == method].groupby("attack", sort=False):
            failed = part[~part.passed.astype(bool)]
            reasons = [
                f"{verdict} ({listed(seed_label(model) for model in dict.fromkeys(own.model))})"
                for verdict, own in failed.groupby("verdict", sort=False)
            ]
            row = {"method": method_label(method), "models": str(part.model.nunique()), "search": attack_label(attack)}
            row |= {
                "passed": f"{int(part.passed.sum())} of {len(part)}",
                "n": "–".join(map(str, dict.fromkeys([part.n.min(), part.n.max()]))),
            }
            rows.append(row | {"verdict": f"suspicious: {'; '.join(reasons)}" if reasons else "ok"})
    return pd.DataFrame(rows)


def seed_label(model):
    """`mmcoa-seed1` -> `seed 1`; `mmcoa-in-on-openmoji-birds-seed1` -> `birds, seed 1`; the base model has no seed."""
    front, mark, seed = model.rpartition("-seed")
    where = front.partition("-on-")[2]
    return ", ".join(
        filter(None, (dataset_label(where.replace("-", "/", 1)) if where else "", f"seed {seed}" if mark else "base model"))
    )


def checks_table(study):
    """One row a search and check: the undefended model's value beside the limit, and how many models pass."""
    frame, rows = checks(study), []
    for (attack, check), part in frame.groupby(["attack", "check"], sort=False):
        passed = part.passed.astype(bool)
        sign = "at least" if ((part.value > part.limit) & passed | (part.value < part.limit) & ~passed).any() else "at most"
        own = part[part.method == "none"]
        value = plain(own.value.iloc[0]) if len(own) else "–"
        limit = f"{sign} {plain(own.limit.iloc[0])}" if len(own) else sign
        row = {"search": attack_label(attack), "check": check, "undefended": value, "limit": limit}
        rows.append(
            row
            | {"n": str(own.n.iloc[0]) if len(own) else "–", "passed by": f"{passes(part)} of {part.model.nunique()} models"}
        )
    return pd.DataFrame(rows)


def plain(value):
    """A count as it is, other numbers with three digits; a true minus sign."""
    return f"{value:.3g}".replace("-", "−")


def passes(part):
    """Models that pass all rows of a part."""
    return int(part.groupby("model").passed.all().sum())


def gaps(study):
    """What the first of two attacks adds to the second, on the same pictures of the sweep `attacks`; one row a pair and method.

    Returns columns first, second, method, n, first_accuracy, second_accuracy, gap, low, high (points that the first leaves
    less, macro, with a paired interval), only_first, only_second (pictures that only one of them breaks; of right ones).
    """
    part, rows = sweeps.one(study, "attacks"), []
    for first, second in pairs(part):
        for method in ordered(part.methods, METHODS):
            row = gap_row(survivors(part, method, first), survivors(part, method, second))
            rows.append(row | {"first": label_of(first), "second": label_of(second), "method": method})
    return pd.DataFrame(rows, columns=GAP_COLUMNS)


def pairs(part):
    """The PAIRS of which a study has both sides: [(names, names), ...]."""
    found = [(_present(part, stronger), _present(part, weaker)) for stronger, weaker in PAIRS]
    return [(first, second) for first, second in found if first and second]


def text_gaps(study):
    """The same for the text attack: every candidate source of the sweep `source` against the main evaluation's source."""
    parts, rows = study.sweep("source"), []
    base = sweeps.main_source(study)
    for value, part in parts.items():
        if base not in parts or value == base or "text" not in part.attacks:
            continue
        for method in ordered(part.methods, METHODS):
            row = gap_row(survivors(part, method, ["text"]), survivors(parts[base], method, ["text"]))
            rows.append(row | {"first": source_label(value), "second": source_label(base), "method": method})
    return pd.DataFrame(rows, columns=GAP_COLUMNS)


def survivors(part, method, attacks):
    """Whether each picture of each model of a method survives all of some attacks: bool Series by SAMPLE."""
    own = part.outcomes[part.outcomes.method == method].set_index(SAMPLE)
    return own[[f"{attack}_correct" for attack in attacks]].all(axis=1)


def gap_row(first, second):
    """Paired comparison of two `survivors`. Seeds are averaged in it, in the counts too."""
    pair = pd.concat({"first": first, "second": second}, axis=1, join="inner").astype(float)
    pair["more"] = pair.second - pair["first"]  # 1: the first attack alone breaks it, -1: the second alone
    models = pair.index.get_level_values("model").nunique()
    mean = pair.groupby(level=SAMPLE[1:]).mean()
    accuracy = 100 * mean.groupby(level="dataset").mean().mean()
    sets = [(part.more.to_numpy(), part.index.get_level_values("label")) for _, part in mean.groupby(level="dataset")]
    gap, low, high = macro_interval(sets)
    row = {"n": len(mean), "first_accuracy": accuracy["first"], "second_accuracy": accuracy.second}
    row |= {"gap": gap, "low": low, "high": high}
    return row | {"only_first": (pair.more > 0).sum() / models, "only_second": (pair.more < 0).sum() / models}


def _present(part, names):
    """Of `names`, the first that a study has; of the gradient attacks, all that it has."""
    found = [name for name in names if name in part.attacks]
    return found if names is GRADIENT else found[:1]


def label_of(attacks):
    return attack_label(attacks[0]) if len(attacks) == 1 else UNION


def gaps_table(frame):
    """`gaps` or `text_gaps` to print: accuracies in percent, and the pictures that one of the two alone breaks."""
    rows = []
    for row in frame.itertuples():
        made = {"attack": row.first, "against": row.second, "model": method_label(row.method), "n": f"{row.n:.0f}"}
        made |= {"accuracy": f"{row.first_accuracy:.1f}", "accuracy, other": f"{row.second_accuracy:.1f}"}
        made["points more taken"] = signed_interval(row.gap, row.low, row.high)
        rows.append(made | {"broken by it alone": f"{row.only_first:.0f}", "by the other alone": f"{row.only_second:.0f}"})
    return pd.DataFrame(rows)
