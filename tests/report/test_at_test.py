"""The page about test-time defences: means of what is not masked, of the study main."""

from dataclasses import replace

import pytest

from mmcoa.defenses.at_test import record
from mmcoa.report import at_test, results


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


@pytest.mark.parametrize("name", ["main", "emoji-at-test"])
def test_defences_side_by_side_are_their_outcomes_and_as_the_page_says(committed, name):
    study, lite = results.load(name, committed), name == "main"
    shown, numbers = at_test.defences(study)
    assert list(shown["at test"]) == ["none", *(record(each).label for each in ("ttc", "r_tpt", "dbd", "clipure_cos"))]
    attacks = {"clean": "clean", "any word": "text", "meaning kept": "text", "image and word, worst": "sequential"}
    attacks |= {"image, worst": "image", "image, transfer": "image@transfer", "image, adaptive": "image@adaptive"}
    same = study.sweeps["defences"]["none"].outcomes.groupby("dataset").sample_id.agg(set)
    for row in numbers.itertuples():
        own = study.sweeps["defences-meaning" if row.side == "meaning kept" else "defences"][row.defense].outcomes
        assert row.value == pytest.approx(100 * own.groupby("dataset")[f"{attacks[row.side]}_correct"].mean().mean())
        assert own.groupby("dataset").sample_id.agg(set).equals(same)  # the same pictures with and without
    value = numbers.set_index(["defense", "side"]).value
    before, both = value["none", "image, worst"], value[:, "image and word, worst"]
    for defense in ("ttc", "r_tpt", "dbd"):
        gain, left = (value[defense, side] - before for side in ("image, transfer", "image, worst"))
        kept = left / gain
        assert gain > 0.9 * before and (kept < (0.25 if defense == "ttc" else 0.5) if lite else kept > 0.65)
    clipure = (value["clipure_cos"] - value["none"]).dropna()
    assert clipure["clean"] < -value["none", "clean"] / 2 if lite else not clipure.any()
    assert both.max() == 0 if lite else (both - both["none"]).max() < 5
    assert not numbers.dead.max() and not numbers.masked.any() and shown.iloc[0]["image, transfer"] == "–"
