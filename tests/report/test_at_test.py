"""The page about test-time defences: means of what is not masked, of the study main."""

from dataclasses import replace

import pytest

from mmcoa.defenses.at_test import record
from mmcoa.report import at_test


def test_one_line_a_model_and_defence_with_all_three_adversaries(main):
    (part,) = main.sweeps["ttc"].values()
    shown, numbers = at_test.table(main)
    assert len(shown) == len(part.methods) > 1 and set(shown["at test"]) == {record("ttc").label}
    keys = ["dataset", "sample_id"]
    for method, own in part.outcomes.groupby("method"):
        found = numbers[numbers.method == method].set_index("side").value
        attacks = {"clean": "clean", "worst": "image", "transfer": "image@transfer", "adaptive": "image@adaptive"}
        for side, attack in attacks.items():
            assert found[side] == pytest.approx(100 * own.groupby("dataset")[f"{attack}_correct"].mean().mean())
        first = main.outcomes[main.outcomes.method == method].merge(own[keys].drop_duplicates(), on=keys)  # the same pictures
        for side, attack in {"no defence": "image", "no defence, clean": "clean"}.items():
            assert found[side] == pytest.approx(100 * first.groupby("dataset")[f"{attack}_correct"].mean().mean())
    texts = numbers[numbers.side == "transfer"].value.map("{:.1f}".format)
    assert shown.transfer.str.partition(" ±")[0].tolist() == texts.tolist()


def test_a_masked_number_is_not_printed(main, plain):
    (part,) = main.sweeps["ttc"].values()
    one = (part.rows.dataset == part.rows.dataset[0]) & part.rows.attack.isin(["image", "image@adaptive"])
    masked = replace(part, rows=part.rows.assign(masked=one))
    shown = at_test.table(replace(main, sweeps={"ttc": {"": masked}}))[0]
    assert set(shown.adaptive) == set(shown.worst) == {"masked"} and shown.transfer.str.match(r"\d").all()
    assert at_test.table(plain)[0].empty
