"""Plots show the numbers that they are given."""

import pytest

from mmcoa.report import plots, statistics, tables, words


def test_a_forest_has_a_panel_an_attack_and_its_values(rich):
    gains = statistics.gains(rich)
    figure = plots.forest({"out of distribution": gains}, ["clean", "image"])
    assert [axes.get_title() for axes in figure.axes] == ["clean", "image"]
    marks = figure.axes[1].containers[0][0].get_xdata()
    assert sorted(marks) == pytest.approx(sorted(gains[gains.attack == "image"].value))


def test_curves_have_a_line_a_method(rich):
    frame = tables.sweep_numbers(rich, "epsilon")
    figure = plots.curves(frame, "x", "epsilon", log=True)
    assert len(figure.axes[0].lines) == frame.method.nunique()
    assert list(figure.axes[0].lines[0].get_xdata()) == [1, 2, 4, 8]


def test_levels_by_set_are_in_order_of_clean_accuracy(rich):
    figure = plots.levels_by_set(rich, ["clean", "image"])
    marks = figure.axes[0].containers[0][0]
    by_row = [x for _, x in sorted(zip(marks.get_ydata(), marks.get_xdata(), strict=True), reverse=True)]
    assert by_row == sorted(by_row, reverse=True)


def test_stacked_bars_end_at_hundred_and_the_trade_off_has_a_mark_a_method(plain, rich):
    figure = plots.stacked(words.shares(plain, combined=("sequential",)), words.KINDS)
    ends = [bar.get_x() + bar.get_width() for bar in figure.axes[0].containers[-1]]
    assert ends == pytest.approx([100] * len(ends))
    figure = plots.tradeoff(statistics.levels(rich), ["image"])
    assert len(figure.axes[0].lines) == 1 + len(rich.methods)  # and the reference's clean accuracy
