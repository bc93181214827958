"""Rows of the explorer; what a reader can do with them is in tests/browser."""

from mmcoa.report import explorer


def test_every_row_of_the_evaluation_and_the_sweeps_is_there(rich):
    shown = explorer.rows(rich)
    assert len(shown) == len(rich.rows) + sum(len(part.rows) for values in rich.sweeps.values() for part in values.values())
    first, row = shown.iloc[0], rich.rows.iloc[0]
    interval = f"{row.ci_low:.1f}–{row.ci_high:.1f}"
    assert (first.accuracy, first.n, first.interval) == (round(row.accuracy, 1), row.n, interval)
    assert {"undefended", "TeCoA", "MMCoA", "MMCoA, seed 1"} <= set(shown.model)
    assert {"main", "epsilon 4/255", "budget 2"} <= set(shown.evaluation)
    assert set(shown[shown.evaluation == "epsilon 4/255"].epsilon) == {"4/255"}
    assert set(shown[shown.attack == "clean"].epsilon) == {""} and not shown.isna().any().any()
    rows = rich.rows.assign(text_threat="synonym", words="seen")
    assert {explorer.level(row) for row in rows.itertuples()} == {"synonym, seen"}
