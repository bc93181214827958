import pandas as pd
import pytest
import torch

import mmcoa
from mmcoa.errors import UserError
from mmcoa.evaluation import evaluate
from mmcoa.statistics import wilson
from mmcoa.threat import ThreatModel, default_threat

EVERY = ["clean", "image", "fgsm", "text", "independent", "sequential", "multimodal"]
COLUMNS = {
    "model", "defense", "base_model", "trained_on", "task", "dataset", "split", "classes", "attack", "accuracy", "correct", "n",
    "ci_low", "ci_high", "epsilon", "norm", "step_size", "steps", "restarts", "attacked_space", "candidate_source", "text_budget",
    "share_changed", "resize", "train_seed", "attack_seed", "seed", "config_hash", "device", "seconds", "schema_version",
}  # fmt: skip


@pytest.fixture(scope="module")
def evaluation(embedded, birds):
    return evaluate(embedded, birds, EVERY, ThreatModel(epsilon="1/255", steps=5))


def test_rows_have_every_column_and_agree_with_the_outcomes(evaluation):
    assert [row["attack"] for row in evaluation] == EVERY
    for row in evaluation:
        assert set(row) == COLUMNS
        correct = evaluation.outcomes[f"{row['attack']}_correct"]
        assert row["correct"] == correct.sum() and row["n"] == len(correct) == 42
        assert row["accuracy"] == pytest.approx(100 * correct.mean())
        assert (row["ci_low"], row["ci_high"]) == wilson(row["correct"], row["n"])
        assert row["ci_low"] <= row["accuracy"] <= row["ci_high"]
    assert len({row["config_hash"] for row in evaluation}) == len(EVERY)


def test_attacks_bite_and_the_worst_case_is_the_worst(evaluation):
    accuracy = {row["attack"]: row["accuracy"] for row in evaluation}
    assert accuracy["clean"] > accuracy["image"] and accuracy["clean"] > accuracy["text"]
    assert accuracy["image"] <= accuracy["fgsm"] + 3
    outcomes = evaluation.outcomes
    parts = [outcomes[f"{name}_correct"] for name in ("clean", "image", "text", "independent", "sequential")]
    pd.testing.assert_series_equal(outcomes["multimodal_correct"], pd.concat(parts, axis=1).all(axis=1), check_names=False)


def test_a_sample_wrong_without_attack_is_wrong_under_every_attack(evaluation):
    wrong = ~evaluation.outcomes["clean_correct"]
    for name in EVERY[1:]:
        assert not (evaluation.outcomes[f"{name}_correct"] & wrong).any()


def test_clean_accuracy_is_that_of_plain_open_clip(embedded, birds):
    open_clip = pytest.importorskip("open_clip")
    images, labels = birds.images.float() / 255, birds.labels
    with torch.no_grad():
        z = torch.nn.functional.normalize(embedded.clip.encode_image((images - 0.5) / 0.25), dim=-1)
        t = torch.nn.functional.normalize(embedded.clip.encode_text(embedded.tokenizer(birds.prompts)), dim=-1)
    assert isinstance(embedded.clip, open_clip.CLIP)
    expected = (z @ t.T).argmax(1)
    outcomes = evaluate(embedded, birds, ["clean"]).outcomes
    assert outcomes["clean_prediction"].tolist() == expected.tolist()
    assert outcomes["clean_correct"].tolist() == (expected == labels).tolist()


@pytest.mark.parametrize("batch_size", [1, 7])
def test_batch_size_does_not_change_the_outcomes(tiny, small_birds, batch_size):
    threat = ThreatModel(epsilon="4/255", steps=3)
    attacks = ["clean", "image", "sequential"]
    whole = evaluate(tiny, small_birds, attacks, threat, batch_size=64).outcomes
    pd.testing.assert_frame_equal(whole, evaluate(tiny, small_birds, attacks, threat, batch_size=batch_size).outcomes)


def test_the_same_call_gives_the_same_outcomes_and_another_seed_other_starts(tiny, small_birds):
    first, second = (evaluate(tiny, small_birds, EVERY, ThreatModel(steps=2)) for _ in range(2))
    pd.testing.assert_frame_equal(first.outcomes, second.outcomes)
    other = evaluate(tiny, small_birds, ["image"], ThreatModel(steps=2, seed=1))
    assert other[0]["config_hash"] != first[1]["config_hash"]


def test_the_attacked_space_may_be_the_models(tiny, birds):
    few = birds.prefix(8)
    native, model = (
        evaluate(tiny, few, ["image"], ThreatModel(steps=2, attacked_space=space))[0] for space in ("native", "model")
    )
    assert (native["attacked_space"], model["attacked_space"]) == ("native", "model")
    assert native["config_hash"] != model["config_hash"]


def test_the_task_follows_from_what_the_model_was_trained_on(tiny, small_birds):
    assert evaluate(tiny, small_birds, ["clean"])[0]["task"] == "zero_shot"
    for trained_on, task in (("openmoji/birds", "in_distribution"), ("openmoji/tools", "out_of_distribution")):
        tiny.metadata = {"trained_on": trained_on, "defense": "tecoa", "base_model": "x", "train_seed": 3}
        row = evaluate(tiny, small_birds, ["clean"])[0]
        assert (row["task"], row["defense"], row["train_seed"]) == (task, "tecoa", 3)


def test_text_changes_are_kept(evaluation, birds):
    assert [change["class_name"] for change in evaluation.changes] == birds.class_names
    assert evaluation[3]["share_changed"] > 90 and evaluation[0]["share_changed"] == 0


def test_defaults_belong_to_the_model(embedded, tiny):
    assert default_threat(embedded).epsilon == pytest.approx(2 / 255)
    assert default_threat(tiny).epsilon == pytest.approx(1 / 255)
    assert default_threat(tiny, epsilon="3/255", steps=None).steps == 10


def test_bad_input(tiny, small_birds):
    with pytest.raises(UserError, match="nearest: image"):
        mmcoa.evaluate(tiny, small_birds, ["imagee"])
    with pytest.raises(UserError, match="nothing to evaluate"):
        mmcoa.evaluate(tiny, small_birds.prefix(0), ["clean"])
    with pytest.raises(UserError, match="empty list of prompts"):
        tiny.encode_text([])
