"""The promises of the embedded model and data."""

import json

import pytest

import mmcoa
from mmcoa.datasets import openmoji_names
from mmcoa.model.loading import embedded_folder


@pytest.fixture(scope="module")
def card():
    return json.loads((embedded_folder("openmoji-clip") / "mmcoa.json").read_text())


def test_zero_shot_accuracy_is_what_the_card_says(embedded, card):
    """Unseen views, 100 a data set; the card's figures are over all views."""
    accuracy = {
        name: mmcoa.evaluate(embedded, mmcoa.load_dataset(name, samples=100), ["clean"])[0]["accuracy"]
        for name in openmoji_names()
    }
    macro = sum(accuracy.values()) / len(accuracy)
    assert macro >= 90 and abs(macro - card["macro_accuracy"]) < 2
    assert all(abs(value - card["accuracy"][name]) < 12 for name, value in accuracy.items())


def test_the_held_out_group_was_not_seen(card):
    """Far above chance would mean that its names or glyphs leaked into pre-training."""
    assert card["accuracy"]["openmoji/office"] < 50


def test_both_modalities_leave_room_to_show_effects(embedded):
    """An attack that leaves nothing, or takes nothing, could show no defence: three data sets together."""
    attacks = ["clean", "image", "text", "sequential"]
    rows = [mmcoa.evaluate(embedded, mmcoa.load_dataset(name, samples=24), attacks) for name in openmoji_names()[::5]]
    clean, image, text, both = (sum(r[i]["accuracy"] for r in rows) / len(rows) for i in range(4))
    assert 5 < image < clean - 5 and 5 < text < clean - 5
    assert both < min(image, text)


def test_the_model_card_states_data_licence_and_limits():
    text = (embedded_folder("openmoji-clip") / "README.md").read_text()
    assert all(word in text for word in ("CC BY-SA 4.0", "held out", "seed 0", "minutes on", "Macro mean"))
