"""Few pictures of each class: gains on the data set that a model was trained on, by the number of its pictures."""

import pytest

from mmcoa.report import shots


def test_a_row_a_data_set_and_number_of_shots(rich):
    shown, numbers = shots.table(rich)
    rows = list(zip(shown["data set"], shown["pictures a class"], strict=True))
    assert rows == [("birds", "4"), ("birds", "all"), ("tools", "all")]
    assert "TeCoA, image" in shown and not any("MMCoA" in name for name in shown)  # which has no few shots here
    for row in numbers.itertuples():
        entry = "tecoa-in" if row.shots == shots.ALL else f"tecoa-{row.shots}shot"
        own, base = (rich.by_sample[name][row.dataset][f"{row.attack}_correct"] for name in (entry, "none"))
        assert row.value == pytest.approx(100 * (own.mean() - base.mean()))
    assert (shown.iloc[:, 3:] != "–").all(axis=None)
