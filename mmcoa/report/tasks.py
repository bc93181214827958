"""Over which data sets of a study means are taken: a mean says nothing where two rows of a table mean two sets of data sets.

tasks.macro_sets(study)    # those of "out of distribution, macro" (datasets/roles.py)
tasks.base_set(study)      # in distribution: the one that most models were fine-tuned on
"""

import pandas as pd

from mmcoa.datasets import roles

IN = "in_distribution"


def macro_sets(study):
    """The data sets of "out of distribution, macro" of a study, see `roles.out_of_distribution`."""
    rows = study.rows
    undefended = rows[(rows.method == "none") & (rows.attack == "clean")]
    return roles.out_of_distribution(
        rows.base_model.iloc[0],
        set(rows.dataset[rows.task == IN]),  # of these some model has met the training pictures
        dict(zip(rows.dataset, rows.classes, strict=True)),
        dict(zip(undefended.dataset, undefended.accuracy, strict=True)),
    )


def base_set(study):
    """The data set that most models of a study were fine-tuned on; an empty text where none was."""
    trained = study.rows.trained_on[study.rows.trained_on != ""]
    return trained.mode().iloc[0] if len(trained) else ""


def between_seeds(study):
    """Points of macro accuracy between the best and the worst training seed of a method, Series by (task, method, attack)."""
    found = {}
    for task, sets in (("out", macro_sets(study)), ("in", (base_set(study),))):
        rows = study.rows[study.rows.dataset.isin(sets) & (study.rows.method != "none")]
        each = rows.groupby(["method", "attack", "train_seed"]).accuracy.mean().groupby(level=["method", "attack"])
        found[task] = (each.max() - each.min())[each.size() > 1]
    return pd.concat(found)
