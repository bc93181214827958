"""Which models of a study compare with each other.

A study may hold models that were judged on every data set and others that were judged on the one that they were trained on.
A mean over data sets says nothing where two rows of a table mean two sets of data sets, so each page takes one of these parts:

    tasks.everywhere(study)             # the undefended model and the methods judged on all data sets
    tasks.out_of_distribution(study)    # the same, on the data sets of "out of distribution, macro" (datasets/roles.py)
"""

from dataclasses import replace

from mmcoa.datasets import roles
from mmcoa.errors import UserError

IN = "in_distribution"


def everywhere(study):
    """The `Results` of those methods that were judged on every data set, in its sweeps as well."""
    kept = only(study, judged_everywhere(study))
    sweeps = {
        name: {value: only(part, judged_everywhere(part)) for value, part in parts.items()}
        for name, parts in study.sweeps.items()
    }
    return replace(kept, sweeps=sweeps)


def out_of_distribution(study):
    """`everywhere` on those data sets alone whose means are taken out of distribution (`macro_sets`).

    Raises `UserError` where no data set is left.
    """
    study = everywhere(study)
    sets = set(macro_sets(study))
    if not sets:
        raise UserError(
            f"study '{study.name}' evaluates its models on nothing but what they were trained on, or where they are near "
            f"chance: nothing is out of distribution"
        )
    sweeps = {
        name: {value: only(part, sets=sets) for value, part in parts.items() if sets & set().union(*judged(part).values())}
        for name, parts in study.sweeps.items()
    }
    return replace(only(study, sets=sets), sweeps={name: parts for name, parts in sweeps.items() if parts})


def macro_sets(study):
    """The data sets of "out of distribution, macro" of a study, see `roles.out_of_distribution`."""
    rows = study.rows
    undefended = rows[(rows.method == "none") & (rows.attack == "clean")]
    return roles.out_of_distribution(
        rows.base_model.iloc[0],
        trained_sets(study),
        dict(zip(rows.dataset, rows.classes, strict=True)),
        dict(zip(undefended.dataset, undefended.accuracy, strict=True)),
    )


def trained_sets(study):
    """Data sets that a model of the study was trained on and judged on."""
    return set(study.rows.dataset[study.rows.task == IN])


def judged(study):
    """{method: data sets that it is judged on}."""
    return study.rows.groupby("method", sort=False).dataset.agg(set).to_dict()


def judged_everywhere(study):
    """Methods judged on all data sets: those of the undefended model, or without one of the method that has most."""
    sets = judged(study)
    wanted = sets["none"] if "none" in sets else max(sets.values(), key=len)
    return [name for name, own in sets.items() if wanted <= own]


def only(study, methods=None, sets=None):
    """The `Results` of some methods and data sets (None: all); a method keeps the data sets that the kept methods share."""
    own = {name: there for name, there in judged(study).items() if methods is None or name in methods}
    shared = set.intersection(*own.values()) if own else set()
    kept = shared if sets is None else shared & set(sets)
    rows = study.rows[study.rows.method.isin(own) & study.rows.dataset.isin(kept)]
    return of_rows(study, rows)


def of_rows(study, rows):
    """The `Results` of some of its result rows: everything else about the same models and data sets; without sweeps."""
    keys = set(zip(rows.model, rows.dataset, strict=True))

    def own(frame):
        if not len(frame):
            return frame
        return frame[[pair in keys for pair in zip(frame.model, frame.dataset, strict=True)]].reset_index(drop=True)

    parts = {name: own(getattr(study, name)) for name in ("outcomes", "changes", "checks")}
    for name in ("training", "logs"):
        frame = getattr(study, name)
        parts[name] = frame[frame.model.isin(set(rows.model))].reset_index(drop=True) if len(frame) else frame
    return replace(study, rows=rows.reset_index(drop=True), sweeps={}, **parts)


def base_set(study):
    """The data set that most models of a study were fine-tuned on; an empty text where none was."""
    trained = study.rows.trained_on[study.rows.trained_on != ""]
    return trained.mode().iloc[0] if len(trained) else ""
