"""Few pictures of each class: gains on the data set that a model was trained on, by the number of its pictures."""

import pytest

from mmcoa.report import results, shots


def test_a_row_a_data_set_and_number_of_shots(rich):
    shown, numbers = shots.table(rich)
    assert (shown["data set"] + " " + shown["pictures a class"]).tolist() == ["birds 4", "birds all", "tools all"]
    assert "TeCoA, image" in shown and not any("MMCoA" in name for name in shown)  # which has no few shots here
    for row in numbers.itertuples():
        entry = "tecoa-in" if row.shots == shots.ALL else f"tecoa-{row.shots}shot"
        own, base = (rich.by_sample[name][row.dataset][f"{row.attack}_correct"] for name in (entry, "none"))
        assert row.value == pytest.approx(100 * (own.mean() - base.mean()))
    assert (shown.iloc[:, 3:] != "–").all(axis=None)


def test_what_the_page_says_without_a_number(committed):
    found = shots.numbers(study := results.load("in-distribution", committed))
    places = found.dataset.str.removeprefix("photos/") + " " + found.shots

    def certain(method, attack, sign=1):
        above = (found.low if sign > 0 else -found.high) > 0
        return set(places[(found.method == method) & (found.attack == attack) & above])

    caltech, cifar = {f"caltech101 {each}" for each in (1, 2, 4, 8, 16, "all")}, {f"cifar10 {each}" for each in (8, 16, "all")}
    assert certain("tecoa", "image") == caltech | cifar | {"cifar100 all", "imagenette all"}
    assert certain("mmcoa", "image") == certain("tecoa", "image") | {"flowers102 all"}
    assert certain("mmcoa", "text") == {"cifar10 all", "flowers102 all"} | {f"caltech101 {each}" for each in (1, 2, 4, 8)}
    assert not certain("tecoa", "text") and certain("tecoa", "text", -1) == {"cifar100 all", "imagenette all", "cifar10 1"}
    assert certain("mmcoa", "text", -1) == {"cifar10 1"} and set(shots.curve(study).x) == {1, 2, 4, 8, 16}
    assert {"flowers102 all"} <= certain("mmcoa", "clean") - certain("tecoa", "clean")
