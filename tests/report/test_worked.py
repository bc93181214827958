"""The worked example: one picture through the attacks."""

from dataclasses import replace

import numpy as np
import pytest

from mmcoa.report import style, worked, worked_report


@pytest.fixture(scope="module")
def example(study):
    return worked.make(study)


def test_the_rule_takes_the_first_fitting_picture_of_the_middle_data_set(study):
    choice = worked.choose(study)
    rows = study.rows[(study.rows.method == "none") & (study.rows.attack == "sequential")].sort_values(["accuracy", "dataset"])
    own = study.outcomes[(study.outcomes.method == "none") & (study.outcomes.dataset == choice.row["dataset"])]
    broken = own.clean_correct & ~own.image_correct & ~own.text_correct & ~own.sequential_correct
    assert choice.row["dataset"] == rows.dataset.iloc[len(rows) // 2] and choice.sets == len(rows)
    assert choice.sample_id == own.sample_id[broken].iloc[0]
    assert (choice.n, choice.right, choice.fitting) == (len(own), own.clean_correct.sum(), broken.sum())


def test_no_fitting_picture_no_example(study, plain):
    outcomes = study.outcomes.assign(text_correct=study.outcomes.clean_correct)
    assert worked.choose(replace(study, outcomes=outcomes)) is None and not worked.available(replace(study, outcomes=outcomes))
    photographs = study.rows.assign(dataset="photos/cifar10")  # whose pictures the book may not show
    assert worked.choose(replace(study, rows=photographs)) is None
    assert worked.available(plain)


def test_no_example_without_the_weights(study, tmp_path):
    gone = study.rows.assign(base_model=str(tmp_path / "gone"))
    assert worked.choose(replace(study, rows=gone)) is not None and not worked.available(replace(study, rows=gone))


def test_each_condition_changes_what_it_says(example):
    clean, image, text, independent, sequential = example.conditions.values()
    assert list(example.conditions) == list(worked.SHOWN)
    for shown in (image, sequential):
        difference = np.abs(shown.image - clean.image).max()
        assert 0 < difference <= example.threat.epsilon + 1e-6 and shown.image.min() >= 0 and shown.image.max() <= 1
    assert (text.image == clean.image).all() and (independent.image == image.image).all()
    assert image.prompts == clean.prompts != text.prompts == independent.prompts == sequential.prompts
    assert clean.prompts[0] == example.changes.prompt[0] and text.prompts[0] == example.changes.adversarial_prompt[0]
    assert not clean.losses and not text.losses


def test_the_search_is_traced_and_its_best_iterate_shown(example):
    for attack in ("image", "sequential"):
        condition = example.conditions[attack]
        assert len(condition.losses) == len(condition.margins) == example.threat.steps + 1
        assert worked_report.margin_of(condition, example.label) == pytest.approx(max(condition.margins), abs=1e-4)


def test_probabilities_and_cosines(example):
    for condition in example.conditions.values():
        assert condition.probabilities.sum() == pytest.approx(1) and len(condition.top) == worked.TOP
        assert condition.probabilities[condition.top[0]] == condition.probabilities.max()
    unchanged = example.changes.prompt == example.changes.adversarial_prompt
    assert (example.cosines <= 1 + 1e-6).all() and (example.cosines[unchanged.to_numpy()] > 1 - 1e-6).all()


def test_tables_hold_the_right_class_and_every_winner(example):
    table = worked_report.probabilities_table(example)
    assert list(table.columns) == ["class", "logit", "clean", "image", "text", "independent", "sequential"]
    for condition in example.conditions.values():
        assert table["class"].str.removesuffix(" ✓").eq(example.class_names[condition.top[0]]).any()
    prompts = worked_report.prompts_table(example)
    assert list(prompts["class"]) == list(table["class"]) and prompts.iloc[:, 1].str.contains("{.was}", regex=False).all()


def test_phrases(example):
    facts = worked_report.facts(example)
    assert facts["threat"].startswith("ℓ∞ ball of 2/255") and facts["edits"].startswith("replaces “")
    assert facts["cosine"].replace("−", "-") == f"{example.cosines[example.label]:.2f}"
    assert [worked_report.crossed(found) for found in ([-1, -0.5, 0.2], [-1, 0.1], [1, 2], [-1])] == [
        "after 2 steps",
        "after 1 step",
        "at its start",
        "at no step",
    ]


@pytest.mark.parametrize("draw", [worked_report.image_figure, worked_report.bars_figure])
def test_figures_are_the_same_each_time(draw, example, tmp_path):
    first, second = (style.save(draw(example), tmp_path / f"{name}.svg").read_bytes() for name in "ab")
    assert first == second and first.count(b"<image") == (3 if draw is worked_report.image_figure else 5)
