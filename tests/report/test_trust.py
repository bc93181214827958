"""Comparisons with other programs, and with stronger attacks."""

import pytest

from mmcoa.errors import UserError
from mmcoa.report import trust


def test_tables_of_benchmarks(folder):
    shown, numbers = trust.beside_others(folder)
    assert len(shown) == len(numbers) == 2 and shown.difference.tolist() == ["0.0", "+2.0"]
    assert shown["their code"].iloc[0] == "torchattacks 3.5.1"
    assert trust.predictions(folder)[0]["same prediction"].iloc[0] == 500
    assert len(trust.speed(folder)[0]) == 4  # a trial run's is not shown


def test_what_a_stronger_attack_takes(study):
    shown, numbers = trust.stronger(
        study, "attacks", "image" if "image" in study.sweep("attacks")[""].attacks else "pgd", "auto"
    )
    assert list(shown.method) == ["undefended", "MMCoA"] and shown["taken more"].str.startswith(("+", "−", "0.0")).all()


def test_a_missing_table_is_one_line(tmp_path):
    with pytest.raises(UserError, match=r"no readable table .*image\.csv"):
        trust.beside_others(tmp_path)
