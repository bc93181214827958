import dataclasses

import numpy as np
import pandas as pd
import pytest

from mmcoa.errors import UserError
from mmcoa.evaluation.statistics import wilson
from mmcoa.report import results, sections, style, tables, tasks, training, training_facts
from mmcoa.store import packed

from . import synthetic


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A study with training logs and held-out accuracy."""
    folder = tmp_path_factory.mktemp("trained")
    packed.write(folder / "synthetic", synthetic.study(sweeps=(), logs=True))
    return results.load("synthetic", folder)


def with_training(study, **columns):
    return dataclasses.replace(study, training=study.training.assign(**columns))


def test_losses_are_relative_to_the_first_of_each_model(trained):
    logs = training.logs(trained)
    assert set(logs.model) == {"tecoa-seed0", "mmcoa-seed0", "mmcoa-seed1"} and {"lr", "held_out_robust"} <= set(logs)
    last = logs[logs.step == 1].set_index("model").relative
    assert last.to_dict() == {"tecoa-seed0": 0.5, "mmcoa-seed0": 0.5, "mmcoa-seed1": 0.75}
    curve = training.loss_curves(logs).set_index(["method", "step"])
    assert curve.loc[("mmcoa", 1), ["median", "low", "high", "seeds"]].tolist() == [0.625, 0.5, 0.75, 2]
    assert training_facts.loss_says(training.loss_curves(logs)) == "TeCoA 0.50 and MMCoA 0.62"


def test_a_first_loss_of_zero_is_no_scale(trained):
    loss = trained.logs.loss.mask((trained.logs.model == "tecoa-seed0") & (trained.logs.step == 0), 0.0)
    flat = dataclasses.replace(trained, logs=trained.logs.assign(loss=loss))
    assert set(training.loss_curves(training.logs(flat)).method) == {"mmcoa"}


def test_what_there_is_to_show(trained, study, tmp_path):
    assert {"training-logs", "held-out"} <= sections.available(trained, tmp_path)
    assert not {"training-logs", "held-out"} & sections.available(study, tmp_path)
    assert training.logs(study).empty and training.held_out(study).empty


def test_cost_by_method(trained):
    costs = training.cost(trained).set_index("method")
    assert costs.loc["tecoa", "seconds"] == pytest.approx(1000 * 1.5 / 16)
    assert costs.loc["mmcoa", ["low", "seconds", "high"]].tolist() == [93.75, 125, 156.25]
    assert costs.loc["tecoa", "per_second"] == pytest.approx(16 / 1.5)
    assert costs.loc["tecoa", "epoch"] == pytest.approx(3.0)  # 32 pictures
    assert costs.ratio.isna().all()
    table = training.cost_table(trained).set_index("method")
    assert table.loc["MMCoA", "device-seconds per 1,000 pictures"] == "125 (93.8 to 156)"
    assert "ratio to clean fine-tuning" not in table and table.loc["TeCoA", "device-seconds per epoch"] == "3.00"


def test_cost_beside_clean_fine_tuning_and_on_a_gpu(trained):
    method = trained.training.method.replace("tecoa", "clean")
    table = training.cost_table(with_training(trained, method=method, device="cuda:0")).set_index("method")
    assert table["ratio to clean fine-tuning"].tolist() == ["1.00", "1.33"]
    assert "GPU seconds per 1,000 pictures" in table


def test_learning_rates_are_those_stated_else_those_of_the_logs(rich, study, tmp_path, monkeypatch):
    assert training.learning_rates(rich)["image_only"] == (0.001,) and training.learning_rates(rich)["mmcoa"] == (0.001,)
    plain = dataclasses.replace(rich, logs=rich.logs.iloc[:0])
    assert training.learning_rates(plain)["mmcoa"] == ()
    said = training_facts.lr_says(tasks.everywhere(plain), tmp_path)
    assert (
        said.startswith("Learning rates differ between methods: 0.001 (image only")
        and "the base model's default (TeCoA" in said
    )
    assert training_facts.lr_says(with_training(rich, lr=3e-4), tmp_path) == "All methods have the same learning rate, 0.0003"
    tuned = pd.DataFrame({"dataset": ["openmoji/others"]})
    monkeypatch.setattr(training_facts.learning_rates, "trained", lambda study, results: tuned)
    assert training_facts.lr_says(tasks.everywhere(plain), tmp_path).startswith(
        "Learning rates were chosen for each method on held-out pictures of all other emoji: 0.001"
    )


def test_a_variant_of_a_method_is_not_named_beside_it():
    assert training_facts.without_variants(["TeCoA", "image only", "image only (equal compute)"]) == ["TeCoA", "image only"]
    assert training_facts.without_variants(["image only (equal compute)"]) == ["image only (equal compute)"]


def test_cost_where_the_size_of_the_set_is_unknown(study):
    assert list(training.cost_table(study)) == [
        "method",
        "seeds",
        "pictures seen",
        "PGD steps inside",
        "device-seconds per 1,000 pictures",
        "pictures/s",
    ]


def test_nothing_trained(study):
    with pytest.raises(UserError, match="trains nothing"):
        training.cost(dataclasses.replace(study, training=study.training.iloc[:0]))


def test_held_out_states(trained):
    table = training.held_out_table(trained).set_index(["method", "state"])
    assert list(table.index) == [("TeCoA", "final"), ("TeCoA", "best"), ("MMCoA", "final"), ("MMCoA", "best")]
    assert table.loc[("MMCoA", "final"), "robust"] == tables.number(30.5, *wilson(0.305 * 8, 8))
    assert table.loc[("MMCoA", "best"), ["step", "seeds", "n"]].tolist() == ["1 to 2", "2", "8"]
    says = training_facts.held_out_says(training.held_out(trained))
    assert says.startswith("in 1 of 3 models the last state") and "by 5.0 points on average" in says


def test_tradeoff_has_a_point_a_model(trained):
    points = training.tradeoff(trained).set_index("model")
    assert set(points.index) == {"none", "tecoa-seed0", "mmcoa-seed0", "mmcoa-seed1"}
    assert training.robust_attack(trained) == "sequential"  # this study has no worst case
    own = trained.rows[(trained.rows.model == "mmcoa-seed1") & (trained.rows.attack == "sequential")]
    assert points.loc["mmcoa-seed1", "robust"] == pytest.approx(own.accuracy.mean())
    assert points.loc["none", "n"] == 72
    rows = trained.rows.assign(attack=trained.rows.attack.replace("image", "multimodal"))
    assert training.robust_attack(dataclasses.replace(trained, rows=rows)) == "multimodal"


def test_tradeoff_in_words(trained):
    points = training.tradeoff(trained)
    assert training_facts.tradeoff_says(points).startswith("most robust is ")
    assert "Of 3 fine-tuned models" in training_facts.tradeoff_says(points)
    assert ";" not in training_facts.tradeoff_says(points[points.method != "none"])


def test_facts_are_texts(trained, study, tmp_path):
    found = training_facts.of_training(trained, tmp_path)
    assert all(isinstance(text, str) and text for text in found.values())
    assert found["loss_runs"] == "3" and found["held_out_n"] == "8" and found["cost_devices"] == "cpu, 1 thread"
    assert found["inner_threat"] == "ℓ∞ ball of 2/255, 1 PGD steps; one word a prompt from table:train"
    assert not {"loss_says", "held_out_says"} & training_facts.of_training(study, tmp_path).keys()


def test_inner_attack_of_the_models_own_defaults(trained):
    assert "own epsilon" in training_facts.inner_threat(with_training(trained, epsilon=np.nan))


def test_figures(trained, tmp_path):
    logs = training.logs(trained)
    for draw in (lambda: training.losses(logs), lambda: training.scatter(trained)):
        first, second = (style.save(draw(), tmp_path / f"{name}.svg").read_bytes() for name in "ab")
        assert first == second and len(first) > 5000


def test_short():
    assert [training.short(value) for value in (0.3456, 12.34, 1234.5, np.nan)] == ["0.35", "12.3", "1,234", "–"]
