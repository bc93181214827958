"""Data sets that means are taken over."""

from dataclasses import replace

import pandas as pd

from mmcoa.report import tasks


def test_a_mean_out_of_distribution_leaves_out_what_a_method_was_trained_on(plain, rich):
    assert tasks.macro_sets(plain) == ("openmoji/land-vehicles", "openmoji/tools")
    assert tasks.macro_sets(rich) == ("openmoji/land-vehicles",)  # some of its models are trained and judged on the others
    assert tasks.base_set(plain) == "openmoji/birds" and tasks.base_set(rich) == "openmoji/clothing"
    assert tasks.base_set(replace(plain, rows=plain.rows[plain.rows.method == "none"])) == ""


def test_training_seeds_are_compared_on_macro_means(plain):
    rows = plain.rows[(plain.rows.method == "tecoa") & (plain.rows.dataset != "openmoji/birds")]
    twice = [rows.assign(train_seed=seed, accuracy=rows.accuracy + shift) for seed, shift in ((0, 0.0), (1, 3.0))]
    apart = tasks.between_seeds(replace(plain, rows=pd.concat([plain.rows[plain.rows.method == "none"], *twice])))["out"]
    assert set(apart.index) == {("tecoa", name) for name in rows.attack} and (apart.round(6) == 3).all()
