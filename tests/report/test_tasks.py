"""Which models of a study compare with each other."""

import dataclasses

import pytest

from mmcoa.errors import UserError
from mmcoa.report import tasks

EVERYWHERE = {"none", "tecoa", "image_only", "image_only-matched", "mmcoa"}


def test_everywhere_has_the_methods_judged_on_all_data_sets(rich):
    part = tasks.everywhere(rich)
    assert set(part.methods) == EVERYWHERE and {"mmcoa-in", "tecoa-4shot"} <= set(rich.methods)
    assert part.rows.groupby("method").dataset.nunique().eq(3).all()
    assert set(part.outcomes.method) == set(part.changes.method) == set(part.checks.method) == EVERYWHERE
    assert set(part.sweeps["epsilon"]["2/255"].methods) == {"none", "mmcoa", "image_only"}


def test_out_of_distribution_leaves_out_what_a_method_was_trained_on(plain, rich):
    study = dataclasses.replace(plain, sweeps=rich.sweeps)  # trained on birds
    part = tasks.out_of_distribution(study)
    assert set(part.rows.dataset) == {"openmoji/land-vehicles", "openmoji/tools"} and tasks.base_set(study) == "openmoji/birds"
    assert all("openmoji/birds" not in set(own.rows.dataset) for parts in part.sweeps.values() for own in parts.values())
    assert set(tasks.out_of_distribution(rich).rows.dataset) == set(tasks.everywhere(rich).rows.dataset)
    only = dataclasses.replace(study, rows=study.rows[study.rows.dataset == "openmoji/birds"])
    with pytest.raises(UserError, match="nothing is out of distribution"):
        tasks.out_of_distribution(only)


def test_a_study_without_the_undefended_model_keeps_those_with_most_data_sets(rich):
    rest = tasks.of_rows(rich, rich.rows[rich.rows.method != "none"])
    assert set(tasks.everywhere(rest).methods) == EVERYWHERE - {"none"}


def test_an_attack_counts_where_every_evaluation_has_it(plain):
    rows = plain.rows[(plain.rows.attack != "text") | (plain.rows.dataset != "openmoji/tools")]
    assert dataclasses.replace(plain, rows=rows).attacks == ["clean", "image", "sequential"]
