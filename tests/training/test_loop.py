import csv
import errno
import json
import math
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from mmcoa import defenses
from mmcoa.datasets import load_dataset
from mmcoa.datasets.batches import Batch, OpenMojiCaptions, ShuffledDataset
from mmcoa.errors import UserError
from mmcoa.evaluation.loop import evaluate
from mmcoa.model.clip import image_parameters, text_parameters
from mmcoa.model.loading import create_model
from mmcoa.threat import ThreatModel
from mmcoa.training import checkpoint as state
from mmcoa.training.config import TrainConfig
from mmcoa.training.heldout import measure, split
from mmcoa.training.loop import train
from mmcoa.training.schedule import learning_rate, make_optimizer
from mmcoa.training.trainable import make_trainable

CONFIG = TrainConfig(steps=6, batch_size=8, lr=3e-4, warmup=2, checkpoint_every=2, log_every=1).for_model({})
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

    batches.identity = source.identity
    return batches


@pytest.mark.parametrize("at", [1, 3, 5])
def test_a_killed_run_ends_in_the_same_bits(make, tmp_path, at):
    model, source = make()
    train(model, source, "mmcoa", CONFIG, tmp_path / "unbroken", threat=THREAT)
    with pytest.raises(Killed):
        train(make()[0], dying(source, at), "mmcoa", CONFIG, tmp_path / "killed", threat=THREAT)
    again = make()[0]
    train(again, source, "mmcoa", CONFIG, tmp_path / "killed", threat=THREAT)
    for key, value in weights(model).items():
        assert torch.equal(value, weights(again)[key]), key
    assert logged(tmp_path / "killed") == logged(tmp_path / "unbroken")
    assert len(logged(tmp_path / "killed")) == 6
    assert not (tmp_path / "killed" / "state").exists()


def flip_one_weight(path):
    """Of the model: the end of the file is the state of the random generator, which no step asks."""
    content = bytearray(path.read_bytes())
    place = len(content) // 4
    content[place : place + 4] = bytes(value ^ 0x10 for value in content[place : place + 4])
    path.write_bytes(content)


DAMAGES = {
    "cut": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "flipped": flip_one_weight,
    "unfinished": lambda path: path.with_suffix(".json").unlink(),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_passed_over(make, tmp_path, damage):
    model, source = make()
    train(model, source, "mmcoa", CONFIG, tmp_path / "unbroken", threat=THREAT)
    with pytest.raises(Killed):
        train(make()[0], dying(source, 5), "mmcoa", CONFIG, tmp_path / "killed", threat=THREAT)
    newest = sorted((tmp_path / "killed" / "state").glob("step-*.safetensors"))[-1]
    DAMAGES[damage](newest)
    again = make()[0]
    train(again, source, "mmcoa", CONFIG, tmp_path / "killed", threat=THREAT)
    assert all(torch.equal(value, weights(again)[key]) for key, value in weights(model).items())


def test_a_finished_run_is_left_alone_and_another_one_refused(make, tmp_path, caplog):
    model, source = make()
    train(model, source, "mmcoa", CONFIG, tmp_path / "run", threat=THREAT)
    stamp = (tmp_path / "run" / "model.safetensors").stat().st_mtime_ns
    assert not caplog.messages
    train(make()[0], dying(source, 0), "mmcoa", CONFIG, tmp_path / "run", threat=THREAT)
    assert caplog.messages == [f"note: {tmp_path / 'run'} holds this very run, finished before: nothing was trained"]
    assert (tmp_path / "run" / "model.safetensors").stat().st_mtime_ns == stamp
    with pytest.raises(UserError, match="another training run .threat.steps 2, now 3."):
        train(make()[0], source, "mmcoa", CONFIG, tmp_path / "run", threat=THREAT.changed(steps=3))


def test_an_unfinished_run_of_another_configuration_is_refused_and_kept(make, tmp_path):
    _, source = make()
    with pytest.raises(Killed):
        train(make()[0], dying(source, 3), "mmcoa", CONFIG, tmp_path / "run", threat=THREAT)
    with pytest.raises(UserError, match="config.steps 6, now 7; config.lr 0.0003, now 0.1.*another --output"):
        train(make()[0], source, "mmcoa", replace(CONFIG, lr=0.1, steps=7), tmp_path / "run", threat=THREAT)
    with pytest.raises(UserError, match="base [0-9a-f]{16}, now"):  # other weights, or another architecture
        train(make(seed=1)[0], source, "mmcoa", CONFIG, tmp_path / "run", threat=THREAT)
    assert (tmp_path / "run" / "state" / "step-0000002.safetensors").is_file()


def test_a_full_disk_stops_the_run_and_spares_what_is_there(make, tmp_path, monkeypatch):
    model, source = make()
    written = state.save_file

    def full(tensors, path, **rest):
        written(tensors, path, **rest)
        if (tmp_path / "run" / "state" / "step-0000002.json").is_file():
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(state, "save_file", full)
    with pytest.raises(UserError, match="No space left on device.*earlier ones are intact"):
        train(model, source, "mmcoa", CONFIG, tmp_path / "run", threat=THREAT)
    assert sorted(path.name for path in (tmp_path / "run" / "state").glob("*.safetensors")) == ["step-0000002.safetensors"]
    assert not list((tmp_path / "run" / "state").glob(".*"))  # no half-written file is left
    monkeypatch.undo()
    again = make()[0]
    train(again, source, "mmcoa", CONFIG, tmp_path / "run", threat=THREAT)
    unbroken = make()[0]
    train(unbroken, source, "mmcoa", CONFIG, tmp_path / "unbroken", threat=THREAT)
    assert all(torch.equal(value, weights(again)[key]) for key, value in weights(unbroken).items())


def test_a_loss_out_of_bounds_stops(make, tmp_path):
    model, source = make()

    def exploding(model, frozen, batch, threat, settings):
        loss = model.encode_image(batch.images).sum() + (1.0 if batch.step < 12 else 1000.0)
        return loss, {"term": loss.item()}

    defense = replace(defenses.choose("clean"), objective=exploding, variant="exploding")
    with pytest.raises(FloatingPointError, match="step 1[2-9]: the mean of the last 10 is over 10 times"):
        train(model, source, defense, replace(CONFIG, steps=30), tmp_path / "run")


SCRIPT = """
import os, random, signal, sys, threading, time
from mmcoa.model.loading import create_model
from mmcoa.datasets import load_dataset
from mmcoa.datasets.batches import ShuffledDataset
from mmcoa.threat import ThreatModel
from mmcoa.training.config import TrainConfig
from mmcoa.training.loop import train
folder, output = sys.argv[1:]
source = ShuffledDataset(load_dataset("openmoji/birds", "train", samples=42), 8, 0)
config = TrainConfig(steps=24, batch_size=8, lr=3e-4, warmup=2, checkpoint_every=3, log_every=1)
threat = ThreatModel(epsilon="4/255", steps=2, candidate_source="table:train")

def run(name, killed_at):
    def batches(step):
        if step == killed_at:  # within the next steps, at a moment of the machine's choosing
            threading.Timer(random.uniform(0, 0.1), os.kill, (os.getpid(), signal.SIGKILL)).start()
        if step == config.steps - 1 and killed_at is not None:
            time.sleep(60)  # a fast machine waits to be killed
        return source(step)
    child = os.fork()  # a process of its own, without importing everything anew
    if not child:
        train(create_model(folder, 0), batches, "mmcoa", config, os.path.join(output, name), threat=threat)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

assert [run("unbroken", None), run("killed", 3), run("killed", 12), run("killed", None)] == [0, -9, -9, 0]
"""


@pytest.mark.slow
def test_kill_9_at_any_moment(tiny_folder, tmp_path):
    """A process killed twice, at moments of the machine's choosing, ends in the bits and the log of an unbroken one."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}  # threads do not survive a fork
    command = [sys.executable, "-c", SCRIPT, str(tiny_folder), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    first, second = (load_file(tmp_path / name / "model.safetensors") for name in ("unbroken", "killed"))
    assert all(torch.equal(value, second[key]) for key, value in first.items())
    assert logged(tmp_path / "killed") == logged(tmp_path / "unbroken") and len(logged(tmp_path / "killed")) == 24


def test_parts_of_a_batch_add_up(make, tmp_path):
    """For a loss of single samples, a batch in parts is the batch: in loss, length of the gradient, and weights."""
    results, before = [], weights(make()[0])
    for accumulate in (1, 4):
        model, source = make()
        config = TrainConfig(steps=3, batch_size=8, lr=3e-4, warmup=10, accumulate=accumulate)
        train(model, source, "tecoa", config, tmp_path / str(accumulate), threat=THREAT)
        results.append(weights(model))
    first, second = (logged(tmp_path / name) for name in ("1", "4"))
    for column in ("loss", "gradient_norm"):
        assert [float(row[column]) for row in first] == pytest.approx([float(row[column]) for row in second], rel=1e-4)
    # The mean, since Adam turns rounding where a gradient is zero (the keys' bias) into whole steps.
    apart, moved = (
        torch.cat([(results[0][k] - v).abs().flatten() for k, v in other.items()]) for other in (results[1], before)
    )
    assert apart.mean() < 1e-3 * moved.mean()
    with pytest.raises(UserError, match="does not divide into 3 parts"):
        train(make()[0], source, "mmcoa", replace(CONFIG, accumulate=3), tmp_path / "3", threat=THREAT)


def test_gradient_checkpointing_changes_nothing(make, tmp_path):
    results = []
    for checkpointing in (False, True):
        model, source = make()
        config = replace(CONFIG, gradient_checkpointing=checkpointing)
        train(model, source, "mmcoa", config, tmp_path / str(checkpointing), threat=THREAT)
        results.append(weights(model))
    assert all(torch.allclose(value, results[1][key], atol=1e-6) for key, value in results[0].items())


def test_bf16_follows_fp32(make, tmp_path):
    losses = []
    for precision in ("fp32", "bf16"):
        model, source = make()
        train(model, source, "mmcoa", replace(CONFIG, precision=precision), tmp_path / precision, threat=THREAT)
        losses.append([float(row["loss"]) for row in logged(tmp_path / precision)])
        assert model.precision == model.text_precision == "fp32"
        assert all(value.dtype == torch.float32 for value in weights(model).values() if value.is_floating_point())
    assert np.allclose(*losses, rtol=0.02) and losses[0] != losses[1]


def test_the_held_out_slice_is_measured_and_chooses_the_best(make, tmp_path, small_birds):
    model, source = make()
    data, held_out = split(small_birds, 4)
    source = ShuffledDataset(data, 8, seed=0)
    config = replace(CONFIG, steps=6, evaluate_every=2, lr=3e-3)
    train(model, source, "mmcoa", config, tmp_path / "run", threat=THREAT, held_out=held_out)
    rows = [row for row in logged(tmp_path / "run") if row["held_out_robust"]]
    assert [int(row["step"]) + 1 for row in rows] == [2, 4, 6]
    info = json.loads((tmp_path / "run" / "mmcoa.json").read_text())["held_out"]
    assert info["samples"] == 4 and info["final"]["clean"] == float(rows[-1]["held_out_clean"])
    best = max(rows, key=lambda row: (float(row["held_out_robust"]), float(row["held_out_clean"])))
    assert info["best"]["step"] == int(best["step"]) + 1
    assert (tmp_path / "run" / "best" / "model.safetensors").is_file() == (info["best"]["step"] < 6)
    assert "Held-out slice" in (tmp_path / "run" / "README.md").read_text()


def test_held_out_accuracy_is_what_an_evaluation_says(embedded):
    data = load_dataset("openmoji/birds", "train", samples=42)
    threat = ThreatModel(epsilon="2/255", steps=3, candidate_source="table:eval")
    measured = measure(embedded, data, threat, embedded)
    rows = evaluate(embedded, data, ["clean", "image", "text"], threat.changed(steps=10))
    expected = {row["attack"]: row["accuracy"] for row in rows}
    assert {name: measured[name] for name in expected} == pytest.approx(expected, abs=0.01)
    assert measured["robust"] <= min(measured["image"], measured["text"])


def test_a_split_holds_out_what_is_not_trained_on(birds):
    data, held_out = split(birds, 8, seed=3)
    assert len(held_out) == 8 and len(data) == len(birds) - 8
    assert not set(data.ids.tolist()) & set(held_out.ids.tolist())
    assert len(split(birds, 64)[1]) == len(birds) // 5  # never more than a fifth
    data, held_out = split(birds, 64, shots=1, seed=3)
    assert torch.bincount(data.labels).tolist() == [1] * 21 and len(held_out) == 21
    assert not set(data.ids.tolist()) & set(held_out.ids.tolist())
    assert torch.equal(split(birds, 64, shots=1, seed=3)[0].ids, data.ids)  # the same for every defence
    assert not torch.equal(split(birds, 64, shots=1, seed=4)[0].ids, data.ids)
    with pytest.raises(UserError, match="3 shots were asked for, but class '.*' of 'openmoji/birds' has 2 training samples"):
        split(birds, 64, shots=3)


def test_shots_are_nested(birds):
    one, two = (set(split(birds, 0, shots=shots)[0].ids.tolist()) for shots in (1, 2))
    assert one < two


def test_what_cannot_be_contrasted_is_refused(small_birds):
    with pytest.raises(UserError, match="at least two samples"):
        ShuffledDataset(small_birds, 1, seed=0)
    with pytest.raises(UserError, match="all of one class"):
        ShuffledDataset(small_birds.take(torch.tensor([0, 0])), 2, seed=0)


def test_a_loss_that_is_not_finite_stops_and_keeps_the_batch(make, tmp_path):
    model, source = make()
    with torch.no_grad():
        model.clip.visual.proj.fill_(float("nan"))
    with pytest.raises(FloatingPointError, match="step 0.*smaller lr"):
        train(model, source, "clean", replace(CONFIG, steps=2), tmp_path / "run")
    assert (tmp_path / "run" / "diverged-step-0.safetensors").is_file()
    assert not (tmp_path / "run" / "model.safetensors").exists()


@pytest.mark.parametrize("defense", defenses.names())
def test_each_defence_trains_the_towers_it_names(make, tmp_path, defense):
    model, source = make()
    image, text = (tower in defenses.record(defense).trains for tower in ("image", "text"))
    before = weights(model)
    towers = [{id(p) for p in f(model)} for f in (image_parameters, text_parameters)]
    names = {id(p): name for name, p in model.clip.named_parameters()}
    train(model, source, defense, replace(CONFIG, steps=2), tmp_path / defense, threat=THREAT, frozen=make()[0])
    for tower, moved in zip(towers, (image, text), strict=True):
        changed = any(not torch.equal(before[names[p]], model.clip.state_dict()[names[p]]) for p in tower)
        assert changed == moved
    assert all(p.grad is None or not p.requires_grad for p in model.parameters())


@pytest.mark.parametrize(
    "defense", [name for name in defenses.names() if name not in ("fare", "leaf")]
)  # their loss starts near its least
def test_every_defence_learns(make, tmp_path, defense):
    model, source = make()
    config = replace(CONFIG, steps=40, batch_size=21, lr=3e-3, warmup=10)
    train(model, source, defense, config, tmp_path / "run", threat=THREAT, frozen=make()[0])
    losses = [float(row["loss"]) for row in logged(tmp_path / "run")]
    assert np.mean(losses[-5:]) < 0.9 * np.mean(losses[:5])


def test_weight_decay_is_on_matrices_only(make):
    """Trap T3."""
    model, _ = make()
    optimizer = make_optimizer(make_trainable(model, ("image", "text")), CONFIG)
    decayed, free = optimizer.param_groups
    assert decayed["weight_decay"] == 0.2 and free["weight_decay"] == 0
    assert all(p.ndim >= 2 for p in decayed["params"]) and all(p.ndim < 2 for p in free["params"])
    assert any(p is model.clip.logit_scale for p in free["params"])


def test_schedule_warms_up_and_ends_near_zero():
    config = TrainConfig(steps=100, warmup=10, lr=1.0)
    rates = [learning_rate(step, config) for step in range(100)]
    assert rates[0] == pytest.approx(0.1) and max(rates) == rates[9] == pytest.approx(1.0) and rates[-1] < 0.001
    assert rates[10:] == sorted(rates[10:], reverse=True)


@pytest.mark.parametrize("biased", [False, True])
def test_logit_scale_is_clamped_where_clip_s_was(biased, make, tmp_path):
    """SigLIP, known by its logit bias, has a larger one than CLIP allows."""
    model, source = make()
    with torch.no_grad():
        model.clip.logit_scale.fill_(math.log(110))
    if biased:
        model.clip.logit_bias = torch.nn.Parameter(torch.tensor(-9.0))
    train(model, source, "clean", replace(CONFIG, steps=1, lr=1e-4, warmup=0), tmp_path / "run")
    assert model.scale == pytest.approx(110 if biased else 100, abs=0.5)


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
    assert batch.sample_ids().tolist() == [8, 9, 10, 11]
    share = batch.share(1, 2)
    assert (
        share.labels.tolist() == [5, 2]
        and share.present()[1].tolist() == [2, 0, 2, 1]
        and share.sample_ids().tolist() == [10, 11]
    )
    part = batch.parts(2)[0]
    assert part.present()[0] == ["p1", "p5"] and part.sample_ids().tolist() == [8, 9]


def test_pretraining_captions():
    source = OpenMojiCaptions(128, 0, {"photo": ["picture"], "duck": ["fowl"], "car": ["automobile"]}, substitutions=1.0)
    batch = source(3)
    assert batch.images.shape == (128, 3, 64, 64) and len(set(batch.prompts)) == 128
    assert source(3).prompts == batch.prompts and source(4).prompts != batch.prompts
    rng = np.random.default_rng(0)
    assert all("duck" not in source.caption(rng, "duck") for _ in range(20))
    assert all("automobile" not in source.caption(rng, "car") for _ in range(20))  # it is another class's name


def test_settings_that_nobody_means_are_said(make, tmp_path, caplog):
    """A rate that never reaches its peak, and a ball that is the whole range of pixels."""
    from mmcoa.training.loop import say_what_is_odd

    def notes(step=0, epsilon=2 / 255, **config):
        caplog.clear()
        say_what_is_odd(TrainConfig(**config).for_model({}), ThreatModel(epsilon=epsilon), step)
        return caplog.messages

    assert notes(steps=10, warmup=10) == [] and notes(3, steps=10, warmup=1) == ["note: going on after step 3 of 10"]
    (said,) = notes(steps=10, warmup=40, lr=4e-4)
    assert (
        said == "note: the warm-up (40 steps) is longer than the training (10): lr ends at 0.0001, not 0.0004; --set warmup=1"
    )
    (said,) = notes(steps=10, warmup=1, epsilon=1)
    assert said == "note: epsilon 1 lets every pixel take any value; where papers say 1 they mean 1/255"
    (said,) = notes(steps=10, warmup=1, epsilon=0.5)
    assert said == "note: epsilon 0.5 lets every pixel take nearly any value"
