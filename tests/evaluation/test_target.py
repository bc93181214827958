"""Attacks that lead every picture to one class, and what rows say of where they end."""

from dataclasses import replace

import pytest
import torch

from mmcoa.attacks.catalog import ATTACKS, find
from mmcoa.attacks.losses import margin
from mmcoa.defenses.at_test import choose
from mmcoa.errors import UserError
from mmcoa.evaluation.loop import evaluate
from mmcoa.threat import ThreatModel

AIMED = [name for name, attack in ATTACKS.items() if attack.image == name and {"target", "epsilon"} <= {*attack.uses}]
THREAT = ThreatModel(epsilon="6/255", steps=6, apgd_steps=8)


@pytest.fixture
def case(tiny, small_birds):
    """(model in double precision, data set labelled with its answers, name of its rarest class)."""
    tiny.double()
    with torch.no_grad():
        logits = tiny.logits(small_birds.images.double() / 255, tiny.encode_text(small_birds.prompts))
    labels = logits.argmax(dim=1)
    wrong = (labels + (torch.arange(len(labels)) % 4 == 0)) % len(small_birds.prompts)  # a quarter is wrong without an attack
    present, count = wrong.unique(return_counts=True)
    return tiny, replace(small_birds, labels=wrong), small_birds.class_names[present[count.argmin()]]


@pytest.mark.parametrize("name", AIMED)
@pytest.mark.parametrize("norm,epsilon", [("linf", 4 / 255), ("l2", 0.3)])
def test_a_picture_is_led_to_the_class_and_its_own_stay(case, name, norm, epsilon):
    model, data, target = case
    images, text = data.images.double() / 255, model.encode_text(data.prompts)
    threat = THREAT.changed(epsilon=epsilon, norm=norm, target=target).aimed(data.class_names)
    goal = torch.full_like(data.labels, threat.target)

    def nearer(adversarial):
        """How far the class leads over all others, [N]."""
        with torch.no_grad():
            return -margin(model.logits(adversarial, text), goal)

    attack = find(name).load().attack
    found = attack(model, images, data.labels, text, threat, data.ids)
    untargeted = attack(model, images, data.labels, text, threat.changed(target=None), data.ids)
    own = data.labels == threat.target
    assert 0 < own.sum() < len(own) and torch.equal(found[own], images[own])
    noise = (images + epsilon * torch.randn(images.shape, generator=torch.Generator().manual_seed(0)).sign()).clamp(0, 1)
    assert (nearer(found) > nearer(noise if norm == "linf" else images))[~own].all()
    assert nearer(found)[~own].mean() > nearer(untargeted)[~own].mean() + 0.05  # logits; a tenth of what there is
    assert (
        nearer(attack(model, images, data.labels, text, threat.changed(restarts=2), data.ids)).sub(nearer(found)).min() > -1e-6
    )
    one = torch.cat([attack(model, images[i], data.labels[i], text, threat, data.ids[i]) for i in torch.arange(21).split(5)])
    torch.testing.assert_close(one, found, atol=1e-7, rtol=0)
    stopped = attack(model, images, data.labels, text, threat, data.ids, stop=True)
    assert torch.equal(nearer(stopped) > 1e-3, nearer(found) > 1e-3)


def test_rows_say_the_target_and_how_many_end_there(case):
    model, data, target = case
    number, names = data.class_names.index(target), ["clean", "image", "fgsm", "sequential", "multimodal"]
    found = evaluate(model, data, names, THREAT.changed(target=target), check=data)
    rows, outcomes = {row["attack"]: row for row in found}, found.outcomes
    others = outcomes[outcomes.label != number]
    for name in ("image", "sequential"):
        assert rows[name]["target"] == target and f"aimed at the class '{target}'" in rows[name]["threat_text"]
        assert rows[name]["target_rate"] == pytest.approx(100 * (others[f"{name}_prediction"] == number).mean())
        assert rows[name]["target_rate_clean"] == pytest.approx(100 * (others.clean_prediction == number).mean())
        assert rows[name]["targets"] is None
    assert rows["image"]["target_rate"] > max(60, rows["image"]["target_rate_clean"])
    wrong = others[~others.clean_correct]  # counted as wrong, and led to the class all the same
    assert len(wrong) and (wrong.image_prediction == number).mean() > 0.5 and not wrong.image_correct.any()
    assert rows["image"]["check"] == "ok" and rows["fgsm"]["target"] is None
    assert all(rows[name]["target_rate"] is None for name in ("clean", "fgsm", "multimodal"))
    plain = {row["attack"]: row for row in evaluate(model, data, names, THREAT)}
    assert "target_rate" not in plain["image"] and plain["image"]["target"] is None and "target" not in plain["image"]["threat"]
    for name in ("clean", "fgsm"):  # what does not aim asks the same question as without a target
        assert (
            rows[name]["config_hash"] == plain[name]["config_hash"] and rows[name]["threat_text"] == plain[name]["threat_text"]
        )
    assert rows["image"]["config_hash"] != plain["image"]["config_hash"]


def test_of_two_adversaries_either_may_lead_there(case):
    model, data, target = case
    model.float()
    found = evaluate(model, data, ["image"], THREAT.changed(target=target), defense=choose("ttc", {"steps": 1}, "worst"))
    rates = {row["attack"]: row["target_rate"] for row in found}
    assert 0 < max(rates["image@transfer"], rates["image@adaptive"]) <= rates["image"] <= 100


def test_mistakes_are_one_line(case):
    model, data, target = case
    with pytest.raises(UserError, match=rf"unknown target class '{target[:-1]}'; nearest: .*{target}"):
        evaluate(model, data, ["image"], THREAT.changed(target=target[:-1]))
    with pytest.raises(UserError, match="no attack here leads to a target class; those that do: image, pgd"):
        evaluate(model, data, ["clean", "square", "text"], THREAT.changed(target=target))
    with pytest.raises(UserError, match="leave one of them out"):
        THREAT.changed(target=target, targets=2)


def test_no_target_is_no_part_of_what_work_is_made_of():
    assert "target" not in THREAT.asdict() and THREAT.changed(target="kiwi").asdict()["target"] == "kiwi"
    assert find("apgd-dlr-t").settings(THREAT)["targets"] == 9
    aimed = find("apgd-dlr-t").settings(THREAT.changed(target="kiwi"))
    assert aimed["target"] == "kiwi" and "targets" not in aimed
    assert find("fab-t").settings(THREAT.changed(target="kiwi"))["targets"] == 9
