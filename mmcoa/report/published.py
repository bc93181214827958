"""Numbers that others have published, from files beside this module; never mixed with results of our own.

    published/others.csv     accuracies of other repositories: source and protocol on every row
    published/retrieval.csv  success rates of attacks on retrieval, which are no accuracies
    published/paper.csv      the tables of arXiv 2404.19287; a header alone until someone who has the paper copies them

All three are read by `read`, which takes no row that lacks something: `–` stands where a column means nothing.
"""

import csv
from importlib.resources import files
from pathlib import Path

import pandas as pd

from mmcoa.errors import UserError, unknown
from mmcoa.report.data import code
from mmcoa.threat import parse_epsilon

FOLDER = Path(str(files("mmcoa.report"))) / "published"
NOTHING = "–"  # stands where a column means nothing, or where the source is silent
TASKS = ("in_distribution", "out_of_distribution")
OTHERS = {
    "source": "where the number stands",
    "cite": "key in book/references.bib",
    "architecture": "of the model, and its pre-training",
    "trained_on": "data set of fine-tuning, and its epsilon where that varies; – for a model that was not fine-tuned",
    "epsilon": "of the attack, as 1/255",
    "protocol": "attack and its steps, pixels that it changes, pictures",
    "model": "as the source calls it",
    "clean": "accuracy without attack, percent, mean over the data sets",
    "robust": "the same under attack",
    "data_sets": "how many the mean is over",
    "note": "anything else; may be empty",
}
RETRIEVAL = {
    **{name: OTHERS[name] for name in ("source", "cite", "architecture")},
    "dataset": "pictures and sentences that are attacked",
    **{name: OTHERS[name] for name in ("epsilon", "protocol")},
    "attack": "as the source calls it",
    "text_success": "attack success rate at R@1, percent, where sentences are retrieved",
    "image_success": "the same where pictures are retrieved",
    "note": OTHERS["note"],
}
PAPER = {
    "table": "number of the table in the paper, such as 2",
    "row": "its row, counted from 1 or as the row is called",
    "task": f"{TASKS[0]} or {TASKS[1]}",
    "trained_on": "data set of fine-tuning; – for a model that was not fine-tuned",
    "shots": "pictures of each class in fine-tuning, as a number; all; or –",
    "model": "as the paper calls it",
    "dataset": "one data set, or mean; the project's name for it (`mmcoa datasets`) where it has one",
    "attack": "clean, image, text, multimodal, or as the paper calls it",
    "epsilon": "of the image attack, as 1/255; – where pictures stay as they are",
    "accuracy": "percent, 0 to 100; never an attack success rate",
    "note": "anything else; may be empty",
}
PERCENT = ("clean", "robust", "text_success", "image_success", "accuracy")


def others(path=FOLDER / "others.csv"):
    """Accuracies of other repositories, one row a model and epsilon; columns: `OTHERS`."""
    frame = read(path, OTHERS, once=("source", "architecture", "model", "trained_on", "epsilon"))
    return frame.astype({"data_sets": int})


def retrieval(path=FOLDER / "retrieval.csv"):
    """Success rates of attacks on retrieval, one row an attack; columns: `RETRIEVAL`."""
    return read(path, RETRIEVAL, once=("source", "architecture", "attack", "epsilon"))


def paper(path=FOLDER / "paper.csv"):
    """The paper's own tables, one row an accuracy; columns: `PAPER`. Empty until the file is filled."""
    return read(path, PAPER, once=("table", "row", "task", "trained_on", "shots", "model", "dataset", "attack", "epsilon"))


def read(path, columns, once=()):
    """A file of published numbers as a frame: percentages are numbers, NaN for `–`; all else is text.

    Arguments:
        columns: {name: meaning}, all of them, in any order.
        once: columns whose values together may stand in one row alone.

    Raises `UserError` that names file and line: an unknown or missing column, a value that is missing (`note` may be empty),
    a percentage or epsilon out of range, two rows for one number.
    """
    rows, seen = [], {}
    try:
        with open(path, encoding="utf8", newline="") as file:
            reader = csv.reader(file)
            header = next(reader, [])
            check_header(header, columns, f"{path}, line 1")
            for values in reader:
                where = f"{path}, line {reader.line_num}"
                if len(values) != len(header):
                    raise UserError(
                        f"{where}: {len(values)} values, but {len(header)} columns; put commas inside a value in quotes"
                    )
                row = check_row(dict(zip(header, values, strict=True)), where)
                key = tuple(row[name] for name in once)
                if key in seen:
                    raise UserError(f"{where}: the same number as line {seen[key]}: {', '.join(key)}")
                seen[key] = reader.line_num
                rows.append(row)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: cannot be read ({error})") from error
    frame = pd.DataFrame(rows, columns=list(columns))
    return frame.astype({name: float for name in columns if name in PERCENT})


def check_header(header, columns, where):
    """`UserError` unless the header has each column once and no other."""
    for name in header:
        if name not in columns:
            raise UserError(f"{where}: {unknown('column', name, columns)}")
    for name in columns:
        if header.count(name) != 1:
            raise UserError(f"{where}: column '{name}' {'is missing' if name not in header else 'stands there twice'}")


def check_row(row, where):
    """One row with its percentages as numbers. Raises `UserError` at the first value that cannot be."""
    row = {name: value.strip() for name, value in row.items()}
    for name, value in row.items():
        if not value and name != "note":
            raise UserError(f"{where}: no {name}; write {NOTHING} where a column means nothing")
    for name in [name for name in PERCENT if name in row]:
        row[name] = percentage(row[name], name, where)
    if row["epsilon"] != NOTHING:
        try:
            epsilon = parse_epsilon(row["epsilon"])
        except UserError as error:
            raise UserError(f"{where}: {error}") from error
        if not 0 < epsilon <= 1:
            raise UserError(f"{where}: epsilon {row['epsilon']} is not in (0, 1], pixel units of [0,1]; write 1/255, not 1")
    if "task" in row and row["task"] not in TASKS:
        raise UserError(f"{where}: {unknown('task', row['task'], TASKS)}")
    if "data_sets" in row and not row["data_sets"].isdecimal():
        raise UserError(f"{where}: data_sets is a number, got '{row['data_sets']}'")
    return row


def percentage(text, name, where):
    """A number from 0 to 100; NaN for `–`, which an accuracy of the paper may not be."""
    if text == NOTHING and name != "accuracy":
        return float("nan")
    try:
        value = float(text)
    except ValueError as error:
        raise UserError(f"{where}: {name} is a number in percent, got '{text}'") from error
    if not 0 <= value <= 100:  # nan too
        raise UserError(f"{where}: {name} is in percent, 0 to 100, got {text}")
    return value


def others_table(frame, architecture):
    """Other repositories' accuracies for one architecture, one row a model, a column for each epsilon, as text."""
    part = frame[frame.architecture == architecture]
    keys = ["cite", "trained_on", "data_sets", "protocol", "model", "clean"]
    digits = {cite: places(same[["clean", "robust"]]) for cite, same in part.groupby("cite")}
    rows, epsilons = [], sorted(part.epsilon.unique(), key=parse_epsilon)
    for values, same in part.groupby(keys, sort=False, dropna=False):
        about = dict(zip(keys, values, strict=True))
        robust = dict(zip(same.epsilon, same.robust, strict=True))
        row = {"source": f"{{cite:t}}`{about['cite']}`", "trained on": about["trained_on"], "model": about["model"]}
        row |= {"clean": shown(same.clean.iloc[0], digits[about["cite"]])}
        row |= {epsilon: shown(robust[epsilon], digits[about["cite"]]) if epsilon in robust else "" for epsilon in epsilons}
        notes = dict.fromkeys([about["protocol"], *filter(None, same.note)])
        rows.append(row | {"sets": str(about["data_sets"]), "protocol and notes": "; ".join(notes)})
    return pd.DataFrame(rows)


def retrieval_table(frame):
    """Success rates of attacks on retrieval, as text."""
    rows = [
        {
            "source": f"{{cite:t}}`{row.cite}`",
            "model": row.architecture,
            "data": row.dataset,
            "attack": row.attack,
            "epsilon": row.epsilon,
        }
        | {"sentences": shown(row.text_success, 2), "pictures": shown(row.image_success, 2), "note": row.note}
        for row in frame.itertuples()
    ]
    return pd.DataFrame(rows)


def paper_table(frame):
    """The paper's accuracies, one row a model and data set, a column for each attack and epsilon, as text."""
    keys = ["table", "task", "trained_on", "shots", "model", "dataset"]
    rows = []
    for values, same in frame.groupby(keys, sort=False):
        row = {name.replace("_", " "): value.replace("_", " ") for name, value in zip(keys, values, strict=True)}
        for one in same.itertuples():
            name = one.attack if one.epsilon == NOTHING else f"{one.attack} {one.epsilon}"
            row[name] = f"{row[name]}; {one.accuracy:g}" if name in row else f"{one.accuracy:g}"
        rows.append(row)
    return pd.DataFrame(rows).fillna("")


def columns_table(columns=PAPER):
    """Column and meaning, for whoever fills the file."""
    return pd.DataFrame(
        {"column": map(code, columns), "meaning": [meaning.replace("_", r"\_") for meaning in columns.values()]}
    )


def facts(frame):
    """What the text of the page says of other repositories' numbers, {key: text}; raises `UserError` where a row is missing."""

    def robust(cite, model):
        found = frame[(frame.cite == cite) & (frame.model == model)]
        if len(found) != 1:
            raise UserError(f"published/others.csv: {len(found)} rows for {model} of {cite}, one is needed")
        return found.iloc[0]

    own, later = robust("mao2023tecoa", "TeCoA, fine-tuning"), robust("yu2024tgazsr", "TeCoA")
    return {
        "tecoa_own": shown(own.robust, 2),
        "tecoa_own_on": own.trained_on,
        "tecoa_later": shown(later.robust, 2),
        "tecoa_later_on": later.trained_on,
        "published_rows": str(len(frame)),
        "published_sources": str(frame.source.nunique()),
    }


def places(values):
    """Decimal places that the numbers of one source are printed with: 1, or 2 where one of them needs it."""
    return 2 if (values.round(1) != values).where(values.notna(), False).to_numpy().any() else 1


def shown(value, digits):
    """A percentage with so many decimal places; `–` for none."""
    return NOTHING if pd.isna(value) else f"{value:.{digits}f}"
