"""Learning rates are chosen by held-out pictures of the training set, and said with what the choice rests on."""

import dataclasses
import json
from pathlib import Path

import pytest
from mmcoa.study.records import write_record

from mmcoa.errors import UserError
from mmcoa.report import learning_rates
from mmcoa.study.cells import expand

PROFILE = """
name: tuning
base_model: openmoji-clip
train: {dataset: openmoji/birds}
models:
  - {defense: tecoa, name: tecoa-low, lr: 1.0e-4, seeds: [0, 1]}
  - {defense: tecoa, name: tecoa-high, lr: 1.0e-3, seeds: [0, 1]}
  - {defense: fare, name: fare-low, lr: 1.0e-4}
  - {defense: fare, name: fare-high, lr: 1.0e-3}
evaluate: {datasets: [], attacks: [clean]}
"""


@pytest.fixture
def tuned(tmp_path):
    """(profile, results): TeCoA does better at the high rate over its two seeds, FARE does equally well at both."""
    profile = tmp_path / "tuning.yaml"
    profile.write_text(PROFILE)
    robust = {
        "tecoa-low-seed0": 30,
        "tecoa-low-seed1": 10,
        "tecoa-high-seed0": 20,
        "tecoa-high-seed1": 24,
        "fare-low-seed0": 8,
        "fare-high-seed0": 8,
    }
    for cell in expand(profile):
        final = {"clean": 80.0, "image": 40.0, "text": 20.0, "robust": float(robust[cell.model])}
        write_record(
            tmp_path / "results" / "tuning", cell, {"seconds": 1}, training={"held_out": {"samples": 64, "final": final}}
        )
    return profile, tmp_path / "results"


def test_the_rate_of_the_largest_mean_over_seeds_is_chosen(tuned):
    assert learning_rates.chosen(*tuned) == {"tecoa": 1e-3, "fare": 1e-4}  # of equal ones the smaller
    table = learning_rates.table(*tuned).set_index("method")
    assert table.loc["TeCoA", "0.001"] == "40.5 * (80, 22)" and table.loc["TeCoA", "0.0001"] == "40.0 (80, 20)"
    assert table.loc["TeCoA", "seeds"] == "2" and table.loc["FARE", "n"] == "64"


def test_a_missing_or_stale_record_is_named(tuned):
    profile, results = tuned
    path = results / "tuning" / "records" / "train__fare-low-seed0.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps(record | {"hash": "of older code"}))
    with pytest.raises(UserError, match="train__fare-low-seed0 of 'tuning' is stale; run: mmcoa run "):
        learning_rates.chosen(profile, results)
    path.unlink()
    with pytest.raises(UserError, match="is missing"):
        learning_rates.chosen(profile, results)


def test_mmcoa_and_its_rival_of_claim_c4_are_studied_at_their_chosen_rate(monkeypatch):
    """The study fine-tunes with the base model's own rate; the page says for which methods another one was chosen."""
    monkeypatch.chdir(Path(__file__).parents[2])
    best = learning_rates.chosen("learning-rates")
    assert best["mmcoa"] == best["image_only"] == 3e-4
    assert set(best) == {"clean", "tecoa", "fare", "pmg_aft", "text_only", "image_only", "mmcoa", "leaf"}


def test_what_the_page_says(tuned, study):
    profile, results = tuned
    found = learning_rates.facts(study, profile, results)
    assert found["tuned_rates"] == "0.0001 for FARE; 0.001 for TeCoA"
    assert found["tuned_same"] == "none" and "TeCoA" in found["tuned_other"]  # the synthetic study has logs of another rate


def test_each_base_model_has_its_own_tuning(tmp_path, study):
    """Found by the base model's name, which is a folder where another study trained it."""
    for name in learning_rates.PROFILES:
        (tmp_path / name / "records").mkdir(parents=True)
    (tmp_path / "learning-rates-photos" / "records" / "train__clean-lr1e-4-seed0.json").write_text("{}")

    def tuning(base):
        return learning_rates.profile_of(dataclasses.replace(study, rows=study.rows.assign(base_model=base)), tmp_path)

    assert tuning("photos-clip") == "learning-rates-photos"
    assert tuning("openmoji-clip") is tuning("another") is None  # not run; there is none
