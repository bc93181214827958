"""The page about test-time defences: means of what is not masked, of the study main."""

from dataclasses import replace
from operator import sub

import pytest

from mmcoa.defenses.at_test import record
from mmcoa.report import at_test, results, statistics


def test_one_line_a_model_and_defence_with_all_three_adversaries(main):
    (part,) = main.sweeps["ttc"].values()
    shown, numbers = at_test.table(main)
    assert len(shown) == len(part.methods) > 1 and set(shown["at test"]) == {record("ttc").label}
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
    several = study.sweeps["defences"]
    for defense in ("ttc", "r_tpt", "dbd"):
        gain, left = (value[defense, side] - before for side in ("image, transfer", "image, worst"))
        paired = [statistics.right(several[name], "none", "image") for name in (defense, "none")]
        certain = statistics.known(statistics.together(sub, *paired), over_sets=False).low > 0
        assert (
            gain > 0.9 * before and certain == (defense != "ttc" or not lite) and (left < gain / 2 if lite else left > gain / 2)
        )
        if not lite and defense != "ttc":
            (longer,) = study.sweeps[f"stronger-{defense}"].values()
            right = [statistics.right(one, "none", "image", set(longer.rows.dataset)) for one in (several[defense], longer)]
            assert 0 < statistics.known(statistics.together(sub, *right)).value < 3
    clipure = (value["clipure_cos"] - value["none"]).dropna()
    assert clipure["clean"] < -value["none", "clean"] / 2 if lite else not clipure.any()
    assert both.max() == 0 if lite else (both - both["none"]).max() < 5
    assert not numbers.dead.max() and not numbers.masked.any() and shown.iloc[0]["image, transfer"] == "–"
