"""The self-checks must pass for a sound search and fail for each kind of weak one."""

import json
from dataclasses import replace

import pytest
import torch

from mmcoa.attacks.image import pgd as module
from mmcoa.attacks.pgd import pgd
from mmcoa.evaluation import self_checks as checks
from mmcoa.evaluation.self_checks import self_check, verdict
from mmcoa.threat import ThreatModel

THREAT = ThreatModel(epsilon="2/255", steps=2, apgd_steps=5, queries=20)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(checks, "UNBOUNDED_STEPS", 8)
    monkeypatch.setenv("MMCOA_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_pgd_and_the_text_attack_pass(embedded, birds):
    found = self_check(embedded, birds.prefix(24), "sequential", THREAT)
    assert {item["attack"] for item in found} == {"pgd", "text"}
    assert verdict([item for item in found if item["attack"] == "pgd"]) == "ok", found
    assert all(item["n"] > 20 for item in found) and len(found) == 9
    json.dumps(found)


def test_a_second_call_reads_the_cache(embedded, birds, cache, monkeypatch):
    few = birds.prefix(8)
    first = self_check(embedded, few, "fgsm", THREAT)
    monkeypatch.setattr(checks, "check_image", None)  # computing again would fail
    assert self_check(embedded, few, "fgsm", THREAT) == first
    (path,) = (cache / "checks").iterdir()
    path.write_text("{")
    with pytest.raises(TypeError):  # damaged: computed again
        self_check(embedded, few, "fgsm", THREAT)


def weak(kind):
    """Image attacks that fail in one way each."""

    def attack(model, x, labels, text, threat, ids=None, stop=False):
        if kind == "nothing":
            return x.clone()
        strong = pgd(model, x, labels, text, threat, ids)
        if kind == "fewer is stronger":
            return strong if threat.steps <= THREAT.steps else x.clone()
        if kind == "smaller is stronger":
            return strong if threat.epsilon <= THREAT.epsilon else x.clone()
        return strong

    return attack


@pytest.mark.parametrize(
    "kind,reason",
    [
        ("nothing", "without bound leaves samples right"),
        ("fewer is stronger", "more steps help the defender"),
        ("smaller is stronger", "a larger ball helps the defender"),
    ],
)
def test_a_weak_search_is_suspicious(embedded, birds, monkeypatch, kind, reason):
    monkeypatch.setattr(module, "attack", weak(kind))
    answer = verdict(self_check(embedded, birds.prefix(12), "image", THREAT))
    assert answer.startswith("suspicious: pgd: ") and reason in answer


def test_masked_gradients_are_found(embedded, birds):
    """A model whose input is rounded has no gradient: noise and black-box search are as good as PGD, and no bound helps it."""
    model = type(embedded)(embedded.clip, embedded.tokenizer, "rounded", embedded.config, metadata=embedded.metadata)
    raw = model.encode_image_raw
    model.encode_image_raw = lambda pixels: raw((pixels * 8).round() / 8 + 0 * pixels)
    answer = verdict(self_check(model, birds.prefix(12), "image", THREAT))
    assert answer.startswith("suspicious: pgd: ")


def test_random_words_that_break_more_are_found(embedded, birds, monkeypatch):
    from mmcoa.attacks.text import TextAttack

    monkeypatch.setattr(
        checks, "attack_prompts", lambda model, prompts, *a, **k: TextAttack(list(prompts), [{"changed": False}])
    )
    answer = verdict(self_check(embedded, birds.prefix(24), "text", THREAT))
    assert "random words break more" in answer and "most prompts have no word to change" in answer


def test_rows_carry_the_verdict(tiny, small_birds):
    from mmcoa.evaluation.loop import evaluate

    rows = evaluate(tiny, small_birds, ["clean", "image", "multimodal"], THREAT, check=small_birds)
    assert (rows[0]["check"], rows[0]["check_n"]) == ("", 0)
    assert all(row["check"].startswith(("ok", "suspicious: ")) for row in rows[1:]) and rows.checks
    assert evaluate(tiny, small_birds, ["image"], THREAT)[0]["check"] == "not run"
    assert torch.is_grad_enabled()


def test_no_rows_are_lost_to_a_check(tiny, small_birds, monkeypatch):
    """Neither where no checked sample is right without an attack, nor where a check fails after hours of attacks."""
    from mmcoa.evaluation import loop

    with torch.no_grad():
        images = small_birds.images.float() / 255
        predicted = tiny.logits(images, tiny.encode_text(small_birds.prompts)).argmax(dim=1)
    wrong = replace(small_birds, labels=(predicted + 1) % len(small_birds.prompts))
    names = ["clean", "image", "text", "multimodal"]
    rows = loop.evaluate(tiny, wrong, names, THREAT, check=wrong)
    assert [row["check"] for row in rows] == ["", *3 * ["not possible: no checked sample is right without an attack"]]
    assert rows.checks and not any(item["n"] for item in rows.checks)

    def fails(*given):
        raise RuntimeError("out of memory\nand more")

    monkeypatch.setattr(loop, "self_check", fails)
    rows = loop.evaluate(tiny, small_birds, names, THREAT, check=small_birds)
    assert [row["check"] for row in rows] == ["", *3 * ["not possible: out of memory"]] and len(rows.outcomes) == 21
    assert "self-checks of text: not possible: RuntimeError: out of memory" in rows.notes
