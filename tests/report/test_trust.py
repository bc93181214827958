"""Comparisons with other programs, and with stronger attacks."""

import pytest

from mmcoa.errors import UserError
from mmcoa.report import trust


def test_tables_of_benchmarks(committed, tmp_path):
    shown, numbers = trust.beside_others(committed)
    for text, own in (("ours", "ours_robust"), ("theirs", "theirs_robust"), ("difference", "difference_points")):
        assert shown[text].str.replace("−", "-").astype(float).to_numpy() == pytest.approx(numbers[own].to_numpy(), abs=0.051)
    assert (shown["their code"] == numbers.implementation + " " + numbers.version.astype(str)).all()
    assert (trust.predictions(committed)[0]["same prediction"] <= trust.predictions(committed)[1].n).all()
    with pytest.raises(UserError, match=r"no readable table .*image\.csv"):
        trust.beside_others(tmp_path)


def test_what_a_stronger_attack_takes(rich):
    shown, numbers = trust.stronger(rich)
    assert list(shown.method) == ["undefended", "MMCoA"]
    own = numbers.set_index(["method", "attack"]).value
    taken = own["none", "image"] - own["none", "auto"]
    assert shown["taken more"].iloc[0].startswith(f"{taken:+.1f} ±")
