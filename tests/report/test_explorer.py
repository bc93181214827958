"""Rows of the explorer; what a reader can do with them is in tests/browser."""

import json

from mmcoa.report import chart, explorer
from mmcoa.report.names import MACRO


def test_every_row_of_the_evaluation_and_the_sweeps_is_there(study):
    shown = explorer.rows(study)
    assert len(shown) == len(study.rows) + sum(len(part.rows) for values in study.sweeps.values() for part in values.values())
    first, row = shown.iloc[0], study.rows.iloc[0]
    assert (first.accuracy, first.n) == (
        round(row.accuracy, 1),
        row.n,
    ) and first.interval == f"{row.ci_low:.1f}–{row.ci_high:.1f}"
    assert {"undefended", "TeCoA", "MMCoA", "MMCoA, seed 1"} == set(shown.model)
    assert {"main", "epsilon 4/255", "budget 2"} <= set(shown.evaluation)
    of = shown[shown.evaluation == "epsilon 4/255"]
    assert set(of.epsilon) == {"4/255"} and set(shown[shown.attack == "clean"].epsilon) == {""}
    assert not shown.isna().any().any()


def test_levels_of_text_attacks_have_names(study):
    rows = study.rows.assign(text_threat="synonym", words="seen")
    assert {explorer.level(row) for row in rows.itertuples()} == {"synonym, seen"}


def test_the_chart_has_every_method_attack_and_data_set(study):
    found = chart.levels(study)
    assert list(found) == [MACRO, "birds", "land vehicles", "tools"]
    drawn = chart.draw(study, found)
    assert [trace.name for trace in drawn.data] == ["clean", "image", "text", "sequential"]
    sets = json.loads(chart.choices(study, found))
    rows = study.rows[(study.rows.dataset == "openmoji/tools") & (study.rows.attack == "text")]
    shown = sets[3]["x"][2]
    assert dict(zip(drawn.data[2].y, shown, strict=True))["undefended"] == rows[rows.method == "none"].accuracy.item()
    assert all(len(values) == len(study.methods) for one in sets for values in one["x"])
