"""Cost, versions and studies of the page "Reproduce", of the study main."""

from dataclasses import replace

import pytest

from mmcoa.report import reproduce
from mmcoa.study.profiles import shipped_profiles


def test_cost_and_versions_are_counted_and_a_changed_tree_is_said(main):
    cells, (shown, numbers) = main.cells, reproduce.cost(main)
    assert numbers.cells.sum() == len(cells) and numbers.share.sum() == pytest.approx(100)
    assert reproduce.hours(main) == f"{numbers.minutes.sum() / 60:.1f}"
    rows = shown.assign(median=numbers["median"], minutes=numbers.minutes).set_index("what")
    kinds = {"fine-tuning, MMCoA": (cells.kind == "train") & (cells.entry == "mmcoa")}
    kinds |= {"evaluation, main tables": (cells.kind == "evaluate") & (cells.sweep == "")}
    kinds |= {"evaluation, epsilon": (cells.kind == "evaluate") & (cells.sweep == "epsilon")}
    for what, own in kinds.items():
        minutes = cells.seconds[own] / 60
        assert (rows["median"][what], rows.minutes[what]) == pytest.approx((minutes.median(), minutes.sum()))
        assert (rows.parts[what], rows["minutes each"][what]) == (str(own.sum()), f"{minutes.median():.1f}")
    changed = cells.assign(commit="0123456789", dirty=[True] + [False] * (len(cells) - 1))
    found = reproduce.versions(replace(main, cells=changed))[1].set_index(["what", "is"]).cells
    assert found["commit", "0123456, changed"] == 1 and found["commit", "0123456"] == len(cells) - 1
    assert found["torch"].sum() == found["device"].sum() == len(cells)


def test_every_shipped_study_says_what_it_is_for():
    shown, numbers = reproduce.profiles()
    assert shown.study.tolist() == list(shipped_profiles()) and (shown["what for"].str.len() > 10).all()
    assert numbers.set_index("study").loc["main", "base model"] == "lite-clip"
