"""The page about test-time defences: means of what is not masked, from made-up rows and outcomes."""

from dataclasses import replace

import pandas as pd
import pytest

from mmcoa.defenses.at_test import record
from mmcoa.report import at_test, sections

RIGHT = {"clean": 9, "image@transfer": 6, "image@adaptive": 4, "image": 3}  # of 10


@pytest.fixture
def defended(plain):
    """A study whose sweep has a defence on two data sets."""
    rows, samples = [], []
    for dataset in ("openmoji/birds", "openmoji/tools"):
        for attack, right in RIGHT.items():
            adversary = "" if attack == "clean" else attack.partition("@")[2] or "worst"
            row = dict(method="none", model="tiny", dataset=dataset, attack=attack, n=10, accuracy=10.0 * right, check="ok")
            row |= dict(defense_at_test="ttc", adversary=adversary, masked=False, threat_text="made up")
            rows.append(row | {"dead_gradients": 4.0 if adversary in ("adaptive", "worst") else None})
        samples += [
            dict(method="none", dataset=dataset, sample_id=i, label=i % 5) | {f"{a}_correct": i < n for a, n in RIGHT.items()}
            for i in range(10)
        ]
    part = replace(plain, rows=pd.DataFrame(rows), outcomes=pd.DataFrame(samples), sweeps={})
    return replace(plain, sweeps={"at-test": {"ttc": part}})


def test_one_line_a_defence_with_all_three_adversaries(defended):
    (line,) = at_test.table(defended).to_dict("records")
    assert line["at test"] == record("ttc").label and line["n"] == "20" and line["unusable gradients"] == "4 %"
    found = [line[side].split(" (")[0] for side in ("clean", *at_test.SIDES)]
    assert found == ["90.0", "60.0", "40.0", "30.0"] and line["signs"] == "none"
    assert at_test.facts(defended)["at_test_masked"] == "0"


def test_no_mean_uses_a_masked_number(defended):
    part = defended.sweeps["at-test"]["ttc"]
    hidden = (part.rows.dataset == "openmoji/birds") & part.rows.attack.isin(["image", "image@adaptive"])
    part.rows.loc[hidden, "masked"] = True
    part.rows.loc[part.rows.attack == "image@transfer", "check"] = "suspicious: more right under the attack (95 %) than without"
    (line,) = at_test.table(defended).to_dict("records")
    assert line["adaptive"] == line["worst"] == "masked" and line["transfer"].startswith("60.0")
    assert line["signs"].startswith("suspicious: more right") and at_test.facts(defended)["at_test_masked"] == "1"


def test_a_study_without_a_defence_has_no_such_part(plain, defended, tmp_path):
    assert "at-test" not in sections.available(plain, tmp_path) and not at_test.there(plain)
    assert at_test.there(defended)
