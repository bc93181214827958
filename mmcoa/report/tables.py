"""Tables of any study. Each function returns (shown, numbers): text to print, and the same as a data frame of numbers.

Accuracy in percent, gains in points; `61.3 ±2.1` is a mean and half of its 95 % interval (statistics.py). Values of one data
set stand alone, as a row of them would drown in intervals; theirs, Wilson's, are in the numbers.
"""

import pandas as pd

from mmcoa.errors import UserError
from mmcoa.evaluation.statistics import wilson
from mmcoa.report import results, statistics, tasks
from mmcoa.report.names import MACRO, METHODS, attack_label, dataset_label, method_label, ordered, ordered_attacks, typeset
from mmcoa.report.said import points, written

DASH = "–"
TRAINING = {"steps": "steps", "batch_size": "batch", "lr": "rate", "inner_steps": "PGD steps", "trains": "trains"}


def summary(study, folder="results"):
    """Method x attack, macro accuracy in percent: what `mmcoa book` prints."""
    study = results.load(study, folder)
    return levels(study, tasks.macro_sets(study))[0]


def percent(value):
    """`61.3`, a dash for what is missing."""
    return DASH if pd.isna(value) else written(float(value))


def level(row):
    """`61.3 ±2.1`; row: an `Estimate`, or a row of a frame with its fields."""
    return f"{percent(row.value)} ±{(row.high - row.low) / 2:.1f}"


def gain(row):
    """`+3.2 ±1.4`; row: as for `level`."""
    return f"{points(row.value)} ±{(row.high - row.low) / 2:.1f}"


def spread(frame, text, label=method_label, over="attack"):
    """A long frame (method, value, low, high, n) as one row a method and one column an attack, or a value of `over`."""
    columns, rows = ordered_attacks(frame.attack) if over == "attack" else frame[over].unique(), []
    for name, part in frame.groupby("method", sort=False):
        own = dict(zip(part[over], map(text, part.itertuples()), strict=True))
        row = {"method": label(name), "n": f"{int(part.n.max()):,}"}
        rows.append(row | {attack_label(column): own.get(column, DASH) for column in columns})
    return pd.DataFrame(rows)


def levels(study, sets=None, attacks=None, values=statistics.right):
    """Methods x attacks: macro accuracy."""
    numbers = statistics.levels(study, sets, attacks, values)
    return spread(numbers, level), numbers


def gains(study, sets=None):
    """Methods x attacks: points that a method has over the undefended model on the same pictures."""
    numbers = statistics.gains(study, sets)
    return spread(numbers, gain), numbers


def datasets(study, method="none"):
    """Data sets x attacks: accuracy of one method."""
    rows = study.rows[(study.rows.method == method)]
    if rows.empty:
        raise UserError(f"study '{study.name}' has no method '{method}'; it has: {', '.join(study.methods)}")
    numbers = per_set(rows)
    wide = numbers.pivot(index="dataset", columns="attack", values="accuracy")[ordered_attacks(numbers.attack)]
    n, classes = (numbers.groupby("dataset")[name].max() for name in ("n", "classes"))
    shown = pd.DataFrame({"data set": wide.index.map(dataset_label), "classes": classes.astype(str), "n": n.astype(str)})
    for attack in wide:
        shown[attack_label(attack)] = [percent(value) for value in wide[attack]]
    return shown.reset_index(drop=True), numbers


def methods_by_set(study, attack, sets):
    """Methods x data sets under one attack; the last column is the macro mean over `sets`, those that enter it."""
    numbers = per_set(study.rows[study.rows.attack == attack])
    wide = numbers.pivot(index="method", columns="dataset", values="accuracy")
    names = [name for name in dict.fromkeys(study.rows.dataset) if name in wide]
    means = statistics.levels(study, sets, [attack]).set_index("method")
    shown = []
    for method in ordered(wide.index, METHODS):
        row = {"method": method_label(method)} | {dataset_label(name): percent(wide.loc[method, name]) for name in names}
        shown.append(row | {MACRO: percent(means.value[method]) if method in means.index else DASH})
    return pd.DataFrame(shown), numbers


def per_set(rows):
    """Result rows, seeds taken together: method, dataset, classes, attack, accuracy, n, low, high (Wilson, per sample)."""
    keys = ["method", "dataset", "attack"]
    found = rows.groupby(keys, sort=False).agg(
        classes=("classes", "first"), seeds=("n", "size"), n=("n", "first"), accuracy=("accuracy", "mean")
    )
    bounds = [wilson(row.accuracy / 100 * row.n, row.n) for row in found.itertuples()]
    found["low"], found["high"] = zip(*bounds, strict=True)
    return found.reset_index()


def sweep_numbers(study, name):
    """Levels at each value of a sweep: `setting`, and `x`, its number; an epsilon in 255ths."""
    parts = []
    for value, part in study.sweep(name).items():
        parts.append(statistics.levels(part).assign(setting=value or "accuracy", x=number(value)))
    return pd.concat(parts, ignore_index=True)


def number(value):
    """`2/255` -> 2, `10` -> 10; not a number for text."""
    over, slash, under = str(value).partition("/")
    try:
        return 255 * float(over) / float(under) if slash else float(over)
    except ValueError:
        return float("nan")


def sweep(study, name):
    """Methods x values of a sweep: macro accuracy, one row a method and attack."""
    numbers, shown = sweep_numbers(study, name), []
    for (method, attack), part in numbers.groupby(["method", "attack"], sort=False):
        row = {"method": method_label(method), "attack": attack_label(attack), "n": f"{int(part.n.max()):,}"}
        shown.append(row | {each.setting: level(each) for each in part.itertuples()})
    return pd.DataFrame(shown).fillna(DASH), numbers


def trainings(study):
    """Fine-tuned models: settings, minutes, loss at the beginning and at the end, accuracy on held-out training pictures."""
    frame, rows = study.training, []
    ends = loss_ends(study)
    for row in frame.itertuples():
        made = {"method": method_label(row.method), "seed": str(int(row.seed)), "trained on": dataset_label(row.dataset)}
        made |= {label: setting(getattr(row, name)) for name, label in TRAINING.items()}
        first, last = ends.get(row.model, (None, None))
        made |= {"loss": DASH if first is None else f"{first:.3g} to {last:.3g}", "minutes": f"{row.seconds / 60:.0f}"}
        held = {name: getattr(row, f"final_{name}", None) for name in ("clean", "image", "text")}
        rows.append(made | {f"held-out {name}": percent(value) for name, value in held.items()})
    return pd.DataFrame(rows), frame


def loss_ends(study):
    """{model: (loss at its first, mean loss of its last three logged steps)}."""
    if not len(study.logs):
        return {}
    return {model: (part.loss.iloc[0], part.loss.iloc[-3:].mean()) for model, part in study.logs.groupby("model", sort=False)}


def setting(value):
    """A setting as text; a dash: the model's or the loop's default."""
    if isinstance(value, float):
        return DASH if pd.isna(value) else f"{value:g}"
    return DASH if value is None else str(value)


def checks(study):
    """Self-checks of the attacks: how often each was made, how often it held."""
    numbers, rows = study.checks, []
    if len(numbers):
        for (attack, check), part in numbers.groupby(["attack", "check"], sort=False):
            rows.append({"attack": attack_label(attack), "check": typeset(check), "made": str(len(part))})
            rows[-1]["passed"] = str(int(part.passed.astype(bool).sum()))
    return pd.DataFrame(rows, columns=["attack", "check", "made", "passed"]), numbers
