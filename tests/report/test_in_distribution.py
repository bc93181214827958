import dataclasses

import numpy as np
import pytest

from mmcoa.report import few_shot, in_distribution, style
from mmcoa.report.in_distribution import ALL
from mmcoa.report.tables import by_dataset


def test_entries_are_the_models_judged_on_what_they_were_trained_on(rich):
    found = (
        in_distribution.entries(rich)
        .groupby("method")
        .agg(sets=("dataset", "nunique"), models=("model", "nunique"), shots=("shots", "first"))
    )
    assert found.loc["mmcoa-in"].tolist() == [2, 4, ALL] and found.loc["tecoa-4shot"].tolist() == [1, 2, 4]
    assert "mmcoa" not in found.index and "none" not in found.index


def test_full_training_goes_under_the_defences_name(rich):
    part = in_distribution.full(rich)
    assert set(part.methods) == {"none", "tecoa", "mmcoa", "image_only"} and set(part.rows.dataset) == {
        "openmoji/birds",
        "openmoji/tools",
    }
    assert set(part.rows.model[part.rows.method == "mmcoa"]) == {
        f"mmcoa-in-on-openmoji-{name}-seed{seed}" for name in ("birds", "tools") for seed in (0, 1)
    }
    assert set(part.training.method) == {"tecoa", "mmcoa", "image_only"}
    both = in_distribution.common(part)
    assert set(both.methods) == {"none", "tecoa", "mmcoa"}  # image only lacks tools
    assert in_distribution.left_out(part).endswith(" one of the data sets: image only (birds).")


def test_a_defence_judged_on_its_own_training_set_counts_as_well(study):
    part = in_distribution.full(study)  # tecoa and mmcoa trained on birds, which is evaluated
    assert set(part.methods) == {"none", "tecoa", "mmcoa"} and set(part.rows.dataset) == {"openmoji/birds"}


def test_macro_means_and_paired_gains(rich):
    both = in_distribution.common(in_distribution.full(rich))
    means = in_distribution.macro(both).set_index(["method", "attack"])
    gains = in_distribution.macro(both, "none").set_index(["method", "attack"])
    by_set = by_dataset(both).groupby(["method", "attack"]).accuracy.mean()
    for key, row in means.iterrows():
        assert (
            row.accuracy == pytest.approx(by_set[key]) and row.low <= row.accuracy <= row.high and row.n == 48 and row.sets == 2
        )
        assert gains.accuracy[key] == pytest.approx(row.accuracy - means.accuracy["none", key[1]])
    assert means.loc[("mmcoa", "text"), "seeds"] == 2
    assert list(in_distribution.gains_table(both).method) == ["TeCoA", "MMCoA"]


def test_seeds_that_one_data_set_lacks_are_left_out(rich):
    both = in_distribution.common(in_distribution.full(rich))
    lacking = both.outcomes[both.outcomes.model != "mmcoa-in-on-openmoji-tools-seed1"]
    sets = in_distribution.sets_of(dataclasses.replace(both, outcomes=lacking), "mmcoa", "text")
    assert [len(correct) for correct, _ in sets] == [1, 1]


def test_few_shot_curve(rich, tmp_path):
    frame = few_shot.curve(rich)
    assert [(d, s) for d, s in frame[["defense", "shots"]].drop_duplicates().itertuples(index=False)] == [
        ("none", 0), ("tecoa", 1), ("tecoa", 4), ("tecoa", np.inf), ("mmcoa", 1), ("mmcoa", 4), ("mmcoa", np.inf),
    ]  # fmt: skip
    assert set(frame.sets) == {1} and set(frame.n) == {24}  # birds alone has every point
    row = frame[(frame.defense == "mmcoa") & (frame.shots == 4) & (frame.attack == "text")].iloc[0]
    own = rich.outcomes[rich.outcomes.method == "mmcoa-4shot"].text_correct.mean()
    base = rich.outcomes[(rich.outcomes.method == "none") & (rich.outcomes.dataset == "openmoji/birds")].text_correct.mean()
    assert row.accuracy == pytest.approx(100 * own) and row.gain == pytest.approx(100 * (own - base))
    table = few_shot.table(frame)
    assert list(table.shots) == ["–", "1", "4", "all", "1", "4", "all"]
    assert "with 1 shot" in few_shot.says(frame) and "with all pictures" in few_shot.says(frame)
    assert style.save(few_shot.figure(frame), tmp_path / "a.svg").stat().st_size > 5000


def test_nothing_in_distribution(plain):
    none = dataclasses.replace(plain, rows=plain.rows.assign(task="out_of_distribution"))
    assert not in_distribution.there(none) and not in_distribution.few_shot(none)
