"""Learning rates are chosen by held-out pictures of the training set, and said with what the choice rests on."""

import dataclasses
from pathlib import Path

import pandas as pd
import pytest

from mmcoa.report import learning_rates

RESULTS = Path(__file__).parents[2] / "results"


@pytest.fixture
def tuned():
    """TeCoA does better at the high rate over its two seeds, FARE does equally well at both."""
    rows = [("tecoa", 1e-4, 0, 30), ("tecoa", 1e-4, 1, 10), ("tecoa", 1e-3, 0, 20), ("tecoa", 1e-3, 1, 24)]
    rows += [("fare", 1e-4, 0, 8), ("fare", 1e-3, 0, 8)]
    frame = pd.DataFrame(rows, columns=["defense", "lr", "seed", "final_robust"])
    return learning_rates.measured(frame.assign(final_clean=80.0, final_image=40.0, final_text=20.0, held_out_samples=64))


def test_the_rate_of_the_largest_mean_over_seeds_is_chosen(tuned):
    assert learning_rates.chosen(tuned) == {"tecoa": 1e-3, "fare": 1e-4}  # of equal ones the smaller
    table = learning_rates.table(tuned).set_index("method")
    assert table.loc["TeCoA", "0.001"] == "40.5 * (80, 22)" and table.loc["TeCoA", "0.0001"] == "40.0 (80, 20)"
    assert table.loc["TeCoA", "seeds"] == "2" and table.loc["FARE", "n"] == "64"


def test_mmcoa_and_its_rival_of_claim_c4_are_studied_at_their_chosen_rate(study):
    """The study fine-tunes with the base model's own rate; the page says for which methods another one was chosen."""
    same = dataclasses.replace(study, rows=study.rows.assign(base_model="openmoji-clip"))
    best = learning_rates.chosen(learning_rates.measured(learning_rates.trained(same, RESULTS)))
    assert best["mmcoa"] == best["image_only"] == 3e-4
    assert set(best) == {"clean", "tecoa", "fare", "pmg_aft", "text_only", "image_only", "mmcoa", "leaf"}


def test_another_base_model_has_no_tuning(study, tmp_path):
    assert learning_rates.trained(study, RESULTS).empty and learning_rates.trained(study, tmp_path).empty


def test_what_the_page_says(tuned, study):
    found = learning_rates.facts(study, tuned)
    assert found["tuned_rates"] == "0.0001 for FARE; 0.001 for TeCoA"
    assert found["tuned_same"] == "none" and "TeCoA" in found["tuned_other"]
