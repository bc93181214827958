import gc
import json
import weakref
from dataclasses import replace

import pandas as pd
import pytest
import torch

import mmcoa
from mmcoa.attacks.catalog import ATTACKS, FIELDS, find
from mmcoa.attacks.multimodal import AGAIN
from mmcoa.attacks.relations import RELATIONS
from mmcoa.datasets import attacker_dataset
from mmcoa.defenses import at_test
from mmcoa.errors import UserError
from mmcoa.evaluation import loop
from mmcoa.evaluation.loop import evaluate
from mmcoa.evaluation.outcomes import Journal
from mmcoa.evaluation.statistics import wilson
from mmcoa.threat import ThreatModel, default_threat

EVERY = ["clean", "image", "fgsm", "text", "independent", "sequential", "multimodal"]
COLUMNS = {
    "model", "defense", "base_model", "trained_on", "task", "role", "dataset", "split", "classes", "attack", "accuracy",
    "correct", "n", "ci_low", "ci_high", "share_changed", "precision", "check", "check_n", "prompts", "transform", "skipped",
    "resize", "train_seed", "attack_seed", "seed", "config_hash", "device", "seconds", "threat", "threat_text", "parts",
    *FIELDS, "share_changeable", "share_fallback", "share_unknown", *(f"share_{relation}" for relation in RELATIONS),
}  # fmt: skip


def assert_same_outcomes(first, second):
    """Everything exactly, but for margins: how a product is summed, and so its last digits, depends on processor and batch."""
    margins = [column for column in first if column.endswith("_margin")]
    pd.testing.assert_frame_equal(first.drop(columns=margins), second.drop(columns=margins))
    pd.testing.assert_frame_equal(first[margins], second[margins], rtol=0, atol=1e-4)  # logits


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


def test_rows_say_what_the_attack_used_of_the_threat_model(evaluation):
    rows = {row["attack"]: row for row in evaluation}
    for row in rows.values():
        assert {name: row[name] for name in row["threat"]} | {"seed": 0} == row["threat"] | {"seed": 0}
        unused = set(FIELDS) - row["threat"].keys() - {"seed"}  # the seed of the call stands in every row
        assert all(row[name] is None for name in unused) and "\n" not in row["threat_text"]
        json.dumps(row["threat"])
    assert rows["clean"]["threat"] == {} and rows["clean"]["threat_text"] == "no attack"
    assert (rows["fgsm"]["steps"], rows["fgsm"]["step_size"], rows["fgsm"]["restarts"]) == (1, rows["fgsm"]["epsilon"], None)
    assert rows["image"]["threat_text"] == "l_inf ball of 1/255 in native pixels, 5 steps of 0.25/255, 1 restart"
    assert rows["text"]["threat_text"] == "one word a prompt from table:eval" and rows["text"]["epsilon"] is None
    both = rows["image"]["threat"] | rows["text"]["threat"]
    assert rows["sequential"]["threat"] == rows["multimodal"]["threat"] == both
    assert rows["multimodal"]["parts"] == "clean, text, image, sequential, independent"
    assert rows["multimodal"]["threat_text"].startswith("worst case of clean, text, image, sequential and independent: ")


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
    whole, parts = (evaluate(tiny, small_birds, attacks, threat, batch_size=size).outcomes for size in (64, batch_size))
    assert_same_outcomes(whole, parts)


@pytest.mark.parametrize("judge", [None, "ttc"])
def test_no_batch_outlives_its_turn(tiny, small_birds, monkeypatch, judge):
    """Not even until the collector comes by: with its pictures a batch is megabytes, and memory would not be flat."""
    made = []
    kept = loop.batch_outcomes
    monkeypatch.setattr(loop, "batch_outcomes", lambda batch, *more: made.append(weakref.ref(batch)) or kept(batch, *more))
    gc.disable()
    try:
        defense = None if judge is None else at_test.choose(judge)
        evaluate(tiny, small_birds, ["clean", "image", "sequential"], ThreatModel(steps=1), batch_size=4, defense=defense)
        assert len(made) > 1 and not any(batch() is not None for batch in made)
    finally:
        gc.enable()


def test_the_same_call_gives_the_same_outcomes_and_another_seed_other_starts(tiny, small_birds):
    first, second = (evaluate(tiny, small_birds, EVERY, ThreatModel(steps=2)) for _ in range(2))
    assert_same_outcomes(first.outcomes, second.outcomes)
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


SMALL = ThreatModel(epsilon="4/255", steps=3, apgd_steps=4, queries=8, targets=2, attacker_images=21)
WEAK = SMALL.changed(epsilon="1/255")  # leaves some of the tiny model's answers standing


@pytest.fixture(scope="module")
def attacker():
    """Train pictures for `joint`, at 16 px."""
    data = attacker_dataset("openmoji/birds", SMALL)
    pixels = torch.nn.functional.interpolate(data.images.float(), size=16, mode="area").round().to(torch.uint8)
    return replace(data, images=pixels)


@pytest.fixture
def answered(tiny, small_birds):
    """`small_birds` labelled with what the tiny model says: samples are there to be broken. Three have its second choice.

    The model is made one of double precision: no outcome hangs on rounding.
    """
    with torch.no_grad():
        tiny.double()
        logits = tiny.logits(small_birds.images.double() / 255, tiny.encode_text(small_birds.prompts))
    first, second = logits.topk(2, dim=1).indices.unbind(dim=1)
    return replace(small_birds, labels=torch.cat([second[:3], first[3:]]))


def test_every_attack_of_the_catalogue_runs_and_none_helps_the_defender(tiny, answered, attacker):
    everything = evaluate(tiny, answered, list(ATTACKS), WEAK, attacker=attacker)
    assert [row["attack"] for row in everything] == list(ATTACKS)
    accuracy = {row["attack"]: row["accuracy"] for row in everything}
    outcomes = everything.outcomes
    turned = [(outcomes[f"{name}_prediction"] == outcomes["label"]) & ~outcomes["clean_correct"] for name in ATTACKS]
    assert pd.concat(turned).any()  # an attack makes a wrong sample right: it counts as wrong all the same
    for name, attack in ATTACKS.items():
        assert (outcomes[f"{name}_correct"] <= outcomes["clean_correct"]).all()
        assert (outcomes[f"{name}_correct"] <= (outcomes[f"{name}_prediction"] == outcomes["label"])).all()
        for part in attack.parts:
            assert (outcomes[f"{name}_correct"] <= outcomes[f"{part}_correct"]).all()
        if attack.parts:
            broken = outcomes[~outcomes[f"{name}_correct"]]
            in_turn = ("clean", *attack.parts)
            assert len(set(broken[f"{name}_broken_by"])) > 2 or len(attack.parts) == 1  # the order of the parts is seen
            first = [next(part for part in in_turn if not sample[f"{part}_correct"]) for _, sample in broken.iterrows()]
            assert broken[f"{name}_broken_by"].tolist() == first
            assert ((outcomes[f"{name}_broken_by"] == "") == outcomes[f"{name}_correct"]).all()
            assert accuracy[name] == pytest.approx(100 * (1 - len(broken) / 21))
    assert accuracy["multimodal"] <= min(accuracy[name] for name in ATTACKS["multimodal"].parts)
    assert (outcomes["pgd_prediction"] == outcomes["image_prediction"]).all()


@pytest.mark.parametrize("name,parts", [("multimodal", 6), ("auto", 3)])
def test_a_worst_case_alone_is_that_of_its_parts(tiny, answered, attacker, name, parts):
    """Asked for alone, each part attacks only what still stands; the outcome must be the same."""
    assert len(ATTACKS[name].parts) == parts
    alone = evaluate(tiny, answered, [name], WEAK, attacker=attacker).outcomes
    together = evaluate(tiny, answered, [*ATTACKS[name].parts, name], WEAK, attacker=attacker).outcomes
    assert alone[f"{name}_correct"].tolist() == together[f"{name}_correct"].tolist()
    every = together[[f"{part}_correct" for part in ATTACKS[name].parts]].all(axis=1)
    assert together[f"{name}_correct"].tolist() == every.tolist()


def test_two_and_three_classes_have_a_guard(tiny, small_birds):
    """Trap I6: no targeted DLR below four classes, no DLR below three; `auto` does without and says so."""
    for classes, parts in ((2, {"apgd-ce", "square"}), (3, {"apgd-ce", "apgd-dlr", "square"})):
        keep = small_birds.labels < classes
        few = replace(
            small_birds, images=small_birds.images[keep], labels=small_birds.labels[keep], ids=small_birds.ids[keep],
            class_names=small_birds.class_names[:classes], prompts=small_birds.prompts[:classes],
        )  # fmt: skip
        rows = evaluate(tiny, few, ["auto"], SMALL)
        assert set(rows.outcomes["auto_broken_by"]) <= {"", "clean", *parts}
        assert "without apgd-dlr-t" in rows.notes[0]
        with pytest.raises(UserError, match="needs 4 classes"):
            evaluate(tiny, few, ["apgd-dlr-t"], SMALL)


def test_one_class_and_one_sample(tiny, small_birds):
    one = replace(small_birds.prefix(1), labels=small_birds.labels[:1] * 0, class_names=["bird"], prompts=["a photo of a bird"])
    rows = evaluate(tiny, one, ["clean", "image", "text", "multimodal"], SMALL)
    assert [row["accuracy"] for row in rows] == [100] * 4  # there is no wrong class


def test_a_killed_evaluation_goes_on_with_the_same_numbers(tiny, small_birds, tmp_path):
    attacks, folder = ["clean", "image", "text", "sequential", "multimodal"], tmp_path / "parts"
    unbroken = evaluate(tiny, small_birds, attacks, SMALL, batch_size=4)
    seen = []

    def die(done, total):
        seen.append(done)
        if len(seen) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate(tiny, small_birds, attacks, SMALL, batch_size=4, progress=die, resume=folder)
    assert len(list(folder.glob("*.npz"))) == 3
    (folder / "000000008-000000012.npz").write_bytes(b"half a file")  # damaged: done again
    went_on = []
    again = evaluate(
        tiny, small_birds, attacks, SMALL, batch_size=4, progress=lambda done, total: went_on.append(done), resume=folder
    )
    assert went_on[0] == 12 and went_on[-1] == 21  # the first eight samples were not attacked again
    assert_same_outcomes(again.outcomes, unbroken.outcomes)
    assert [row["correct"] for row in again] == [row["correct"] for row in unbroken]
    assert not folder.exists()


def test_parts_of_another_evaluation_are_not_read(tiny, small_birds, tmp_path):
    folder = tmp_path / "parts"
    journal = Journal(folder, {"threat": 1})
    journal.add(pd.DataFrame({"sample_id": [0, 1], "word": ["a", "bcd"], "right": [True, False]}), {"image": 1.5})
    again = Journal(folder, {"threat": 1})
    pd.testing.assert_frame_equal(again.outcomes(), journal.outcomes())
    assert again.done == 2 and again.seconds == {"image": 1.5}
    assert Journal(folder, {"threat": 2}).done == 0
    (folder / "thesis.tex").write_text("")
    with pytest.raises(UserError, match="other files"):
        Journal(folder, {"threat": 3})


def test_streamed_pictures_give_the_same_outcomes(embedded, shared_data):
    name = f"wds:{shared_data}/wds_cifar10"
    attacks = ["clean", "image"]
    whole, streamed = (mmcoa.load_dataset(name, samples=40, stream=stream) for stream in (False, True))
    assert whole.fingerprint() == streamed.fingerprint() and not isinstance(streamed.images, torch.Tensor)
    threat = ThreatModel(epsilon="1/255", steps=2)
    frames = [evaluate(embedded, data, attacks, threat, batch_size=16).outcomes for data in (whole, streamed)]
    assert_same_outcomes(*frames)
    assert len(streamed.prefix(7).images[0:7]) == 7


def test_several_epsilons_in_one_call(tiny, small_birds, tmp_path):
    threats = [SMALL.changed(epsilon=value) for value in ("1/255", "8/255")]
    both = evaluate(tiny, small_birds, ["clean", "image"], threats, resume=tmp_path / "parts")
    radii = [row["epsilon"] and round(row["epsilon"] * 255) for row in both]
    assert radii == [None, 1, None, 8] and [row["attack"] for row in both] == ["clean", "image"] * 2
    for threat, index in ((threats[0], 1), (threats[1], 3)):
        alone = evaluate(tiny, small_birds, ["clean", "image"], threat)
        assert alone[1]["correct"] == both[index]["correct"] and alone[1]["config_hash"] == both[index]["config_hash"]
    assert both[3]["correct"] <= both[1]["correct"]
    assert both.outcomes.groupby("epsilon").size().tolist() == [21, 21]


def test_the_reference_preset_is_another_search(tiny, small_birds):
    rows = evaluate(tiny, small_birds, ["image", "pgd-reference"], SMALL)
    assert (rows[0]["keep"], rows[1]["keep"]) == ("best", "last")
    assert rows[1]["step_size"] == pytest.approx(SMALL.epsilon) and rows[0]["step_size"] == pytest.approx(SMALL.epsilon / 4)


def test_bf16_searches_and_fp32_decides(embedded, birds):
    """At most half a point apart (a sample of 42 is 2.4 points: so equal here), and every break holds in fp32."""
    threat = ThreatModel(epsilon="1/255", steps=5)
    exact = evaluate(embedded, birds, ["clean", "image", "sequential"], threat)
    rough = mmcoa.load_model("openmoji-clip", precision="bf16").requires_grad_(False)
    fast = evaluate(rough, birds, ["clean", "image", "sequential"], threat)
    assert [row["precision"].partition(";")[0] for row in fast] == ["", "bf16", "bf16"] and "1 in 16" in fast[1]["precision"]
    assert_same_outcomes(*(rows.outcomes.filter(regex="^clean") for rows in (exact, fast)))
    for a, b in zip(exact, fast, strict=True):
        assert abs(a["correct"] - b["correct"]) <= 1
    pixels = birds.images[:4].float() / 255
    assert rough.encode_image(pixels).dtype == torch.float32
    assert not torch.equal(rough.encode_image(pixels), embedded.encode_image(pixels))
    with pytest.raises(UserError, match="nearest: bf16"):
        mmcoa.load_model("openmoji-clip", precision="bf61")


def test_a_part_of_what_bf16_leaves_standing_is_attacked_in_fp32(embedded, birds, monkeypatch):
    """With a search that finds nothing in bf16, just the samples of that part break, and only those that break in fp32."""
    threat, attack = ThreatModel(epsilon="4/255", steps=3), find("pgd")
    exact = evaluate(embedded, birds, ["pgd"], threat).outcomes
    search = attack.load().attack

    def blind_in_bf16(model, images, *rest):
        return images if model.precision == "bf16" else search(model, images, *rest)

    monkeypatch.setattr(attack.load(), "attack", blind_in_bf16)
    rough = mmcoa.load_model("openmoji-clip", precision="bf16").requires_grad_(False)
    blind = evaluate(rough, birds, ["clean", "pgd"], threat).outcomes
    part = blind.sample_id % AGAIN == 0
    broken = blind.clean_correct & ~blind.pgd_correct
    assert broken.any() and not broken[~part].any() and (blind.pgd_correct == exact.pgd_correct)[part].all()


def test_what_does_not_fit_is_refused(tiny, small_birds):
    with pytest.raises(UserError, match="label 21 is outside 0..20"):
        evaluate(tiny, replace(small_birds, labels=small_birds.labels.clone().fill_(21)), ["clean"])
    with pytest.raises(UserError, match="tokens, more than the"):
        evaluate(tiny, replace(small_birds, prompts=["a photo of a bird " * 30, *small_birds.prompts[1:]]), ["clean"])
    with pytest.raises(UserError, match="train split"):
        evaluate(tiny, small_birds, ["joint"], SMALL)
    with pytest.raises(UserError, match="train split"):
        evaluate(tiny, small_birds, ["text"], replace(SMALL, text_score="margin"))
    rows = evaluate(tiny, small_birds, ["multimodal"], SMALL)
    assert "without joint" in rows.notes[0] and "joint" not in set(rows.outcomes["multimodal_broken_by"])
    grey = replace(small_birds, images=small_birds.images[:, :1])
    with pytest.raises(UserError, match=r"\[N, 3, H, W\]"):
        evaluate(tiny, grey, ["clean"])


def test_bad_input(tiny, small_birds):
    with pytest.raises(UserError, match="nearest: image"):
        mmcoa.evaluate(tiny, small_birds, ["imagee"])
    with pytest.raises(UserError, match="nothing to evaluate"):
        mmcoa.evaluate(tiny, small_birds.prefix(0), ["clean"])
    with pytest.raises(UserError, match="empty list of prompts"):
        tiny.encode_text([])


def test_an_ensemble_of_prompts(tiny, small_birds):
    """The class embedding is the mean over the templates; the text attack changes a word of each; `joint` is left out."""
    others = tuple(f"a drawing of a {name}" for name in small_birds.class_names)
    data = replace(small_birds, ensemble=(tuple(small_birds.prompts), others), prompt_preset="openclip")
    found = mmcoa.evaluate(tiny, data, ["clean", "text", "multimodal"], SMALL, attacker=small_birds)
    images = data.images.float() / 255
    embeddings = torch.stack([tiny.encode_text(data.prompts), tiny.encode_text(others)]).mean(dim=0)
    right = (tiny.encode_image(images) @ (embeddings / embeddings.norm(dim=1, keepdim=True)).T).argmax(dim=1) == data.labels
    assert found.outcomes.clean_correct.tolist() == right.tolist()
    assert found[0]["prompts"] == "openclip"
    prompts = [change["prompt"] for change in found.changes if change["attack"] == "text"]
    assert prompts == [*data.prompts, *others]
    assert [change["class_name"] for change in found.changes] == small_birds.class_names * 2
    assert any("without joint (an ensemble of prompts)" in note for note in found.notes)
    with pytest.raises(UserError, match="with one prompt a class, not an ensemble"):
        mmcoa.evaluate(tiny, data, ["joint"], SMALL, attacker=small_birds)


def test_a_ball_that_is_the_whole_range_is_said(tiny, small_birds):
    """Where papers write 1 they mean 1/255; norms in which it means something else are left alone."""
    notes = evaluate(tiny, small_birds, ["clean", "fgsm"], ThreatModel(epsilon=1)).notes
    assert notes == ["epsilon 1 lets every pixel take any value; where papers say 1 they mean 1/255"]
    assert evaluate(tiny, small_birds, ["fgsm"], ThreatModel(epsilon=1, norm="l2")).notes == []
    assert evaluate(tiny, small_birds, ["clean"], ThreatModel(epsilon=1)).notes == []
