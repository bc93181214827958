import dataclasses

import pytest

from mmcoa.errors import UserError
from mmcoa.report import style, tables, tasks, variants


@pytest.fixture(scope="module")
def pair(rich, study):
    return variants.shared(rich, study)


def test_only_what_both_have_is_compared(pair):
    assert all(
        set(part.methods) == {"none", "tecoa", "mmcoa"} and part.attacks == ["clean", "image", "text", "sequential"]
        for part in pair
    )
    assert (
        {*pair[0].rows.dataset} == {*pair[1].rows.dataset} == {"openmoji/land-vehicles", "openmoji/tools"}
    )  # the second was trained on birds


def test_the_difference_is_that_of_the_gains(pair, tmp_path):
    frame = variants.gains(pair).set_index(["method", "attack", "what"]).points
    first, second = variants.names_of(pair)
    for method in ("tecoa", "mmcoa"):
        for attack in ("image", "text"):
            assert frame[method, attack, "difference"] == pytest.approx(
                frame[method, attack, second] - frame[method, attack, first]
            )
    means = tables.macro(pair[0]).set_index(["method", "attack"]).accuracy
    assert frame["mmcoa", "text", first] == pytest.approx(means["mmcoa", "text"] - means["none", "text"])
    assert len(variants.accuracy_table(pair)) == 6 and len(variants.gains_table(variants.gains(pair))) == 6
    assert style.save(variants.figure(pair), tmp_path / "a.svg").stat().st_size > 5000


def test_what_is_said_of_seeds_and_rates_covers_every_method(pair):
    training = pair[1].training.assign(lr=[0.001 if method == "tecoa" else None for method in pair[1].training.method])
    few = training[(training.method == "mmcoa") | (training.seed == 0)]  # tecoa has one seed, mmcoa two
    said = variants.facts((pair[0], dataclasses.replace(pair[1], training=few)), variants.gains(pair))
    first, second = variants.names_of(pair)
    assert said["variant_seeds"].endswith(f"1 to 2 ({second})")
    assert said["variant_rates"].endswith(f"0.001 and the base model's own ({second})")


def test_claims_are_judged_on_both(pair):
    table = variants.claims_table(pair, resamples=200)
    assert list(table[""]) == ["C1", "C2", "C4"]
    assert all(table[f"verdict, {name}"].iloc[0] == "no verdict" for name in variants.names_of(pair))  # too few seeds


def test_nothing_in_common(rich, study):
    other = tasks.of_rows(study, study.rows[study.rows.method != "none"])
    with pytest.raises(UserError, match="share no undefended model"):
        variants.shared(rich, other)
