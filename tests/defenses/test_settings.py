"""What every defence states in its file, and a defence's own settings: read without torch, checked wherever they are given."""

import inspect
import subprocess
import sys
from dataclasses import FrozenInstanceError

import pytest
import torch

from mmcoa import defenses
from mmcoa.cli import main as cli
from mmcoa.cli.training import read_settings
from mmcoa.datasets.batches import ShuffledDataset
from mmcoa.errors import UserError
from mmcoa.study.profiles import load_profile, shipped_profiles
from mmcoa.threat import ThreatModel
from mmcoa.training.config import KINDS
from mmcoa.training.finetune import fine_tune

NAMES = defenses.names()


@pytest.mark.parametrize("name", NAMES)
def test_a_defence_states_what_it_is(name):
    record, module = defenses.record(name), defenses.load(name)
    assert len(record.summary) > 20 and record.version >= 1 and record.trains and callable(module.objective)
    assert (record.trains, record.inner, record.settings) == (module.TRAINS, module.INNER, getattr(module, "SETTINGS", {}))


@pytest.mark.parametrize("name", NAMES)
def test_own_settings_are_no_settings_of_a_training(name):
    """`--set name=value` means one of the two."""
    assert not defenses.record(name).settings.keys() & (KINDS.keys() | inspect.signature(fine_tune).parameters.keys())


@pytest.mark.parametrize("name", NAMES)
def test_inner_attacks_are_those_that_run(name, tiny, small_birds, monkeypatch):
    """With an inner attack taken away, the defence that runs it fails, and no other does."""
    batch = ShuffledDataset(small_birds, 8, 0)(0)
    threat = ThreatModel(epsilon="4/255", steps=1, candidate_source="table:train")
    defense, module = defenses.choose(name), defenses.load(name)

    class Ran(Exception):
        pass

    def ran(*arguments, **settings):
        raise Ran

    for kind, functions in {"image": ("pgd", "feature", "ascend"), "text": ("search",)}.items():
        with monkeypatch.context() as patch:
            for place in (module, defenses.load("mmcoa")):
                for function in functions:
                    patch.setattr(place, function, ran, raising=False)
            try:
                defense.objective(tiny, tiny, batch, threat, defense.settings)
                stopped = False
            except Ran:
                stopped = True
        assert stopped == (kind in defense.inner), kind


@pytest.mark.parametrize("name", NAMES)
def test_every_own_setting_does_something(name, tiny, tiny_folder, small_birds):
    """Another value is another loss: no setting that does nothing."""
    from mmcoa.model.loading import create_model

    batch = ShuffledDataset(small_birds, 20, 0)(1)
    threat = ThreatModel(epsilon="4/255", steps=1, candidate_source="table:train")
    frozen, record = create_model(tiny_folder, 1).eval(), defenses.record(name)
    tiny.clip.logit_bias = torch.nn.Parameter(torch.tensor(-10.0))  # without it the sigmoid loss is refused

    def loss(**given):
        defense = defenses.choose(name, given)
        return defense.objective(tiny, frozen, batch, threat, defense.settings)[0].item()

    for key, default in record.settings.items():
        choices = record.kinds[key].choices
        value = next(c for c in choices if c != default) if choices else type(default)(default * 3 / 2 + 1)
        value = 1 if key == "edits" else value  # of so few prompts more edits are the same ones
        assert loss(**{key: value}) != loss(), key


def test_records_are_read_without_torch():
    code = (
        "import sys; from mmcoa import defenses; [defenses.record(n) for n in defenses.names()]; print('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


def test_an_unknown_defence():
    for function in (defenses.load, defenses.record, defenses.choose):
        with pytest.raises(UserError, match="nearest: mmcoa"):
            function("mmco")


def test_settings_are_read_only_and_complete():
    settings = defenses.choose("mmcoa", {"lambda_image": 0.25}).settings
    assert settings.lambda_image == 0.25 and settings.lambda_text == defenses.record("mmcoa").settings["lambda_text"]
    with pytest.raises(FrozenInstanceError):
        settings.lambda_image = 1.0
    with pytest.raises(AttributeError):
        _ = settings.lambda_sound


PROFILE = """name: mine
base_model: openmoji-clip
train: {dataset: openmoji/birds, steps: 3}
evaluate: {datasets: [openmoji/birds], attacks: [clean]}
models:
"""
MISTAKES = [
    (
        "mmcoa",
        "lambda_imag",
        0.2,
        "unknown setting 'lambda_imag'; nearest: lambda_image.*'mmcoa' has: lambda_image, lambda_text",
    ),
    ("tecoa", "lambda_image", 0.2, "unknown setting 'lambda_image'.*defence 'tecoa' has: loss"),
    ("mmcoa", "lambda_image", "much", "lambda_image must be a number, got 'much'"),
    ("mmcoa", "lambda_image", -1, "lambda_image must be at least 0, got -1"),
    ("mmcoa", "positives", "indx", "unknown positives 'indx'; nearest: index"),
    ("leaf", "edits", 0, "edits must be at least 1, got 0"),
    ("leaf", "edits", 2.5, "edits must be a whole number, got 2.5|edits must be a whole number, got '2.5'"),
]


@pytest.mark.parametrize("defense, key, value, says", MISTAKES)
def test_a_wrong_setting_is_an_error_everywhere(defense, key, value, says, tmp_path, capsys):
    with pytest.raises(UserError, match=says):
        defenses.choose(defense, {key: value})
    with pytest.raises(UserError, match=says):
        read_settings(defense, {}, [f"{key}={value}"])
    path = tmp_path / "mine.yaml"
    path.write_text(PROFILE + f"  - defense: {defense}\n    with:\n      {key}: {value}\n")
    with pytest.raises(UserError, match=f"^{path}, line {PROFILE.count(chr(10)) + 3}: .*({says})"):
        load_profile(path)
    with pytest.raises(SystemExit) as ended:
        cli.main(["train", "--defense", defense, "--output", "out", "--set", f"{key}={value}"])
    said = capsys.readouterr().err
    assert ended.value.code == 2 and said.count("\n") <= 3 and key in said


@pytest.mark.parametrize(
    "entry, says",
    [
        ("{defense: none, with: {lambda_image: 1}}", "defence 'none' is not trained, so it takes no 'with'"),
        ("{defense: mmcoa, lambda_image: 0.2}", "unknown key 'lambda_image'"),
        ("{defense: mmcoa, with: 3}", "with: input should be a valid dictionary"),
        ("{defense: mmco, with: {lambda_image: 1}}", "unknown defence 'mmco'"),
        ("{defense: mmcoa, epochs: 1}", "give steps or epochs, not both"),
    ],
)
def test_where_own_settings_stand_in_a_profile(tmp_path, entry, says):
    path = tmp_path / "mine.yaml"
    path.write_text(PROFILE + f"  - {entry}\n")
    with pytest.raises(UserError, match=f"^{path}, line {PROFILE.count(chr(10)) + 1}: .*{says}"):
        load_profile(path)
    path.write_text(PROFILE + "  - {defense: mmcoa, epochs: 1, steps: null, with: {lambda_image: 1/4}}\n")
    (entry,) = load_profile(path).models
    assert getattr(entry, "with") == defenses.record("mmcoa").settings | {"lambda_image": 0.25}


def test_flags_and_set_do_not_contradict():
    with pytest.raises(UserError, match="steps is given twice"):
        read_settings("mmcoa", {"steps": 3}, ["steps=4"])
    with pytest.raises(UserError, match="positives is given twice"):
        read_settings("mmcoa", {}, ["positives=index", "positives=class"])
    with pytest.raises(UserError, match="--set takes NAME=VALUE, got 'positives'"):
        read_settings("mmcoa", {}, ["positives"])
    config, own = read_settings("mmcoa", {"steps": 3}, ["lambda-image=1/4", "warmup=2", "positives=index"])
    assert (config.steps, config.warmup, own) == (3, 2, {"lambda_image": 0.25, "positives": "index"})


FLAWS = {
    "states no VERSION": ("VERSION = 1\n", ""),
    "INNER must be a tuple": ('INNER = ("image",)', 'INNER = "image"'),
    "line 9: SETTINGS must be a literal": ("SETTINGS = {", "SETTINGS = {**OTHERS, "),
    "the default of 'smoothing' must be a number": ("0.1", "None"),
    "LEAST has 'smooting', which is none of SETTINGS": ('LEAST = {"smoothing"', 'LEAST = {"smooting"'),
    "smoothing must be at least 0, got -1": ("0.1", "-1.0"),
}
FILE = '''"""`flawed`: an example of a file with a mistake in it, for a test."""

from mmcoa.defenses.tecoa import objective

TRAINS = ("image",)
INNER = ("image",)
VERSION = 1

# a line
SETTINGS = {"smoothing": 0.1}
LEAST = {"smoothing": 0}
'''.replace("# a line\n", "")


@pytest.mark.parametrize("says", FLAWS)
def test_a_flawed_file_says_what_is_wrong(tmp_path, monkeypatch, says):
    monkeypatch.setattr(defenses, "__path__", [*defenses.__path__, str(tmp_path)])
    (tmp_path / "flawed.py").write_text(FILE)
    assert defenses.record("flawed").settings == {"smoothing": 0.1}
    (tmp_path / "flawed.py").write_text(FILE.replace(*FLAWS[says], 1))
    with pytest.raises(UserError, match=f"flawed.py.*{says}"):
        defenses.record("flawed")


@pytest.mark.parametrize("name", shipped_profiles())
def test_shipped_profiles_give_settings_that_there_are(name):
    for entry in load_profile(name).models:
        if entry.defense != "none":
            assert getattr(entry, "with").keys() == defenses.record(entry.defense).settings.keys()
