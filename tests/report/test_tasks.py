"""Tables never mix models that were judged on different data sets."""

import dataclasses

import pytest

from mmcoa.errors import UserError
from mmcoa.report import claim_pairs, claims, tables, tasks
from mmcoa.report.claim_pairs import IN, OUT

EVERYWHERE = {"none", "tecoa", "image_only", "image_only-matched", "mmcoa"}


def test_everywhere_has_the_methods_judged_on_all_data_sets(rich):
    part = tasks.everywhere(rich)
    assert set(part.methods) == EVERYWHERE and {"mmcoa-in", "tecoa-4shot"} <= set(rich.methods)
    assert part.rows.groupby("method").dataset.nunique().eq(3).all()
    assert set(part.outcomes.method) == set(part.changes.method) == set(part.checks.method) == EVERYWHERE
    assert set(part.training.method) == EVERYWHERE - {"none"}
    assert set(part.sweeps["epsilon"]["2/255"].methods) == {"none", "mmcoa", "image_only"}


def test_out_of_distribution_leaves_out_what_a_method_was_trained_on(study, rich):
    part = tasks.out_of_distribution(study)  # trained on birds
    assert set(part.rows.dataset) == {"openmoji/land-vehicles", "openmoji/tools"} and set(part.rows.task) == {
        "zero_shot",
        "out_of_distribution",
    }
    assert all("openmoji/birds" not in set(own.rows.dataset) for parts in part.sweeps.values() for own in parts.values())
    assert set(tasks.out_of_distribution(rich).rows.dataset) == set(tasks.everywhere(rich).rows.dataset)
    only = dataclasses.replace(study, rows=study.rows[study.rows.dataset == "openmoji/birds"])
    with pytest.raises(UserError, match="nothing is out of distribution"):
        tasks.out_of_distribution(only)


def test_macro_means_of_other_data_sets_are_refused(rich):
    with pytest.raises(ValueError, match="no common mean: none has 3 data sets.*mmcoa-in has 2"):
        tables.macro(rich)
    assert set(tables.macro(tasks.everywhere(rich)).n) == {3 * 24}


def test_a_study_without_the_undefended_model_keeps_those_with_most_data_sets(rich):
    rest = tasks.of_rows(rich, rich.rows[rich.rows.method != "none"])
    assert set(tasks.everywhere(rest).methods) == EVERYWHERE - {"none"}


def test_an_attack_counts_where_every_evaluation_has_it(study):
    rows = study.rows[(study.rows.attack != "text") | (study.rows.dataset != "openmoji/tools")]
    part = dataclasses.replace(study, rows=rows)
    assert part.attacks == ["clean", "image", "sequential"]
    assert "text" in set(tables.by_dataset(part).attack) and tables.dataset_table(part).text.iloc[-1] == "–"


def test_claims_pair_in_distribution_with_full_training_only(rich):
    found = claim_pairs.find(rich)
    assert found.defences(OUT) == ["tecoa", "image_only", "mmcoa"]
    assert set(found.pairs["mmcoa", IN]) == {"openmoji/birds", "openmoji/tools"} and set(found.pairs["image_only", IN]) == {
        "openmoji/birds"
    }
    own = rich.outcomes[(rich.outcomes.method == "mmcoa-in") & (rich.outcomes.dataset == "openmoji/birds")]
    assert 100 * own.clean_correct.mean() == pytest.approx(found.pairs["mmcoa", IN]["openmoji/birds"].clean)


def test_image_only_at_equal_compute_is_shown_beside_c4_and_decides_nothing(rich, study):
    def c4(of):
        return next(each for each in claims.judge(of, resamples=100) if each.claim.key == "C4")

    beside = [part for part in c4(rich).parts if "equal compute" in part.name]
    assert (
        len(beside) == 4
        and {part.role for part in beside} == {"shown"}
        and all(part.measured for part in beside if part.attack in rich.attacks)
    )
    assert not any("equal compute" in part.name for part in c4(study).parts)
    found = claim_pairs.find(rich)
    assert found.count == sum(
        len(sets) for key, sets in found.pairs.items() if key[0] != claim_pairs.MATCHED and key != ("none", IN)
    )
