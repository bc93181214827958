import dataclasses

import numpy as np
import pandas as pd
import pytest

from mmcoa.errors import UserError
from mmcoa.evaluation.statistics import macro_interval
from mmcoa.report import sweep_facts, sweeps, tables


def test_curve_is_the_macro_mean_of_each_value(study):
    frame = sweeps.curve(study, "epsilon")
    assert list(dict.fromkeys(frame.attack)) == ["image", "sequential"]
    assert list(frame.value[frame.attack == "image"]) == ["1/255", "2/255", "4/255", "8/255"]
    row = frame[(frame.attack == "image") & (frame.value == "4/255")].iloc[0]
    part = study.sweeps["epsilon"]["4/255"]
    assert row.accuracy == pytest.approx(part.rows[part.rows.attack == "image"].accuracy.mean()) and row.n == 36
    table = sweeps.curve_table(study, "epsilon")
    assert list(table) == ["epsilon", "n", "image", "sequential"]
    assert table.image[2] == tables.number(row.accuracy, row.low, row.high)


def test_values_are_in_numerical_order(study):
    parts = study.sweeps["steps"]
    backwards = dataclasses.replace(study, sweeps={"steps": dict(reversed(parts.items()))})
    assert list(sweeps.curve(backwards, "steps").value) == ["1", "5", "10", "50"]
    assert sweeps.threat_text(backwards, "steps") == sweeps.threat_text(study, "steps")


def test_clean_accuracy_is_that_of_the_same_pictures(study):
    sets = [(part[:12], label[:12]) for part, label in tables.correct_by_sample(study, "none", "clean")]
    assert sweeps.clean(study, "epsilon") == macro_interval(sets)


def test_attacks_table(study):
    table = sweeps.attacks_table(study).set_index("attack")
    assert len(table) == 18 and table.index[0] == "clean" and table.index[-1] == "worst case"
    assert table.loc["APGD-DLR targeted", "steps"] == "50 × 9 targets"
    assert table.loc["Square", ["knows", "steps"]].tolist() == ["logits, label", "1,000 queries"]
    assert table.loc["text", ["changes", "steps"]].tolist() == ["prompts", "–"]
    assert table.loc["auto", ["changes", "steps"]].tolist() == ["picture", "as its parts"]
    assert table.loc["clean", "changes"] == "nothing" and table.loc["sequential", "changes"] == "both"


def test_attacks_by_method_are_those_of_the_sweep(study):
    table = sweeps.attacks_methods_table(study)
    assert list(table.columns) == ["attack", "undefended", "MMCoA"] and table.attack.iloc[0] == "clean"
    frame = tables.macro(sweeps.one(study, "attacks"))
    assert len(table) == frame.attack.nunique()
    one = frame[(frame.method == "mmcoa") & (frame.attack == "square")].iloc[0]
    assert table.set_index("attack").loc["Square", "MMCoA"] == tables.number(one.accuracy, one.low, one.high)
    assert sweep_facts.of_sweeps(study)["attacks_seeds"] == "2 training seeds"


def test_steps_with_restarts_and_targets():
    row = pd.Series({"epsilon": 0.01, "steps": 10, "restarts": 5, "targets": 3, "apgd_steps": np.nan, "queries": np.nan})
    assert sweeps.steps_text("pgd", row) == "10 × 3 targets × 5 restarts"
    assert sweeps.steps_text("of my own", row.replace({5: 1, 3: 0})) == "10"
    assert sweeps.steps_text("fgsm", row.mask(row.index != "epsilon")) == "1"


def test_sources_are_compared_pairwise(study):
    table = sweeps.texts_table(study, "source", reference="table:eval")
    assert list(table["candidate source"]) == ["WordNet table, evaluation half", "nearest tokens", "one character"]
    column = "against WordNet table, evaluation half"
    assert table[column][0] == "–"
    parts = study.sweeps["source"]
    gap = parts["neighbours"].rows.accuracy.mean() - parts["table:eval"].rows.accuracy.mean()
    assert table[column][1].startswith(tables.signed(gap))
    assert sweeps.main_source(study) == "table:eval"


def test_reference_defaults_to_the_first_value(study):
    assert "against all content words" in sweeps.texts_table(study, "words", reference="no such value")


def test_threats_of_sweeps(study):
    said = "steps from 1 to 50; at the first of these: ℓ∞ ball of 2/255, 1 steps, 1 starts"
    assert sweeps.threat_text(study, "steps") == said
    assert "candidate source WordNet table, evaluation half, nearest tokens, one character" in sweeps.threat_text(
        study, "source"
    )
    assert sweeps.threat_text(study, "attacks") == "ℓ∞ ball of 2/255, 10 steps, 1 starts; 1 words from table:eval, content"


def test_a_method_that_a_sweep_lacks(study):
    with pytest.raises(UserError, match="sweep 'epsilon' of study 'synthetic' has no attack on method 'tecoa'"):
        sweeps.curve(study, "epsilon", "tecoa")
    with pytest.raises(UserError, match="no text attack"):
        sweeps.texts_table(dataclasses.replace(study, sweeps={"source": study.sweeps["epsilon"]}), "source")


def test_facts_of_sweeps(study, plain):
    found = sweep_facts.of_sweeps(study)
    assert all(isinstance(text, str) and text for text in found.values())
    assert found["missing"] == "none" and found["epsilon_n"] == "36" and found["attacks_count"] == "17"
    assert "never rising on the way" in found["epsilon_says"] and found["edits_budget"] == "at most 2"
    assert found["search_n"] == "36"  # the same pictures in both sweeps
    missing = "all attacks, epsilon, steps, restarts, word budget, candidate source and words that may change"
    assert sweep_facts.of_sweeps(plain) == {"missing": missing}


def test_equals_are_all_named():
    means = pd.DataFrame({"attack": ["pgd", "fgsm", "auto"], "accuracy": [10.0, 20.0, 10.0]})
    assert sweep_facts.strongest(means) == "PGD and auto (10.0 %)"
    table = pd.DataFrame({"candidate source": ["a", "b"], "accuracy": ["30.0 (1–50)", "30.0 (2–40)"]})
    assert sweep_facts.extremes(table) == "all leave 30.0 %"
    table.loc[1, "accuracy"] = "31.5 (2–40)"
    assert sweep_facts.extremes(table) == "a leaves least (30.0 %), b most (31.5 %)"


def test_a_rise_is_said():
    frame = pd.DataFrame({"attack": "image", "value": ["1", "5", "10"], "accuracy": [50.0, 53.0, 40.0]})
    text = sweep_facts.trends("steps", frame)
    assert (
        text == "image from 50 % after 1 step to 40 % after 10 steps, rising by at most 3.0 points from one value to the next"
    )
