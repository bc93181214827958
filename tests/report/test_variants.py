"""Variants of a method against the method: labels say what differs, gains are paired, weights are chosen by their rule."""

import pytest

from mmcoa.report import results, statistics, variants, words


def test_labels_say_what_differs_and_faults_are_told_from_settings(committed):
    found = results.load("ablations", committed)
    labels = {name: variants.label(found, name) for name in found.methods if name != "mmcoa"}
    assert labels["mmcoa-lambda25"] == "weights 0.25 image, 0.75 text" and labels["mmcoa-eps4"] == "training epsilon 4/255"
    assert labels["mmcoa-last1"] == "last block alone" and labels["gradient-leak"] == "gradient leak"
    assert len(set(labels.values())) == len(labels)
    faults = variants.with_fault(found)
    assert sorted(faults) == sorted(name for name in labels if not name.startswith("mmcoa"))
    assert sorted([*faults, *variants.without_fault(found)]) == sorted(labels)
    shown, _ = variants.meanings(found)
    assert shown["what it does"].str.len().min() > 10 and not shown["what it does"].str.contains(r"\(T\d").any()


def test_the_reference_stands_first_and_the_rest_are_gains_on_it(committed):
    found, some = results.load("ablations-photos", committed), ["photos/cifar10", "photos/caltech101"]
    shown, numbers = variants.table(found, variants.without_fault(found), some)
    assert shown.variant[0].startswith("reference") and len(shown) == 1 + len(variants.without_fault(found))
    levels = statistics.levels(found, some).set_index(["method", "attack"]).value
    for row in numbers.itertuples():
        assert row.value == pytest.approx(levels[row.method, row.attack] - levels["mmcoa", row.attack])
    shown, weights = variants.weights(found)
    by_weight = weights.sort_values("image weight")
    assert by_weight.image.is_monotonic_increasing and by_weight.text.is_monotonic_decreasing
    assert len(weights) == 5 and (weights["image weight"] + weights["text weight"] == 1).all()
    own = results.load("main", committed).training.set_index("method")["with"]["mmcoa-own"]
    assert f'"lambda_image": {weights["image weight"][0]:g}' in own and weights["mean"].is_monotonic_decreasing


def test_what_the_page_says_of_an_encoder_that_hides(committed):
    found, main = results.load("ablations-photos", committed), results.load("main", committed)
    sides = variants.sides(found, main)
    _, places = words.in_template(found, sides)
    assert places.set_index("method").loc["mmcoa-text", list(sides)].tolist() == [100, 100]
    assert places.set_index("method").loc[["none", "mmcoa-image"], list(sides)].to_numpy().max() < 5
    usual, adaptive = (variants.under_words(found, sides)[name, "out"] for name in variants.SCORES)
    assert usual["mmcoa-text"] > usual.drop("mmcoa-text").max() + 20 and adaptive["mmcoa-text"] < adaptive["none"]
    gains = {
        side: statistics.gains(found, sets, against="mmcoa").set_index(["method", "attack"]) for side, sets in sides.items()
    }
    assert all(gains[side].value["mmcoa-image", "image"] > 0 for side in sides)
    assert gains["in"].high["mmcoa-text", "image"] < 0 and gains["out"].high["mmcoa-inner1", "image"] < 0
    text = found.rows[(found.rows.attack == "text") & (found.rows.entry == "mmcoa-steps60")]
    text = text.pivot(index="dataset", columns="model", values="accuracy")
    odd = text.index[text["mmcoa-steps60-seed0"] > text.drop(columns="mmcoa-steps60-seed0").max(axis=1) + 15]
    assert set(odd) == {"photos/cifar10", "photos/pacs-photo"}
    inside = words.edits(results.load("in-distribution", committed), "mmcoa-in")
    assert (inside["where"][inside.dataset == "photos/cifar10"] == "template").mean() == 0.5  # as the page In distribution says
