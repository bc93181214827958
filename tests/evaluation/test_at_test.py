"""Evaluation through a test-time defence: who attacks, who judges, and what becomes of defences that only hide the gradient."""

import json
from dataclasses import replace

import pandas as pd
import pytest
import torch

from mmcoa.defenses.at_test import AtTest, choose, names
from mmcoa.defenses.at_test._views import straight_through
from mmcoa.errors import UserError
from mmcoa.evaluation.loop import evaluate
from mmcoa.model.loading import create_model
from mmcoa.threat import ThreatModel
from tests.evaluation.test_loop import COLUMNS, assert_same_outcomes

SMALL = {
    "r_tpt": {"views": 6, "neighbours": 3, "kept": 0.4},
    "dbd": {"crops": 3, "noisy": 2, "kept": 4},
    "clipure_cos": {"step_size": 0.01},  # a random model's embeddings lie on the far side of any prompt
}
THREAT = ThreatModel(epsilon="4/255", steps=3)
ADDED = {"defense_at_test", "with_at_test", "adversary", "draws", "accuracy_alone", "dead_gradients", "masked"}
IMAGE = ["image", "image@transfer", "image@adaptive"]
by_name = pytest.mark.parametrize("name", names())


def small(name, **more):
    return choose(name, SMALL.get(name), **more)


def planted(function, form="purify", draws=1, adversary="worst"):
    """A defence made of one function of (model, images, text, generators)."""
    return AtTest(
        "planted", 1, form, choose("clipure_cos").settings, lambda m, x, t, s, g: function(m, x, t, g), adversary, draws
    )


def rounded(x):
    """Pictures at 16 levels a colour."""
    return (x * 15).round() / 15


def by_attack(rows):
    return {row["attack"]: row for row in rows}


@pytest.fixture(scope="module")
def model(tiny_folder):
    """The tiny model in double precision, with the small birds as it names them: all are right."""
    return create_model(tiny_folder, seed=0, name="tiny-clip").eval().double().requires_grad_(False)


@pytest.fixture
def named(model, small_birds):
    """Pictures whose labels are the model's own predictions."""
    with torch.no_grad():
        text = model.encode_text(small_birds.prompts)
        labels = model.logits(small_birds.images.double() / 255, text).argmax(dim=1)
    return replace(small_birds, labels=labels).prefix(12)


@by_name
def test_three_adversaries_and_the_worst_of_two(model, named, name):
    found = evaluate(model, named, ["image"], THREAT, defense=small(name))
    rows, outcomes = by_attack(found), found.outcomes
    assert list(rows) == ["clean", *IMAGE]
    assert [rows[each]["adversary"] for each in rows] == ["", "worst", "transfer", "adaptive"]
    assert all(set(row) == COLUMNS | ADDED and row["defense_at_test"] == name for row in found)
    both = outcomes["image@transfer_correct"] & outcomes["image@adaptive_correct"]
    pd.testing.assert_series_equal(outcomes["image_correct"], both, check_names=False)
    assert rows["image"]["accuracy"] <= min(rows[each]["accuracy"] for each in IMAGE[1:])
    assert len({row["config_hash"] for row in found}) == len(found)
    for each, about in zip(IMAGE, ("worst case of pictures", "made on the model without", "made through"), strict=True):
        assert about in rows[each]["threat_text"] and f"answered through {name}" in rows[each]["threat_text"]
    json.dumps(list(found))
    assert (outcomes["image_prediction"] == outcomes.label)[outcomes["image_correct"]].all()


@by_name
def test_batches_do_not_change_the_outcomes(model, named, name):
    whole, parts = (
        evaluate(model, named, ["image"], THREAT, batch_size=size, defense=small(name)).outcomes for size in (12, 5)
    )
    assert_same_outcomes(whole, parts)


def test_only_the_adversary_who_was_asked_for(model, named):
    for adversary in ("transfer", "adaptive", "published"):
        rows = by_attack(evaluate(model, named, ["image"], THREAT, defense=small("clipure_cos", adversary=adversary)))
        assert list(rows) == ["clean", "image"] and rows["image"]["adversary"] == adversary
        assert (rows["image"]["dead_gradients"] is None) == (adversary != "adaptive")


def test_transfer_pictures_are_those_of_the_model_itself(model, named):
    """A defence that changes nothing: transfer, adaptive and the undefended attack are one."""
    nothing = planted(lambda m, x, t, g: x, draws=1)
    found = evaluate(model, named, ["image", "apgd-ce"], THREAT, defense=nothing).outcomes
    plain = evaluate(model, named, ["image", "apgd-ce"], THREAT).outcomes
    assert 0 < plain["image_correct"].sum() < len(plain)
    for name in ("image", "apgd-ce"):
        for side in ("", "@transfer", "@adaptive"):
            assert (found[f"{name}{side}_correct"] == plain[f"{name}_correct"]).all(), (name, side)


def test_the_judge_draws_by_sample_and_from_no_seed_of_an_adversary(model, named):
    judged, met = [], set()

    def noted(model, images, text, generators):
        seeds = [generator.initial_seed() for generator in generators]
        if len(set(seeds)) == 1:  # an adversary does not know samples apart
            met.update(seeds)
        else:
            judged.append(seeds)
        return images

    evaluate(model, named, ["image"], THREAT, defense=planted(noted, draws=2))
    first, *others = judged
    assert len(set(first)) == len(first) and all(set(seeds) <= set(first) for seeds in others)
    assert len(met) >= 2 * (THREAT.steps + 1) and not met & set(first)


def test_a_defence_that_only_hides_the_gradient_is_masked(model, named):
    hidden = planted(lambda m, x, t, g: rounded(x))
    open_ = planted(lambda m, x, t, g: straight_through(rounded(x), x))
    rows = {
        kind: by_attack(evaluate(model, named, ["image"], THREAT, defense=d))
        for kind, d in (("hidden", hidden), ("open", open_))
    }
    for name in ("image", "image@adaptive"):
        row = rows["hidden"][name]
        assert row["masked"] and row["dead_gradients"] == 100 and row["check"].startswith("masked: 100 %")
        assert not rows["open"][name]["masked"] and rows["open"][name]["dead_gradients"] == 0
    assert not rows["hidden"]["image@transfer"]["masked"] and rows["hidden"]["image@transfer"]["dead_gradients"] is None
    assert rows["open"]["image@adaptive"]["accuracy"] < rows["hidden"]["image@adaptive"]["accuracy"]


def test_a_gradient_that_drowns_in_rounding_is_masked(model, named):
    faint = planted(lambda m, x, t, g: straight_through(x, 1e-18 * x))
    assert by_attack(evaluate(model, named, ["image"], THREAT, defense=faint))["image@adaptive"]["masked"]


def test_better_under_attack_than_without_is_suspicious(model, named):
    def odd(model, images, text, generators):
        """Answers nothing sensible for pictures of 8 bits, which nobody has attacked."""
        eight_bits = ((images * 255 - (images * 255).round()).abs() < 1e-6).flatten(1).all(dim=1)
        return torch.where(eight_bits[:, None], 0.0, model.logits(images, text.features))

    weak = ThreatModel(epsilon="0.1/255", steps=1)
    row = by_attack(evaluate(model, named, ["image"], weak, defense=planted(odd, "scores", adversary="transfer")))["image"]
    assert row["check"].startswith("suspicious: more right under the attack") and row["accuracy_alone"] > row["accuracy"]


def test_published_pictures_have_8_bits(model, named):
    seen = []

    def noted(model, images, text, generators):
        seen.append(images * 255)
        return images

    evaluate(model, named, ["image"], THREAT, defense=planted(noted, adversary="published"))
    assert len(seen) == 2 and all(torch.allclose(images, images.round(), atol=1e-3) for images in seen)
    assert not torch.equal(*seen)
    seen.clear()
    evaluate(model, named, ["image"], THREAT, defense=planted(noted, adversary="transfer"))
    assert not torch.allclose(seen[-1], seen[-1].round(), atol=1e-3)


@pytest.mark.parametrize("name", ["ttc", "r_tpt"])
def test_prompts_and_both_are_attacked_too(model, named, name):
    asked = ["text", "sequential", "multimodal"]
    found = evaluate(model, named, asked, replace(THREAT, steps=1), defense=small(name, draws=1))
    rows = by_attack(found)
    assert "text@transfer" not in rows and {"sequential@adaptive", "multimodal@transfer"} <= rows.keys()
    assert rows["multimodal"]["accuracy"] <= min(rows[each]["accuracy"] for each in asked)
    broken = found.outcomes[~found.outcomes["multimodal_correct"]]
    assert set(broken["multimodal_broken_by"]) <= {"clean", "text", "image", "sequential", "independent"}
    assert rows["text"]["adversary"] == "" and rows["sequential"]["share_changed"] > 0


def test_memory_does_not_grow_with_the_samples(model, named):
    most = []

    def noted(model, images, text, generators):
        most.append(len(images))
        return images

    evaluate(model, named, ["image"], THREAT, batch_size=4, defense=planted(noted))
    assert max(most) == 4


def test_a_killed_evaluation_goes_on(model, named, tmp_path):
    def stop(done):
        raise KeyboardInterrupt

    arguments = (model, named, ["image"], THREAT, 5)
    whole = evaluate(*arguments, defense=small("ttc"))
    with pytest.raises(KeyboardInterrupt):
        evaluate(*arguments, progress=lambda done, total: stop(done), resume=tmp_path / "parts", defense=small("ttc"))
    assert (tmp_path / "parts" / "identity.json").is_file()
    again = evaluate(*arguments, resume=tmp_path / "parts", defense=small("ttc"))
    assert_same_outcomes(whole.outcomes, again.outcomes)


def test_self_checks_of_both_adversaries(model, named):
    found = evaluate(model, named, ["image"], THREAT, check=named.prefix(10), defense=small("clipure_cos"))
    assert {item["attack"] for item in found.checks} == {"pgd@transfer", "pgd@adaptive"}
    assert by_attack(found)["image"]["check_n"] <= 10


def test_what_does_not_go_together_is_one_line(model, named, tiny):
    with pytest.raises(UserError, match="an attack on embeddings does not see through 'clipure_cos'"):
        evaluate(model, named, ["feature"], THREAT, defense=small("clipure_cos"))
    evaluate(model, named, ["feature"], THREAT, defense=small("ttc", draws=1))
    tiny.precision = "bf16"
    with pytest.raises(UserError, match="evaluated in fp32"):
        evaluate(tiny, named, ["image"], THREAT, defense=small("ttc"))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["clipure_cos", "ttc"])
def test_an_adversary_who_knows_the_defence_is_no_weaker(embedded, birds, name):
    rows = by_attack(evaluate(embedded, birds, ["image"], ThreatModel(epsilon="4/255", steps=5), defense=choose(name)))
    assert rows["image@adaptive"]["correct"] <= rows["image@transfer"]["correct"] + 4  # of 42
    assert rows["image"]["accuracy"] <= rows["clean"]["accuracy"]


@pytest.mark.parametrize("form, largest", [("scores", 8), ("purify", 16)])
def test_many_views_of_a_picture_come_few_pictures_at_once(model, named, form, largest):
    """All views of a batch are in one graph: 40 pictures of 64 views, of 128 pixels, took 17 GB."""
    met = []

    def answers(model, images, text, generators):
        met.append(len(images))
        return model.logits(images, text.features) if form == "scores" else images

    twice = replace(named, **{key: torch.cat([getattr(named, key)] * 4) for key in ("images", "labels", "ids")}).prefix(16)
    twice = replace(twice, ids=torch.arange(16))
    evaluate(model, twice, ["image"], THREAT, defense=planted(answers, form))
    assert max(met) == largest
