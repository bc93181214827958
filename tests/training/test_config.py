"""One place for a setting of a training: whatever shows, reads or takes one follows from `TrainConfig`."""

import ast
import inspect
import json
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import mmcoa
from mmcoa.cli.training import read_settings
from mmcoa.cli.training import train as command
from mmcoa.errors import UserError
from mmcoa.model.clip import PRECISIONS
from mmcoa.study.cells import train_cell
from mmcoa.study.settings import READING, TrainSettings
from mmcoa.training.config import COMMON, HELP, KINDS, PUBLIC, TrainConfig, checked, parsed
from mmcoa.training.trainable import TOWERS

DEFAULTS = {field.name: field.default for field in fields(TrainConfig)}
OTHER = {  # a value of each type that is allowed wherever the type is
    int: 7,
    float: 0.125,
    bool: True,
    str: None,
    tuple: (0.5, 0.25),
}


def other(name):
    """A value that is not the setting's default."""
    kind = KINDS[name]
    if kind.choices:
        return next(choice for choice in kind.choices if choice != DEFAULTS[name])
    return "characters" if name == "candidate_source" else "test" if name == "split" else OTHER[kind.type]


def test_every_setting_says_what_it_is_and_its_default_is_allowed():
    for name, default in DEFAULTS.items():
        assert len(HELP[name]) > 5 and checked(name, default) == default
        assert checked(name, other(name)) == other(name) != default
        if name in PUBLIC:
            assert default is None and checked(name, PUBLIC[name]) == PUBLIC[name]


def test_settings_are_read_without_torch():
    code = "import sys; import mmcoa.training.config, mmcoa.cli.training, mmcoa.study.profiles; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


@pytest.mark.parametrize("name", DEFAULTS)
def test_a_setting_reaches_profile_cell_command_line_and_notebook(name):
    """By construction: a field of `TrainConfig` needs no other edit."""
    value = other(name)
    text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
    config, own = read_settings("mmcoa", {}, [f"{name}={text}"])
    assert getattr(config, name) == value and own == {}
    if name == "seed":  # of which a model of a profile has several
        return
    assert (
        TrainSettings.model_fields[name].default == (list(value) and DEFAULTS[name] and list(DEFAULTS[name]))
        if isinstance(value, tuple)
        else TrainSettings.model_fields[name].default == DEFAULTS[name]
    )
    settings = json.loads(TrainSettings(**{name: value}).model_dump_json()) | {"defense": "mmcoa", "with": {}}
    told = {**settings, "seed": 0, "dataset": "openmoji/birds"}
    cell = train_cell("x", "x", "weights", **told)
    again = {key: value for key, value in cell.parameters.items() if key in DEFAULTS}
    assert getattr(TrainConfig.of(again), name) == value
    plain = train_cell(
        "x", "x", "weights", **{**told, **json.loads(TrainSettings().model_dump_json()), "dataset": "openmoji/birds"}
    )
    assert cell.identity != plain.identity


def test_a_study_s_defaults_are_those_of_the_dataclass():
    dumped = TrainSettings().model_dump()
    assert TrainConfig(**{key: dumped[key] for key in DEFAULTS if key != "seed"}) == TrainConfig()


def test_flags_of_the_command_line_are_the_common_settings():
    given = set(inspect.signature(command).parameters)
    inputs = {"defense", "output", "model", "arch", "dataset", "settings", "device", "root", *READING}
    assert given - inputs == set(COMMON)


def test_the_notebook_s_parameters_are_settings_with_equal_defaults():
    notebook = json.loads((Path(__file__).parents[2] / "notebooks" / "finetune.ipynb").read_text(encoding="utf8"))
    (cell,) = (cell for cell in notebook["cells"] if "parameters" in cell["metadata"].get("tags", []))
    shown = {node.targets[0].id: ast.literal_eval(node.value) for node in ast.parse("".join(cell["source"])).body}
    assert {name: shown[name] for name in shown if name in KINDS} == {name: DEFAULTS[name] for name in COMMON}
    source = "\n".join("".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code")
    read = {node.id for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    assert shown.keys() - KINDS.keys() <= read  # the settings themselves are read by their names


def test_what_a_choice_means_elsewhere_is_the_same():
    assert KINDS["precision"].choices == PRECISIONS and set(KINDS["trains"].choices) == set(TOWERS)


@given(st.sampled_from([name for name in DEFAULTS if KINDS[name].type is int]), st.integers(-3, 10))
def test_whole_numbers_have_a_range(name, value):
    least = KINDS[name].least
    if value >= least:
        assert checked(name, value) == parsed(name, str(value)) == value
    else:
        with pytest.raises(UserError, match=f"^{name} must be at least {least}, got {value}$"):
            checked(name, value)


@pytest.mark.parametrize(
    "settings, says",
    [
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"steps": "3"}, "steps must be a whole number, got '3'"),
        ({"steps": True}, "steps must be a whole number, got True"),
        ({"lr": 0}, "lr must be more than 0, got 0.0"),
        ({"lr": float("nan")}, "lr must be a number, got nan"),
        ({"lr": "fast"}, "lr must be a number, got 'fast'"),
        ({"betas": (0.9, 1)}, "betas must be less than 1, got 1.0"),
        ({"betas": 0.9}, "betas must be 2 numbers, such as 0.9,0.98, got 0.9"),
        ({"precision": "fp16"}, "unknown precision 'fp16'; nearest: bf16"),
        ({"precision": None}, "precision needs a value"),
        ({"trains": "txt"}, "nearest: text"),
        ({"epsilon": 2}, "did you mean 2/255"),
        ({"gradient_checkpointing": 1}, "gradient_checkpointing must be true or false, got 1"),
        ({"steps": 1, "epochs": 1}, "give steps or epochs, not both"),
        ({"learning_rate": 1}, "unknown training setting 'learning_rate'"),
    ],
)
def test_impossible_settings(settings, says):
    with pytest.raises(UserError, match=says):
        TrainConfig.of(settings)


def test_numbers_may_be_fractions_and_powers():
    assert TrainConfig(lr="1e-4").lr == 1e-4 and TrainConfig(epsilon="2/255").epsilon == 2 / 255
    assert parsed("lr", "1/1000") == 0.001 and parsed("epsilon", "none") is None and parsed("samples", "None") is None


def test_none_is_the_model_s_own_default(embedded, tiny):
    own = TrainConfig().for_model(embedded.metadata)
    assert (own.lr, own.batch_size, own.steps, own.warmup, own.inner_steps) == (3e-4, 128, 100, 10, 3)
    assert own.epsilon == 2 / 255
    public = TrainConfig().for_model(tiny.metadata)
    assert {name: getattr(public, name) for name in PUBLIC} == PUBLIC
    assert TrainConfig(lr=1e-3).for_model(tiny.metadata).lr == 1e-3
    assert TrainConfig(epochs=2).for_model(embedded.metadata).steps is None  # which the samples decide
    assert own.for_model(tiny.metadata) == own
    with pytest.raises(UserError, match="unknown default in the model's mmcoa.json 'learning_rate'"):
        TrainConfig().for_model({"train_defaults": {"learning_rate": 1}})


def test_the_public_name():
    assert mmcoa.TrainConfig is TrainConfig
