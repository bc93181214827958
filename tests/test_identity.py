"""Kept work is found again by all that it was made of: one input changed at a time is other work, or a refusal that names it.

The settings of a training, its data and its weights are tried in training/test_identity.py.
"""

import copy
import io
import json
import os
import tarfile
from dataclasses import replace

import pytest
from PIL import Image

import mmcoa
from mmcoa import identity
from mmcoa.datasets.batches import ShuffledDataset
from mmcoa.datasets.dataset import Streamed
from mmcoa.errors import UserError
from mmcoa.evaluation import loop as evaluation
from mmcoa.evaluation.self_checks import kept
from mmcoa.model.saving import save_checkpoint
from mmcoa.threat import ThreatModel
from mmcoa.training.checkpoint import TrainingState
from mmcoa.training.loop import identify


def other_config(key, value):
    def change(model):
        model.config = copy.deepcopy(model.config)
        model.config["preprocess_cfg" if key in model.config["preprocess_cfg"] else "model_cfg"][key] = value

    return change


def other_resize(model):
    model.resize = "reference"


def other_tokenizer(model):
    model.tokenizer = lambda texts, own=model.tokenizer, **more: own([text.upper()[:5] for text in texts], **more)


def other_base(model):
    model.metadata = {"base_model": "openmoji-clip"}


READ_AS = {
    "mean": other_config("mean", [0.4] * 3),
    "std": other_config("std", [0.4] * 3),
    "interpolation": other_config("interpolation", "bilinear"),
    "activation": other_config("quick_gelu", True),
    "resize": other_resize,
    "tokenizer": other_tokenizer,
    "base": other_base,
}


@pytest.mark.parametrize("what", READ_AS)
def test_what_weights_are_read_with_counts(tiny, small_birds, tmp_path, monkeypatch, what):
    """In an evaluation that goes on, in kept self-checks and in a training."""
    threat, before = ThreatModel(epsilon="2/255", steps=1), copy.deepcopy(tiny)
    assert identity.reading(before) == identity.reading(tiny)
    READ_AS[what](tiny)
    assert tiny.fingerprint() == before.fingerprint() and identity.reading(tiny) != identity.reading(before)
    made = [
        identify(model, ShuffledDataset(small_birds, 8, 0), mmcoa.defenses.choose("clean"), TrainFive(), threat, None, None)
        for model in (before, tiny)
    ]
    assert {key for key in made[0] if made[0][key] != made[1][key]} == {"base_read_as"}
    seen = []
    monkeypatch.setattr(evaluation, "Journal", lambda folder, of: seen.append(of) or stop())
    for model in (before, tiny):
        with pytest.raises(KeyboardInterrupt):
            mmcoa.evaluate(model, small_birds, ["clean"], threat, resume=tmp_path)
    assert {key for key in seen[0] if seen[0][key] != seen[1][key]} == {"read_as"}
    first, second = (kept(model, small_birds, "pgd", threat, lambda *given: [id(given[0])]) for model in (before, tiny))
    assert second == [id(tiny)] != first


def TrainFive():
    return mmcoa.TrainConfig(steps=5, epsilon=2 / 255).for_model({})


def stop():
    raise KeyboardInterrupt


def test_candidate_files_count_by_content(tmp_path, tiny, small_birds, monkeypatch):
    path = tmp_path / "words.json"
    threat, found = ThreatModel(epsilon="2/255", steps=1, candidate_source=str(path)), []
    seen = []
    monkeypatch.setattr(evaluation, "Journal", lambda folder, of: seen.append(of) or stop())
    for number, table in enumerate(({"parrot": ["finch"]}, {"parrot": ["raven"]})):
        path.write_text(json.dumps(table))
        made = identify(
            tiny, ShuffledDataset(small_birds, 8, 0), mmcoa.defenses.choose("mmcoa"), TrainFive(), threat, tiny, None
        )
        found.append((made, kept(tiny, small_birds, "text", threat, lambda *given, number=number: [number])))
        with pytest.raises(KeyboardInterrupt):
            mmcoa.evaluate(tiny, small_birds, ["text"], threat, resume=tmp_path / "parts")
    (first, one), (second, two) = found
    assert {key for key in first if first[key] != second[key]} == {"words"} and (one, two) == ([0], [1])
    assert {key for key in seen[0] if seen[0][key] != seen[1][key]} == {"words"}
    (tmp_path / "run" / "state").mkdir(parents=True)
    (tmp_path / "run" / "state" / "identity.json").write_text(json.dumps(first))
    with pytest.raises(UserError, match=r"another training run \(words \w+, now \w+\)"):
        TrainingState(tmp_path / "run", second)


def test_any_picture_of_a_streamed_set_counts(small_birds, tmp_path):
    """Also one beyond those that are looked at."""
    for name in "ab":
        (tmp_path / "mine" / name).mkdir(parents=True)
        for number in range(40):
            Image.new("RGB", (8, 8), (number,) * 3).save(tmp_path / "mine" / name / f"{number}.bmp")

    def made():
        data = mmcoa.load_dataset(str(tmp_path / "mine"), "all", stream=True)
        return data, ShuffledDataset(data, 8, 0).identity()

    data, before = made()
    assert isinstance(data.images, Streamed) and made()[1] == before
    last = sorted((tmp_path / "mine").rglob("*.bmp"))[int(data.ids[-1])]
    Image.new("RGB", (8, 8), (99, 0, 0)).save(last)
    after = made()[1]
    assert {key for key in before if before[key] != after[key]} == {"files"}


def wds(folder, value):
    """A folder in the clip-benchmark layout; all values make files of one size."""
    (folder / "test").mkdir(parents=True, exist_ok=True)
    (folder / "classnames.txt").write_text("cat\ndog")
    (folder / "zeroshot_classification_templates.txt").write_text("a {c}")
    (folder / "test" / "nshards.txt").write_text("1")
    picture = io.BytesIO()
    Image.new("RGB", (8, 8), (value,) * 3).save(picture, "BMP")
    with tarfile.open(folder / "test" / "0.tar", "w") as shard:
        for name, data in (("a.bmp", picture.getvalue()), ("a.cls", b"0")):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            shard.addfile(member, io.BytesIO(data))


@pytest.mark.parametrize("kind", ["folder", "address", "large shard"])
def test_shards_count_by_content(tmp_path, monkeypatch, kind):
    monkeypatch.setenv("MMCOA_DATA", str(tmp_path))
    if kind == "large shard":
        monkeypatch.setattr(identity, "HASHED_WHOLE", 1)
        monkeypatch.setattr(identity, "LARGE", 5000)
    name = "wds:https://example.org/mine" if kind == "address" else f"wds:{tmp_path}/mine"
    found = []
    for value in (1, 2):
        wds(tmp_path / "mine", value)
        found.append(identity.dataset(name))
    assert found[0] != found[1] and found[1] == identity.dataset(name)


def test_pictures_behind_a_link_count(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "elsewhere").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "elsewhere" / "0.png")
    os.symlink(tmp_path / "elsewhere", tmp_path / "mine" / "cat")
    os.symlink(tmp_path / "mine", tmp_path / "mine" / "cat" / "circle")
    before = identity.dataset(str(tmp_path / "mine"))
    Image.new("RGB", (8, 8), (1, 1, 1)).save(tmp_path / "elsewhere" / "0.png")
    assert identity.dataset(str(tmp_path / "mine")) != before


@pytest.mark.parametrize(
    "beside", ["open_clip_config.json", "tokenizer.json", "merges.txt", "spiece.model", "model.safetensors"]
)
def test_every_file_that_a_model_is_read_from_counts(tmp_path, tiny, beside):
    save_checkpoint(tiny, tmp_path / "mine")
    before = identity.model(str(tmp_path / "mine"))
    path = tmp_path / "mine" / beside
    path.write_bytes((path.read_bytes() if path.exists() else b"") + b" ")
    assert identity.model(str(tmp_path / "mine")) != before


def test_files_beside_weights_of_transformers_count(tmp_path):
    (tmp_path / "model.bin").write_bytes(b"x")
    alone = identity.model(str(tmp_path / "model.bin"))
    (tmp_path / "notes.txt").write_text("nothing is read with it")
    assert identity.model(str(tmp_path / "model.bin")) == alone
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "preprocessor_config.json").write_text("{}")
    before = identity.model(str(tmp_path / "model.bin"))
    (tmp_path / "preprocessor_config.json").write_text('{"image_mean": [0, 0, 0]}')
    assert len({alone, before, identity.model(str(tmp_path / "model.bin"))}) == 3


def test_ids_and_names_of_an_evaluation_count(tiny, small_birds, monkeypatch):
    """Ids draw the random starts; names say which words belong to a class."""
    seen = []
    monkeypatch.setattr(evaluation, "Journal", lambda folder, of: seen.append(of) or stop())
    names = [name.upper() for name in small_birds.class_names]
    for data in (small_birds, replace(small_birds, ids=small_birds.ids + 1), replace(small_birds, class_names=names)):
        with pytest.raises(KeyboardInterrupt):
            mmcoa.evaluate(tiny, data, ["clean"])
    changed = [{key for key in seen[0] if seen[0][key] != other[key]} for other in seen[1:]]
    assert changed == [{"ids"}, {"names"}]
