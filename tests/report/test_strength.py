import dataclasses

import numpy as np
import pandas as pd
import pytest

from mmcoa.errors import UserError
from mmcoa.report import comparisons, strength, strength_facts, sweeps, tables


def test_checks_are_listed_once(study):
    frame = strength.checks(study)
    assert len(study.checks) == 4 * 3 * 4  # models, data sets, checks
    assert len(frame) == 4 * 4
    assert strength.checks(dataclasses.replace(study, checks=study.checks.iloc[:0])).empty


def test_verdicts(study):
    table = strength.verdicts_table(study)
    assert list(table.method[::2]) == ["undefended", "TeCoA", "MMCoA"] and list(table.models[::2]) == ["1", "1", "2"]
    bad = table[table.verdict != "ok"]
    assert bad.to_dict("records") == [
        dict(
            method="MMCoA",
            models="2",
            search="PGD",
            passed="3 of 4",
            n="20",
            verdict="suspicious: more steps help the defender (seed 1)",
        )
    ]
    assert (
        strength.seed_label("mmcoa-in-on-openmoji-land-vehicles-seed1") == "land vehicles, seed 1"
        and strength.seed_label("none") == "base model"
    )


def test_checks_table_says_which_way_a_limit_goes(study):
    table = strength.checks_table(study).set_index("check")
    assert table.loc["twice the steps", ["undefended", "limit", "passed by"]].tolist() == ["11", "at most 12", "3 of 4 models"]
    assert table.loc["prompts changed (%)", ["undefended", "limit"]].tolist() == ["98", "at least 50"]


def test_comparisons(folder):
    table = comparisons.robust_table(folder)
    assert list(table.agrees) == ["yes", "no: 2.0 points above"]
    assert list(table.difference) == ["0.0", "+2.0"] and list(table.norm) == ["ℓ∞", "ℓ2"]
    assert table.ours[0].replace("\u2060", "") == "60.0 (50.2–69.1)"
    assert comparisons.clean_table(folder)["same prediction"].tolist() == ["500"]
    assert comparisons.prompts_table(folder)["candidate source"][0] == "WordNet table, evaluation half"
    facts = strength_facts.of_comparisons(folder)
    assert facts["strength_agree"] == "1 of 2" and facts["strength_worst"] == "+2.0 points (APGD-CE, ℓ2, torchattacks)"
    assert (facts["prompts_same"], facts["prompts_differing"]) == ("41 of 42", "1 differs")


def test_folders_that_are_absent(tmp_path):
    for table in (comparisons.robust_table, comparisons.prompts_table, comparisons.clean_table, comparisons.speed_table):
        assert table(tmp_path).empty
    assert strength_facts.of_comparisons(tmp_path) == strength_facts.of_speed(tmp_path) == {}


def test_damaged_table(tmp_path):
    (tmp_path / "strength").mkdir()
    (tmp_path / "strength" / "image.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match=r"damaged table .*image\.csv"):
        comparisons.robust(tmp_path)


def test_speed(folder):
    table = comparisons.speed_table(folder)
    assert len(table) == 4  # the trial run's file is left out
    assert list(table.ratio) == ["4×", "9×", "–", "1.01×"]
    assert list(table.target) == ["at least 3.5×", "at least 10×", "–", "at most 1.1×"]
    assert strength_facts.of_speed(folder)["speed_met"] == "2 of 3"


@pytest.mark.parametrize(
    ("ratio", "target", "met"),
    [("4", "3.5x", True), ("3", "3.5x", False), ("1.2", "at most 1.1x", False), ("1.0", "at most 1.1x", True), ("4", "", None)],
)
def test_targets(ratio, target, met):
    assert comparisons.target_met(ratio, target) is met


def test_gaps_are_paired_and_counted(study):
    part = sweeps.one(study, "attacks")
    row = strength.gaps(study).query("first == 'auto' and second == 'PGD' and method == 'none'").iloc[0]
    own = part.outcomes[part.outcomes.method == "none"]
    assert row.n == len(own) == 36
    assert row.only_first == (own.pgd_correct & ~own.auto_correct).sum() and row.only_first > 0
    assert row.only_second == (own.auto_correct & ~own.pgd_correct).sum()
    assert row.gap == pytest.approx(row.second_accuracy - row.first_accuracy)
    assert row.low <= row.gap <= row.high


def test_gradient_attacks_count_together(study):
    part = sweeps.one(study, "attacks")
    row = strength.gaps(study).query("first == @strength.UNION and method == 'none'").iloc[0]
    own = part.outcomes[part.outcomes.method == "none"]
    names = [name for name in strength.GRADIENT if name in part.attacks]
    assert len(names) == 5
    union = np.logical_and.reduce([own[f"{name}_correct"] for name in names])
    assert row.only_second == (union & ~own.square_correct).sum()
    assert row.first_accuracy == pytest.approx(100 * union.mean())


def test_seeds_are_averaged_in_gaps(study):
    row = strength.gaps(study).query("first == 'PGD' and second == 'FGSM' and method == 'mmcoa'").iloc[0]
    part = sweeps.one(study, "attacks")
    rows = part.rows[part.rows.method == "mmcoa"].groupby("attack").accuracy.mean()
    assert row.gap == pytest.approx(rows["fgsm"] - rows["pgd"]) and row.n == 36


def test_counts_are_means_over_seeds():
    index = pd.MultiIndex.from_product([["a", "b"], ["set"], [0, 1], [0]], names=strength.SAMPLE)
    first, second = pd.Series([False, True, True, True], index), pd.Series([True, True, False, True], index)
    row = strength.gap_row(first, second)  # seed a: the first alone breaks picture 0; seed b: the second alone
    assert (row["n"], row["gap"], row["only_first"], row["only_second"]) == (2, 0, 0.5, 0.5)
    assert row["first_accuracy"] == row["second_accuracy"] == 75


def test_pairs_that_a_sweep_lacks_are_left_out(study):
    part = sweeps.one(study, "attacks")
    few = dataclasses.replace(part, rows=part.rows[part.rows.attack.isin(["pgd", "fgsm"])])
    found = strength.gaps(dataclasses.replace(study, sweeps={"attacks": {"": few}}))
    assert set(zip(found["first"], found["second"], strict=True)) == {("PGD", "FGSM")}


def test_text_gaps(study):
    frame = strength.text_gaps(study)
    assert list(frame["first"]) == ["nearest tokens", "one character"]
    parts = study.sweeps["source"]
    own = parts["table:eval"].rows.accuracy.mean() - parts["neighbours"].rows.accuracy.mean()
    assert frame.gap[0] == pytest.approx(own)
    table = strength.gaps_table(frame)
    assert table["points more taken"][0].startswith(tables.signed(own))


def test_facts_say_what_the_numbers_say(study, folder, plain, tmp_path):
    found = strength_facts.of_strength(study, folder)
    assert all(isinstance(text, str) and text for text in found.values())
    assert found["checks_says"] == "1 of 16 checks (4 models) does not pass: PGD, more steps help the defender (1 model)"
    good = dataclasses.replace(study, checks=study.checks[study.checks.model != "mmcoa-seed1"])
    assert strength_facts.of_checks(good)["checks_says"] == "all 12 checks pass (3 models)"
    assert set(strength_facts.of_strength(plain, tmp_path)) == {"checks_says", "checks_n"}


@pytest.mark.parametrize(
    ("gaps", "said"),
    [
        ((1.0, 3.0), "1.0 to 3.0 points more"),
        ((-3.0, -1.0), "1.0 to 3.0 points fewer"),
        ((-1.0, 2.0), "between 1.0 points fewer and 2.0 points more"),
        ((2.0, 2.0), "2.0 points more"),
        ((0.01, -0.01), "the same"),
    ],
)
def test_gap_sentences(gaps, said):
    frame = pd.DataFrame({"first": "auto", "second": "PGD", "gap": gaps})
    assert strength_facts.gap_sentences(frame) == f"auto against PGD, {said}"
