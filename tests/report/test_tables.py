"""Tables: each text is the number beside it."""

import re

import pytest

from mmcoa.errors import UserError
from mmcoa.report import tables, tasks


def test_levels_and_gains_print_what_the_numbers_say(rich, folder):
    for make, form in ((tables.levels, "{:.1f}"), (tables.gains, "{:+.1f}")):
        shown, numbers = make(tasks.everywhere(rich))
        row = numbers[(numbers.method == "mmcoa") & (numbers.attack == "image")].iloc[0]
        half, value = (row.high - row.low) / 2, form.format(row.value).replace("-", "−")
        assert shown[shown.method == "MMCoA"].image.iloc[0] in (f"{value} ±{half:.1f}", f"0.0 ±{half:.1f}")
        assert shown.n.iloc[0] == f"{row.n:,}"
    assert list(tables.summary("rich", folder).method) == list(tables.levels(rich, tasks.macro_sets(rich))[0].method)


def test_methods_by_set_has_the_sets_and_the_mean_of_those_that_enter(rich):
    sets = ("openmoji/birds", "openmoji/tools")
    shown, numbers = tables.methods_by_set(tasks.everywhere(rich), "clean", sets)
    assert list(shown)[1:-1] == ["birds", "land vehicles", "tools"] and "undefended" in set(shown.method)
    first = shown[shown.method == "undefended"].iloc[0]
    own = numbers[(numbers.method == "none") & numbers.dataset.isin(sets)]
    assert first["macro mean"].split(" ±")[0] == f"{own.accuracy.mean():.1f}"
    assert first["birds"] == f"{own.accuracy[own.dataset == 'openmoji/birds'].iloc[0]:.1f}"
    assert (own.low < own.accuracy).all() and (own.high > own.low).all()


def test_data_sets_of_one_method(rich):
    shown, numbers = tables.datasets(rich, "none")
    assert len(shown) == 3 and len(numbers) == 3 * len(rich.attacks)
    with pytest.raises(UserError, match="has no method 'fare'; it has: none"):
        tables.datasets(rich, "fare")


def test_a_sweep_has_one_column_a_value(rich):
    shown, numbers = tables.sweep(rich, "epsilon")
    assert list(shown)[3:] == ["1/255", "2/255", "4/255", "8/255"] and set(numbers.x) == {1, 2, 4, 8}
    assert all(re.fullmatch(r"\d+\.\d ±\d+\.\d", text) for text in shown["2/255"])
    assert tables.number("10") == 10 and tables.number("any") != tables.number("any")


def test_trainings_and_checks(rich, plain):
    shown, numbers = tables.trainings(rich)
    assert len(shown) == len(numbers) and shown.loss.str.contains(" to ").all()
    assert tables.trainings(plain)[0].loss.eq("–").all()
    made, every = tables.checks(rich)
    assert made.made.astype(int).sum() == len(every) and made.passed.astype(int).sum() == int(every.passed.sum())
