"""Estimates of what a plan costs: operations by hand, rates from measurements, and how far they are from what was measured."""

import csv
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import mmcoa
from mmcoa.study import preflight as cost
from mmcoa.study.plan import make_plan

ROOT = Path(__file__).parents[2]


def test_operations_of_a_tower_are_those_that_torch_counts():
    model = mmcoa.load_model("openmoji-clip")
    image, text = cost.towers("openmoji-clip")
    with FlopCounterMode(display=False) as counter:
        model.clip.visual(torch.zeros(1, 3, 64, 64))
    assert counter.get_total_flops() == pytest.approx(image, rel=0.1)  # all but the patches and the projection
    assert text == pytest.approx(2 * (24 * 16 * 128**2 + 4 * 16**2 * 128))


def test_published_models_by_their_configuration():
    image, text = cost.towers("ViT-B-32/openai")
    assert image == pytest.approx(8.8e9, rel=0.05)  # 4.4 G multiply-adds, as published
    assert cost.towers("RN50/openai") is None and cost.towers("hf-hub:somebody/model") is None
    assert cost.weights("ViT-B-32/openai") == "weights of ViT-B-32/openai, by open_clip, about 0.6 GB"
    assert cost.weights("openmoji-clip") == ""


def test_a_training_by_hand(write_profile):
    path = write_profile(base_model="openmoji-clip", models=[{"defense": "tecoa"}, {"defense": "mmcoa"}, {"defense": "clean"}])
    cells = {cell.model: cell for cell in make_plan(path).cells if cell.kind == "train"}
    # 2 steps of 4 pictures: PGD-1 there and back, then two updates; prompts are updated, and for mmcoa each is tried in 20
    # versions
    assert cost.operations(cells["tecoa-seed0"], 1, 0) == 2 * 4 * (2 + 6)
    assert cost.operations(cells["clean-seed0"], 1, 0) == 2 * 4 * 6
    assert cost.operations(cells["tecoa-seed0"], 0, 1) == 2 * 4 * 6
    assert cost.operations(cells["mmcoa-seed0"], 0, 1) == 2 * 4 * (6 + 20)


def test_an_evaluation_by_hand(write_profile):
    settings = {"datasets": ["openmoji/birds"], "samples": 10, "attacks": ["clean", "image", "text"], "steps": 5, "restarts": 2}
    (cell,) = make_plan(write_profile(base_model="openmoji-clip", models=[{"defense": "none"}], evaluate=settings)).cells
    assert cost.operations(cell, 1, 0) == 10 * (3 + 2 * 5 * 2)  # three predictions; PGD-5 twice
    assert cost.operations(cell, 0, 1) == 21 * 20
    more = {**settings, "check_dataset": "openmoji/birds", "check_samples": 7}
    (checked,) = make_plan(write_profile(base_model="openmoji-clip", models=[{"defense": "none"}], evaluate=more)).cells
    assert cost.operations(checked, 1, 0) - cost.operations(cell, 1, 0) == 7 * cost.CHECKS * 20
    assert cost.operations(checked, 1, 0, checks=False) == cost.operations(cell, 1, 0)


def test_pictures_that_a_record_has():
    assert cost.samples_of("openmoji/birds", "test") == (210, 21)
    assert cost.samples_of("openmoji/birds", "test", samples=40) == (40, 21)
    assert cost.samples_of("openmoji/birds", "train", shots=2) == (42, 21)
    assert cost.samples_of("caltech101", "test")[0] == 8677 // 5  # no official split
    assert cost.samples_of("wds:folder", "test", samples=30) == (30, 100)


@pytest.mark.parametrize("profile", ["openmoji", "ablations"])
def test_estimates_are_within_a_factor_of_three_of_the_committed_records(profile, monkeypatch):
    monkeypatch.chdir(ROOT)
    plan = make_plan(profile)
    measured = sum(plan.look(cell).seconds for cell in plan.cells)
    estimated = cost.seconds(plan.profile, plan.cells)
    assert 1 / 3 < estimated / measured < 3
    assert cost.estimate(plan) == []  # nothing is to do


def test_the_paper_s_profile_in_hours(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    plan = make_plan("paper", tmp_path / "results", tmp_path / "runs")
    first, cores, gpu = cost.estimate(plan)
    assert first.startswith("work, at most: 8.9 EFLOP (evaluate") and "train 8.6 EFLOP" in first
    assert "two CPU cores" in cores and "assumed to reach 10 TFLOP/s" in gpu and "mmcoa bench --only step --device cuda" in gpu


def test_passes_of_test_time_defences_are_said_to_be_missing(write_profile):
    plain = cost.estimate(make_plan(write_profile()))
    defended = cost.estimate(make_plan(write_profile(sweeps=[{"name": "ttc", "defense_at_test": "ttc", "attacks": ["image"]}])))
    assert not any("not counted" in line for line in plain)
    assert any(line.strip().startswith("not counted: passes of test-time defences, in ") for line in defended)


def test_a_measured_gpu_goes_before_the_assumption(tmp_path):
    folder = tmp_path / "results" / "speed"
    folder.mkdir(parents=True)
    with (folder / "gpu.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["what", "ours", "hardware"])
        writer.writeheader()
        writer.writerow({"what": "rate of an MMCoA step", "ours": "40", "hardware": "Some GPU"})
    plan = make_plan("paper", tmp_path / "results", tmp_path / "runs")
    assert cost.measured_gpu(tmp_path / "results") == (40e12, "Some GPU")
    assert cost.estimate(plan)[-1].endswith("of one GPU at 40.0 TFLOP/s, measured on Some GPU")


def test_studies_of_their_own_base_model(tmp_path):
    vit = make_plan("photos", tmp_path / "results", tmp_path / "runs")
    assert {"pretrain", "train", "evaluate"} == cost.work(vit.profile, vit.cells).keys()
    assert len(cost.estimate(vit)) == 2  # no guess of what a small model does on a GPU


@pytest.mark.parametrize("count, said", [(1.5e18, "1.5 EFLOP"), (2e15, "2.0 PFLOP"), (3e12, "3.0 TFLOP"), (4e9, "4.0 GFLOP")])
def test_operations_said(count, said):
    assert cost.operations_said(count) == said
