"""Tables, those of trust.py and explorer.py too: each text is the number beside it."""

import re

import pytest

from mmcoa.errors import UserError
from mmcoa.report import explorer, tables, tasks, trust


def test_levels_and_gains_print_what_the_numbers_say(rich, folder):
    for make, form in ((tables.levels, "{:.1f}"), (tables.gains, "{:+.1f}")):
        shown, numbers = make(rich)
        row = numbers[(numbers.method == "mmcoa") & (numbers.attack == "image")].iloc[0]
        half, value = (row.high - row.low) / 2, form.format(row.value).replace("-", "−")
        assert shown[shown.method == "MMCoA"].image.iloc[0] in (f"{value} ±{half:.1f}", f"0.0 ±{half:.1f}")
        assert shown.n.iloc[0] == f"{row.n:,}"
    assert list(tables.summary("rich", folder).method) == list(tables.levels(rich, tasks.macro_sets(rich))[0].method)


def test_methods_by_set_has_the_sets_and_the_mean_of_those_that_enter(rich):
    sets = ("openmoji/birds", "openmoji/tools")
    shown, numbers = tables.methods_by_set(rich, "clean", sets)
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


def test_tables_of_benchmarks(committed, tmp_path):
    shown, numbers = trust.beside_others(committed)
    assert len(shown) == len(numbers.groupby(trust.KEYS)) and shown.attacks.astype(int).sum() == len(numbers)
    assert shown.agree.astype(int).sum() == numbers.agrees.sum()
    means = numbers.groupby(trust.KEYS, sort=False).difference_points.mean()
    assert shown["mean difference"].str.replace("−", "-").astype(float).to_numpy() == pytest.approx(means.to_numpy(), abs=0.051)
    most = numbers.loc[numbers.difference_points.idxmax()]  # as the page says
    assert (most.model, most.dataset, most.attack, most.runs) == ("lite-clip", "photos/pacs-photo", "apgd-dlr-t", 6)
    assert (trust.predictions(committed)[0]["same prediction"] <= trust.predictions(committed)[1].n).all()
    with pytest.raises(UserError, match=r"no readable table .*image\.csv"):
        trust.beside_others(tmp_path)


def test_what_a_stronger_attack_takes(rich):
    shown, numbers = trust.stronger(rich)
    assert list(shown.method) == ["undefended", "MMCoA"]
    own = numbers.set_index(["method", "attack"]).value
    taken = own["none", "image"] - own["none", "auto"]
    assert shown["taken more"].iloc[0].startswith(f"{taken:+.1f} ±")


def test_every_row_of_the_evaluation_and_the_sweeps_is_there(rich):
    shown = explorer.rows(rich)
    assert len(shown) == len(rich.rows) + sum(len(part.rows) for values in rich.sweeps.values() for part in values.values())
    first, row = shown.iloc[0], rich.rows.iloc[0]
    assert (first.accuracy, first.n) == (round(row.accuracy, 1), row.n)
    assert first.interval == f"{row.ci_low:.1f}–{row.ci_high:.1f}"
    assert {"undefended", "TeCoA", "TeCoA (4 shots)", "MMCoA", "MMCoA, seed 1"} <= set(shown.model)
    assert {"main", "epsilon 4/255", "budget 2"} <= set(shown.evaluation)
    assert set(shown[shown.evaluation == "epsilon 4/255"].epsilon) == {"4/255"}
    assert set(shown[shown.attack == "clean"].epsilon) == {""} and not shown.isna().any().any()
    rows = rich.rows.assign(text_threat="synonym", words="seen")
    assert {explorer.level(row) for row in rows.itertuples()} == {"synonym, seen"}
