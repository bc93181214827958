import dataclasses

import pandas as pd
import pytest

from mmcoa.errors import UserError
from mmcoa.evaluation.statistics import wilson
from mmcoa.report import facts, names, tables, tasks


def test_impact_table_repeats_the_rows(study):
    table = tables.impact_table(study).set_index("data set")
    assert list(table.columns) == ["classes", "n", "clean", "image", "text", "sequential"]
    assert list(table.index) == ["birds", "land vehicles", "tools", names.MACRO]
    row = study.rows.query("model == 'none' and dataset == 'openmoji/birds' and attack == 'image'").iloc[0]
    assert table.loc["birds", "image"] == tables.number(row.accuracy, row.ci_low, row.ci_high)
    assert tables.number(61.34, 58.2, 64.1).replace("\u2060", "") == "61.3 (58.2–64.1)"
    assert table.loc[names.MACRO, "n"] == str(3 * 24)


def test_macro_is_the_mean_of_the_data_sets(study):
    means = tables.macro(study).set_index(["method", "attack"])
    by_set = tables.by_dataset(study)
    for (method, attack), row in means.iterrows():
        part = by_set[(by_set.method == method) & (by_set.attack == attack)]
        assert row.accuracy == pytest.approx(part.accuracy.mean())
        assert row.low <= row.accuracy <= row.high


def test_seeds_are_averaged(study):
    table = tables.by_dataset(study)
    row = table[(table.method == "mmcoa") & (table.dataset == "openmoji/tools") & (table.attack == "text")].iloc[0]
    seeds = study.rows[
        (study.rows.method == "mmcoa") & (study.rows.dataset == "openmoji/tools") & (study.rows.attack == "text")
    ]
    assert len(seeds) == 2
    assert row.accuracy == pytest.approx(seeds.accuracy.mean())
    assert (row.low, row.high) == pytest.approx(wilson(seeds.correct.mean(), 24))


def test_methods_table_and_summary(study, folder):
    table = tables.methods_table(study)
    assert list(table.method) == ["undefended", "TeCoA", "MMCoA"]
    assert list(table["trained on"]) == ["–", "birds", "birds"]
    assert list(table.seeds) == ["–", "1", "2"]
    summary = tables.summary("synthetic", folder)
    assert list(summary.columns) == ["method", "n", "clean", "image", "text", "sequential"]
    means = tables.macro(tasks.out_of_distribution(study)).set_index(["method", "attack"]).accuracy
    assert summary.set_index("method").loc["MMCoA", "text"] == f"{means['mmcoa', 'text']:.1f}"


def test_what_is_printed_keeps_the_whole_name_of_a_method():
    table = pd.DataFrame(
        [{"method": "MMCoA (4 shots)", "trained on": "birds", "seeds": "3", "n": "40", "clean": "90.0 (80.1–95.2)"}]
    )
    assert tables.short(table).to_dict("records") == [{"method": "MMCoA (4 shots)", "n": "40", "clean": "90.0"}]


def test_gains_are_paired_differences(study):
    means = tables.macro(study).set_index(["method", "attack"]).accuracy
    table = tables.gains_table(study).set_index("method")
    difference = means["mmcoa", "text"] - means["none", "text"]
    assert table.loc["MMCoA", "text"].startswith(tables.signed(difference))


def test_dataset_table_has_each_method_on_each_data_set(study):
    table = tables.dataset_table(study)
    assert list(table.method) == ["undefended", "TeCoA", "MMCoA"] * 3
    assert list(table["data set"][:4]) == ["birds", "birds", "birds", "land vehicles"]  # each row can stand anywhere


def test_all_rows_has_the_sweeps(study, plain):
    rows = tables.all_rows(study)
    assert set(rows.sweep) == {"", *study.sweeps}
    assert len(rows) == len(study.rows) + sum(len(part.rows) for parts in study.sweeps.values() for part in parts.values())
    assert len(tables.all_rows(plain)) == len(plain.rows)


def test_signed():
    assert [tables.signed(value) for value in (3.14, -3.14, -0.01)] == ["+3.1", "−3.1", "0.0"]


def test_unlisted_names_come_last():
    assert names.ordered(["zeta", "mmcoa", "alpha", "none", "mmcoa"], names.METHODS) == ["none", "mmcoa", "alpha", "zeta"]
    assert names.method_label("alpha") == "alpha"
    shots = ["mmcoa-16shot", "none", "leaf", "mmcoa-2shot", "mmcoa", "image_only-matched"]
    assert names.ordered(shots, names.METHODS) == ["none", "leaf", "image_only-matched", "mmcoa", "mmcoa-2shot", "mmcoa-16shot"]
    assert [names.method_label(name) for name in shots[::5]] == ["MMCoA (16 shots)", "image only (equal compute)"]
    assert names.method_label("mmcoa-lambda25") == "MMCoA (lambda25)"


def test_report_needs_the_undefended_model(study):
    rows = study.rows[study.rows.method != "none"]
    with pytest.raises(UserError, match="needs method 'none'.*mmcoa run synthetic"):
        tables.impact_table(dataclasses.replace(study, rows=rows))


def test_facts_are_texts_read_from_results(study):
    found = facts.of_study(study) | facts.of_impact(study) | facts.of_finetuning(study)
    assert all(isinstance(text, str) and text for text in found.values())
    assert found["profile"] == "synthetic" and found["n_each"] == "24" and found["n_all"] == "72" and found["models"] == "4"
    assert "2/255" in found["threat"] and "table:eval" in found["threat"]
    mean = tables.macro(study).set_index(["method", "attack"]).accuracy["none", "image"]
    assert found["macro_image"].startswith(f"{mean:.1f} (")


def test_nothing_trained(study):
    with pytest.raises(UserError, match="trains nothing"):
        facts.of_finetuning(dataclasses.replace(study, training=study.training.iloc[:0]))


def test_numbers_lie_beside_a_table_of_text(study, tmp_path):
    numbers = tables.macro(study)
    tables.write(tables.methods_table(study), tmp_path / "tables" / "methods.csv", numbers)
    read = pd.read_csv(tmp_path / "tables" / "methods_numbers.csv")
    assert read.accuracy.tolist() == pytest.approx(numbers.accuracy.tolist()) and {"low", "high", "n"} <= set(read)
