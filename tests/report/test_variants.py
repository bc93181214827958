"""Variants of a method against the method: labels say what differs, gains are paired."""

import pytest

from mmcoa.report import results, statistics, variants


@pytest.fixture(scope="module")
def found(committed):
    return results.load("ablations", committed)


def test_labels_say_what_differs_and_faults_are_told_from_settings(found):
    labels = {name: variants.label(found, name) for name in found.methods if name != "mmcoa"}
    assert labels["mmcoa-lambda25"] == "weights 0.25 image, 0.75 text" and labels["mmcoa-eps4"] == "training epsilon 4/255"
    assert labels["mmcoa-last1"] == "last block alone" and labels["gradient-leak"] == "gradient leak"
    assert len(set(labels.values())) == len(labels)
    faults = variants.with_fault(found)
    assert faults == [name for name in labels if not name.startswith("mmcoa")]
    assert [*faults, *variants.without_fault(found)] == sorted(labels, key=lambda name: name not in faults)
    shown, _ = variants.meanings(found)
    assert shown["what it does"].str.len().min() > 10 and not shown["what it does"].str.contains(r"\(T\d").any()


def test_the_reference_stands_first_and_the_rest_are_gains_on_it(found):
    shown, numbers = variants.table(found, variants.without_fault(found))
    assert shown.variant[0].startswith("reference") and len(shown) == 1 + len(variants.without_fault(found))
    levels = statistics.levels(found).set_index(["method", "attack"]).value
    for row in numbers.itertuples():
        assert row.value == pytest.approx(levels[row.method, row.attack] - levels["mmcoa", row.attack])
