"""The page about test-time defences: means of what is not masked, from made-up rows and outcomes."""

from dataclasses import replace

import pandas as pd
import pytest

from mmcoa.defenses.at_test import record
from mmcoa.report import at_test

RIGHT = {"clean": 9, "image@transfer": 6, "image@adaptive": 4, "image": 3}  # of 10


@pytest.fixture
def defended(plain):
    """A study whose sweep has a defence on two data sets."""
    rows, samples = [], []
    for dataset in ("openmoji/birds", "openmoji/tools"):
        for attack in RIGHT:
            adversary = "" if attack == "clean" else attack.partition("@")[2] or "worst"
            row = dict(method="none", model="tiny", dataset=dataset, attack=attack, n=10)
            row |= dict(defense_at_test="ttc", adversary=adversary, masked=False)
            rows.append(row | {"dead_gradients": 4.0 if adversary in ("adaptive", "worst") else None})
        own = plain.outcomes[(plain.outcomes.method == "none") & (plain.outcomes.dataset == dataset)].head(10)
        samples += [
            dict(method="none", dataset=dataset, sample_id=row.sample_id, label=row.label)
            | {f"{a}_correct": i < n for a, n in RIGHT.items()}
            for i, row in enumerate(own.itertuples())
        ]
    part = replace(plain, rows=pd.DataFrame(rows), outcomes=pd.DataFrame(samples), sweeps={})
    return replace(plain, sweeps={"at-test": {"ttc": part}})


def test_one_line_a_defence_with_all_three_adversaries(defended, plain):
    shown, numbers = at_test.table(defended)
    (line,) = shown.to_dict("records")
    assert line["at test"] == record("ttc").label and line["n"] == "20" and line["unusable gradients"] == "4 %"
    assert [line[side].split(" ±")[0] for side in ("clean", *at_test.SIDES)] == ["90.0", "60.0", "40.0", "30.0"]
    first = plain.outcomes[
        (plain.outcomes.method == "none") & plain.outcomes.dataset.isin(("openmoji/birds", "openmoji/tools"))
    ]
    same = first.groupby("dataset").head(10)  # the very pictures that the defended model has seen
    without = numbers.set_index("side").value
    assert without["no defence"] == pytest.approx(100 * same.image_correct.mean())
    assert without["no defence, clean"] == pytest.approx(100 * same.clean_correct.mean())


def test_a_masked_number_is_not_printed(defended):
    part = defended.sweeps["at-test"]["ttc"]
    part.rows.loc[(part.rows.dataset == "openmoji/birds") & part.rows.attack.isin(["image", "image@adaptive"]), "masked"] = True
    (line,) = at_test.table(defended)[0].to_dict("records")
    assert line["adaptive"] == line["worst"] == "masked" and line["transfer"].startswith("60.0")


def test_a_study_without_a_defence_has_no_line(plain):
    assert at_test.table(plain)[0].empty
