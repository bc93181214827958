"""Data sets that means are taken over."""

from dataclasses import replace

from mmcoa.report import tasks


def test_a_mean_out_of_distribution_leaves_out_what_a_method_was_trained_on(plain, rich):
    assert tasks.macro_sets(plain) == ("openmoji/land-vehicles", "openmoji/tools")
    assert tasks.macro_sets(rich) == ("openmoji/land-vehicles",)  # some of its models are trained and judged on the others
    assert tasks.base_set(plain) == "openmoji/birds" and tasks.base_set(rich) == "openmoji/clothing"
    assert tasks.base_set(replace(plain, rows=plain.rows[plain.rows.method == "none"])) == ""
