"""All that goes into a run is part of its identity: one input changed, and the folder of the other run is refused by name."""

import contextlib
import json
from dataclasses import fields, replace

import pytest
import torch

from mmcoa import defenses
from mmcoa.cli import main as cli
from mmcoa.datasets.batches import ShuffledDataset
from mmcoa.errors import UserError
from mmcoa.model.loading import create_model
from mmcoa.threat import ThreatModel
from mmcoa.training import loop
from mmcoa.training.config import KINDS, TrainConfig
from mmcoa.training.loop import train

CONFIG = TrainConfig(steps=2, batch_size=8, lr=3e-4, warmup=1, epsilon=2 / 255, inner_steps=1, checkpoint_every=1).for_model({})
OTHER = {
    "split": "test",
    "candidate_source": "characters",
    "trains": "text",
    "precision": "bf16",
    "betas": (0.5, 0.9),
    "text_threat": "synonym",
}
STATES = {"unfinished": 1, "finished": None}


class Killed(Exception):
    pass


@pytest.fixture(scope="module")
def pictures():
    import mmcoa

    data = mmcoa.load_dataset("openmoji/birds", samples=42).prefix(21)
    pixels = torch.nn.functional.interpolate(data.images.float(), size=16, mode="area").round().to(torch.uint8)
    return replace(data, images=pixels)


@pytest.fixture(scope="module")
def folders(tmp_path_factory, tiny_folder, pictures):
    """{state: folder} of one run, killed after its first step or finished."""
    folder = tmp_path_factory.mktemp("runs")
    arguments = inputs(tiny_folder, pictures)
    for state, at in STATES.items():
        source = arguments["source"]

        def dying(step, at=at, source=source):
            if step == at:
                raise Killed
            return source(step)

        dying.identity = source.identity
        with contextlib.suppress(Killed):
            train(output=folder / state, **{**arguments, "source": dying, "model": create_model(tiny_folder, 0)})
    assert (folder / "finished" / "mmcoa.json").is_file() and (folder / "unfinished" / "state" / "identity.json").is_file()
    return {state: folder / state for state in STATES}


def inputs(tiny_folder, pictures, **changed):
    """Arguments of `train`."""
    arguments = {
        "model": create_model(tiny_folder, 0),
        "frozen": create_model(tiny_folder, 0),
        "source": ShuffledDataset(pictures, 8, 0),
        "defense": defenses.choose("mmcoa"),
        "config": CONFIG,
        "threat": ThreatModel(epsilon="4/255", steps=1, candidate_source="table:train"),
        "held_out": pictures.prefix(2),
    }
    return arguments | changed


def of_config(name):
    kind = KINDS[name]
    value = getattr(CONFIG, name)
    if name in OTHER:
        return OTHER[name]
    if kind.type is bool:
        return not value
    return (value or 0) * 2 + 1 if kind.type is int else value / 2


CHANGES = {f"config.{name}": {} for name in KINDS if name != "epochs"}  # which is steps by then


def changed(what, tiny_folder, pictures):
    """The arguments with one input changed, of those that are listed in WHAT or a field of the config."""
    if what.startswith("config."):
        name = what.removeprefix("config.")
        return {"config": replace(CONFIG, **{name: of_config(name)})}
    with torch.no_grad():
        another = create_model(tiny_folder, 1)
    pixels, labels = pictures.images.clone(), pictures.labels.clone()
    pixels[-1, 0, 0, 0] ^= 1
    labels[[0, 1]] = labels[[1, 0]]
    prompts = [pictures.prompts[0] + " x", *pictures.prompts[1:]]
    mmcoa = defenses.choose("mmcoa")
    return {
        "defense.name": {"defense": replace(mmcoa, name="other")},
        "defense.version": {"defense": replace(mmcoa, version=mmcoa.version + 1)},
        "defense.with.lambda_image": {"defense": defenses.choose("mmcoa", {"lambda_image": 0.25})},
        "variant": {"defense": replace(mmcoa, variant="gradient_leak")},
        "threat.steps": {"threat": ThreatModel(epsilon="4/255", steps=2, candidate_source="table:train")},
        "base": {"model": another},
        "frozen": {"frozen": another},
        "held_out": {"held_out": pictures.prefix(3)},
        "data.name": {"source": ShuffledDataset(replace(pictures, name="other"), 8, 0)},
        "data.split": {"source": ShuffledDataset(replace(pictures, split="train"), 8, 0)},
        "data.samples": {"source": ShuffledDataset(pictures.prefix(20), 8, 0)},
        "data.content": {"source": ShuffledDataset(replace(pictures, images=pixels), 8, 0)},
        "data.content ": {"source": ShuffledDataset(replace(pictures, labels=labels), 8, 0)},
        "data.content  ": {"source": ShuffledDataset(replace(pictures, prompts=prompts), 8, 0)},
        "data.content   ": {"source": ShuffledDataset(replace(pictures, ids=pictures.ids + 1), 8, 0)},
        "data.batch_size": {"source": ShuffledDataset(pictures, 7, 0)},
        "data.seed": {"source": ShuffledDataset(pictures, 8, 1)},
    }[what]


WHAT = [
    *CHANGES,
    *("defense.name", "defense.version", "defense.with.lambda_image", "variant", "threat.steps", "base", "frozen", "held_out"),
    *("data.name", "data.split", "data.samples", "data.content", "data.content ", "data.content  ", "data.content   "),
    *("data.batch_size", "data.seed"),
]


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("what", WHAT)
def test_one_input_changed_is_another_run_and_is_named(folders, tiny_folder, pictures, what, state):
    arguments = inputs(tiny_folder, pictures, **changed(what, tiny_folder, pictures))
    with pytest.raises(UserError, match=rf"holds another training run \((.*; )?{what.strip()} .*, now .*another --output"):
        train(output=folders[state], **arguments)


def test_the_same_run_is_returned_and_says_so(folders, tiny_folder, pictures, caplog):
    assert train(output=folders["finished"], **inputs(tiny_folder, pictures)) == folders["finished"]
    assert caplog.messages == [f"note: {folders['finished']} holds this very run, finished before: nothing was trained"]


def test_another_version_of_the_loop_is_another_run(folders, tiny_folder, pictures, monkeypatch):
    monkeypatch.setattr(loop, "TRAINING", loop.TRAINING + 1)
    with pytest.raises(UserError, match=rf"\(training {loop.TRAINING - 1}, now {loop.TRAINING}\)"):
        train(output=folders["unfinished"], **inputs(tiny_folder, pictures))


@pytest.mark.parametrize("section, name", [("config", "log_every"), ("with", "positives")])
def test_a_setting_that_came_later_counts_as_its_default(folders, tiny_folder, pictures, section, name):
    """A folder that was written before there was the setting is the same run where the setting is as it always was."""
    path = folders["finished"] / "mmcoa.json"
    kept = path.read_text()
    about = json.loads(kept)
    place = about["training"]["config"] if section == "config" else about["training"]["defense"]["with"]
    del place[name]
    path.write_text(json.dumps(about))
    try:
        train(output=folders["finished"], **inputs(tiny_folder, pictures))
        other = {"config": replace(CONFIG, log_every=3)}
        other = other if section == "config" else {"defense": defenses.choose("mmcoa", {"positives": "index"})}
        with pytest.raises(UserError, match=name):
            train(output=folders["finished"], **inputs(tiny_folder, pictures, **other))
    finally:
        path.write_text(kept)


def test_a_plain_function_is_known_by_its_first_batch(tiny_folder, pictures, tmp_path):
    first, second = (ShuffledDataset(pictures, 8, seed) for seed in (0, 1))
    arguments = inputs(tiny_folder, pictures, source=lambda step: first(step))
    train(output=tmp_path / "run", **arguments)
    with pytest.raises(UserError, match=r"data.first_batch [0-9a-f]{16}, now"):
        train(
            output=tmp_path / "run", **{**arguments, "model": create_model(tiny_folder, 0), "source": lambda step: second(step)}
        )


def test_a_folder_that_no_training_made_is_refused(tiny_folder, pictures, tmp_path):
    (tmp_path / "mmcoa.json").write_text("{}")
    with pytest.raises(UserError, match="nothing is known of it"):
        train(output=tmp_path, **inputs(tiny_folder, pictures))


def test_another_data_set_on_the_command_line(tmp_path, capsys):
    """The weights of the first were returned for the second, with exit code 0."""
    common = ["train", "--defense", "clean", "--steps", "1", "--batch-size", "4", "--samples", "8", "--held-out", "0"]
    common += ["--device", "cpu", "--output", str(tmp_path / "run"), "--dataset"]
    codes = []
    for dataset in ("openmoji/birds", "openmoji/tools"):
        with pytest.raises(SystemExit) as ended:
            cli.main([*common, dataset])
        codes.append(ended.value.code)
    assert codes == [0, 2]
    said = " ".join(capsys.readouterr().err.split())
    assert "data.name openmoji/birds, now openmoji/tools" in said


def test_every_field_of_the_config_is_tried():
    assert {what.removeprefix("config.") for what in CHANGES} == {field.name for field in fields(TrainConfig)} - {"epochs"}
