import dataclasses
import itertools

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from mmcoa import defenses
from mmcoa.report import curves, figures, schematic, style, summary, tasks, training
from mmcoa.report.names import METHODS


@pytest.mark.parametrize(
    "draw",
    [figures.impact, figures.methods, figures.gains, curves.epsilon, curves.search, curves.budget, curves.heat, curves.hits],
)
def test_figures_of_results(draw, study, tmp_path):
    first, second = (style.save(draw(study), tmp_path / f"{name}.svg").read_bytes() for name in "ab")
    assert first == second  # the same results give the same bytes: a rebuilt book has no spurious changes
    assert len(first) > 5000 and b"<svg" in first


def test_search_has_a_panel_for_each_sweep_there_is(study):
    assert len(curves.search(study).axes) == 2
    only = dataclasses.replace(study, sweeps={"steps": study.sweeps["steps"]})
    (panel,) = curves.search(only).axes
    assert [label.get_text() for label in panel.get_xticklabels()] == ["1", "5", "10", "50"]
    plt.close("all")


def test_schematic(tmp_path):
    assert style.save(schematic.losses(), tmp_path / "losses.svg").stat().st_size > 5000


def test_schematic_of_every_shipped_defence(tmp_path):
    assert set(schematic.DEFENCES) == set(defenses.names())
    for name, (trained, pulled) in schematic.DEFENCES.items():
        assert {{"f": "image", "g": "text"}[letter] for letter in trained} == set(defenses.load(name).TRAINS), name
        assert pulled
    assert style.save(schematic.defences(), tmp_path / "defences.svg").stat().st_size > 5000


def test_methods_are_named_at_the_first_panel_alone(rich):
    for draw in (figures.methods, summary.figure):
        first, *others = draw(tasks.everywhere(rich)).axes
        assert [label.get_text() for label in first.get_yticklabels()] == [
            "MMCoA",
            "image only (equal compute)",
            "image only",
            "TeCoA",
            "undefended",
        ]
        assert not any(label.get_text() for axes in others for label in axes.get_yticklabels())
    plt.close("all")


NAMES = [
    "image_only-matched",
    *(name + ending for name in METHODS if name not in ("none", "tga_zsr") for ending in ("", "-caltech101")),
]  # the most and longest that a study has


def boxes(texts, canvas):
    canvas.canvas.draw()
    return [text.get_window_extent() for text in texts]


def test_the_numbers_of_a_heat_map_with_long_method_names_fit_their_cells(study):
    def as_many(frame):
        other = next(name for name in study.methods if name != "none")
        return pd.concat(
            [frame[frame.method == "none"], *(frame[frame.method == other].assign(method=name) for name in NAMES)],
            ignore_index=True,
        )

    canvas = figures.gains(dataclasses.replace(study, rows=as_many(study.rows), outcomes=as_many(study.outcomes)))
    panel = canvas.axes[0]
    panel.texts[0].set_text("−45")  # a loss as large as studies have
    assert boxes(panel.texts[:1], canvas)[0].width < panel.get_window_extent().width / len(NAMES)


def test_titles_of_loss_panels_stay_apart():
    curve = pd.DataFrame(
        {
            "model": np.repeat(NAMES, 2),
            "method": np.repeat(NAMES, 2),
            "step": [0, 1] * len(NAMES),
            "relative": [1.0, 0.5] * len(NAMES),
        }
    )
    canvas = training.losses(curve)
    titles = boxes([panel.title for panel in canvas.axes], canvas)
    for left, right in itertools.pairwise(titles):
        assert left.x1 < right.x0 or left.y0 > right.y1  # the next one stands beside it, or a row lower
