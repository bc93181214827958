import csv
import math

import numpy as np
import pytest
import torch

from mmcoa.clip import create_model, image_parameters, text_parameters
from mmcoa.datasets.batches import Batch, OpenMojiCaptions, ShuffledDataset
from mmcoa.errors import UserError
from mmcoa.threat import ThreatModel
from mmcoa.training import TrainConfig, defaults_for, learning_rate, make_optimizer, train, trainable_parameters

CONFIG = TrainConfig(defense="mmcoa", steps=6, batch_size=8, warmup=2, checkpoint_every=2, log_every=1)
THREAT = ThreatModel(epsilon="4/255", steps=2, candidate_source="table:train")


@pytest.fixture
def make(tiny_folder, small_birds):
    def build(seed=0):
        model = create_model(tiny_folder, seed, name="tiny-clip")
        return model, ShuffledDataset(small_birds, 8, seed=0)

    return build


def weights(model):
    return {key: value.clone() for key, value in model.clip.state_dict().items()}


def logged(folder):
    with (folder / "log.csv").open() as file:
        return [{k: v for k, v in row.items() if k not in ("seconds", "images_per_second")} for row in csv.DictReader(file)]


class Killed(Exception):
    pass


def dying(source, at):
    def batches(step):
        if step == at:
            raise Killed
        return source(step)

    return batches


@pytest.mark.parametrize("at", [1, 3, 5])
def test_a_killed_run_ends_in_the_same_bits(make, tmp_path, at):
    model, source = make()
    train(model, source, CONFIG, tmp_path / "unbroken", threat=THREAT)
    with pytest.raises(Killed):
        train(make()[0], dying(source, at), CONFIG, tmp_path / "killed", threat=THREAT)
    again = make()[0]
    train(again, source, CONFIG, tmp_path / "killed", threat=THREAT)
    for key, value in weights(model).items():
        assert torch.equal(value, weights(again)[key]), key
    assert logged(tmp_path / "killed") == logged(tmp_path / "unbroken")
    assert len(logged(tmp_path / "killed")) == 6
    assert not (tmp_path / "killed" / "state").exists()


def test_a_damaged_checkpoint_is_passed_over(make, tmp_path):
    model, source = make()
    train(model, source, CONFIG, tmp_path / "unbroken", threat=THREAT)
    with pytest.raises(Killed):
        train(make()[0], dying(source, 5), CONFIG, tmp_path / "killed", threat=THREAT)
    newest = sorted((tmp_path / "killed" / "state").glob("step-*"))[-1]
    newest.write_bytes(newest.read_bytes()[: newest.stat().st_size // 2])
    again = make()[0]
    train(again, source, CONFIG, tmp_path / "killed", threat=THREAT)
    assert all(torch.equal(value, weights(again)[key]) for key, value in weights(model).items())


def test_a_finished_run_is_left_alone_and_another_one_refused(make, tmp_path):
    model, source = make()
    train(model, source, CONFIG, tmp_path / "run", threat=THREAT)
    stamp = (tmp_path / "run" / "model.safetensors").stat().st_mtime_ns
    train(make()[0], dying(source, 0), CONFIG, tmp_path / "run", threat=THREAT)
    assert (tmp_path / "run" / "model.safetensors").stat().st_mtime_ns == stamp
    with pytest.raises(UserError, match="another training run"):
        train(make()[0], source, CONFIG, tmp_path / "run", threat=THREAT.changed(steps=3))


def test_a_loss_that_is_not_finite_stops_and_keeps_the_batch(make, tmp_path):
    model, source = make()
    with torch.no_grad():
        model.clip.visual.proj.fill_(float("nan"))
    with pytest.raises(FloatingPointError, match="step 0.*smaller lr"):
        train(model, source, TrainConfig(defense="clean", steps=2), tmp_path / "run")
    assert (tmp_path / "run" / "diverged-step-0.safetensors").is_file()
    assert not (tmp_path / "run" / "model.safetensors").exists()


@pytest.mark.parametrize("defense,image,text", [("tecoa", True, False), ("clean", True, True), ("mmcoa", True, True)])
def test_each_defence_trains_the_towers_it_names(make, tmp_path, defense, image, text):
    model, source = make()
    before = weights(model)
    towers = [{id(p) for p in f(model)} for f in (image_parameters, text_parameters)]
    names = {id(p): name for name, p in model.clip.named_parameters()}
    train(model, source, TrainConfig(defense=defense, steps=2, batch_size=8), tmp_path / defense, threat=THREAT)
    for tower, moved in zip(towers, (image, text), strict=True):
        changed = any(not torch.equal(before[names[p]], model.clip.state_dict()[names[p]]) for p in tower)
        assert changed == moved
    assert all(p.grad is None or not p.requires_grad for p in model.parameters())


@pytest.mark.parametrize("defense", ["clean", "tecoa", "image_only", "text_only", "mmcoa"])
def test_every_defence_learns(make, tmp_path, defense):
    model, source = make()
    config = TrainConfig(defense=defense, steps=40, batch_size=21, lr=3e-3, log_every=1)
    train(model, source, config, tmp_path / "run", threat=THREAT)
    losses = [float(row["loss"]) for row in logged(tmp_path / "run")]
    assert np.mean(losses[-5:]) < 0.9 * np.mean(losses[:5])


def test_weight_decay_is_on_matrices_only(make):
    """Trap T3."""
    model, _ = make()
    optimizer = make_optimizer(trainable_parameters(model, ("image", "text")), CONFIG)
    decayed, free = optimizer.param_groups
    assert decayed["weight_decay"] == 0.2 and free["weight_decay"] == 0
    assert all(p.ndim >= 2 for p in decayed["params"]) and all(p.ndim < 2 for p in free["params"])
    assert any(p is model.clip.logit_scale for p in free["params"])


def test_schedule_warms_up_and_ends_near_zero():
    config = TrainConfig(defense="clean", steps=100, warmup=10, lr=1.0)
    rates = [learning_rate(step, config) for step in range(100)]
    assert rates[0] == pytest.approx(0.1) and max(rates) == rates[9] == pytest.approx(1.0) and rates[-1] < 0.001
    assert rates[10:] == sorted(rates[10:], reverse=True)


def test_logit_scale_is_clamped(make, tmp_path):
    model, source = make()
    with torch.no_grad():
        model.clip.logit_scale.fill_(math.log(100))
    train(model, source, TrainConfig(defense="clean", steps=3, batch_size=8, lr=0.1, warmup=0), tmp_path / "run")
    assert model.scale <= 100.01


def test_defaults_come_from_the_model(embedded, tiny):
    assert defaults_for(embedded, defense="tecoa").lr == 3e-4
    assert defaults_for(tiny, defense="tecoa").lr == 1e-6  # the paper's public settings
    assert defaults_for(tiny, defense="tecoa", lr=1e-3, steps=None).lr == 1e-3


def test_an_epoch_visits_each_sample_once(small_birds):
    source = ShuffledDataset(small_birds, 6, seed=1)
    epochs = np.concatenate([np.arange(6) + 6 * step for step in range(7)]) // 21
    seen = [[], []]
    for step in range(7):
        batch = source(step)
        for place, image in enumerate(batch.images):
            seen[epochs[step * 6 + place]].append(int((image.sum() * 1e4).round()))
    assert len(set(seen[0])) == len(set(seen[1])) == 21 and seen[0] != seen[1]
    again = ShuffledDataset(small_birds, 6, seed=1)(3)
    assert torch.equal(again.images, source(3).images)


def test_a_batch_names_the_classes_it_holds():
    batch = Batch(torch.zeros(4, 3, 2, 2), torch.tensor([5, 1, 5, 2]), [f"p{i}" for i in range(6)], step=2, seed=0)
    prompts, labels = batch.present()
    assert prompts == ["p1", "p2", "p5"] and labels.tolist() == [2, 0, 2, 1]
    assert list(batch.sample_ids()) == [8, 9, 10, 11]


def test_pretraining_captions():
    source = OpenMojiCaptions(128, 0, {"photo": ["picture"], "duck": ["fowl"], "car": ["automobile"]}, substitutions=1.0)
    batch = source(3)
    assert batch.images.shape == (128, 3, 64, 64) and len(set(batch.prompts)) == 128
    assert source(3).prompts == batch.prompts and source(4).prompts != batch.prompts
    rng = np.random.default_rng(0)
    assert all("duck" not in source.caption(rng, "duck") for _ in range(20))
    assert all("automobile" not in source.caption(rng, "car") for _ in range(20))  # it is another class's name
