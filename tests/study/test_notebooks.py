"""The notebooks as stored: commented parameters, no outputs; as run: short cells that call the library."""

import ast
import io
import tokenize
from pathlib import Path

import matplotlib
import nbformat
import pytest

import mmcoa.datasets
from mmcoa.errors import UserError
from mmcoa.model.loading import load_model
from mmcoa.study.plan import KINDS, make_plan, write_specs
from mmcoa.study.settings import EVALUATE_DEFAULTS
from mmcoa.training.config import COMMON, TrainConfig

FOLDER = Path(__file__).parents[2] / "notebooks"
NAMES = ("align", "pretrain", "finetune", "evaluate", "gallery")


def read(name):
    return nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)


def parameters_cell(notebook):
    (cell,) = (cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", []))
    return cell


def names_in(source):
    return [node.targets[0].id for node in ast.parse(source).body]


@pytest.mark.parametrize("name", NAMES)
def test_stored_without_outputs(name):
    notebook = read(name)
    nbformat.validate(notebook)
    assert (notebook.nbformat, notebook.nbformat_minor) == (4, 5)
    assert notebook.metadata.kernelspec.name == "python3"
    assert notebook.cells[0].cell_type == "markdown" and notebook.cells[0].source.startswith("# ")
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert code[0] is parameters_cell(notebook)
    for cell in code:
        assert cell.outputs == [] and cell.execution_count is None
    assert "papermill" not in notebook.metadata and "widgets" not in notebook.metadata


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_has_a_comment(name):
    source = parameters_cell(read(name)).source
    commented = {t.start[0] for t in tokenize.generate_tokens(io.StringIO(source).readline) if t.type == tokenize.COMMENT}
    assert commented == {node.lineno for node in ast.parse(source).body}


def test_parameters_of_a_training_are_settings_with_their_defaults():
    """All that are common; the others come as `more`."""
    variables = {}
    exec(parameters_cell(read("finetune")).source, variables)
    defaults = {name: getattr(TrainConfig(), name) for name in COMMON}
    assert {name: variables[name] for name in COMMON} == defaults


def test_defaults_of_the_notebook_are_those_of_a_profile():
    """But for the number of pictures: a first run by hand is short."""
    variables = {}
    exec(parameters_cell(read("evaluate")).source, variables)
    differ = {name for name, value in EVALUATE_DEFAULTS.items() if variables[name] != value}
    assert differ == {"samples"}


def execute(name, **parameters):
    """Run a notebook's code cells in this process (no kernel); returns their variables."""
    matplotlib.use("Agg")
    variables = {}
    for cell in read(name).cells:
        if cell.cell_type == "code":
            exec(compile(cell.source, f"{name}.ipynb", "exec"), variables)
            if "parameters" in cell.metadata.get("tags", []):
                assert parameters.keys() <= variables.keys()
                variables |= parameters
    return variables


def test_pretrain(project, monkeypatch):
    monkeypatch.setattr(mmcoa.datasets, "openmoji_names", lambda: ["openmoji/birds", "openmoji/tools"])  # for speed
    made = execute("pretrain", steps=2, batch_size=32, samples=4, published="runs/pretrain/openmoji-clip")
    model = load_model("runs/pretrain/openmoji-clip")
    assert model.name == "openmoji-clip" and model.metadata["epsilon"] == "2/255"
    assert "trained_on" not in model.metadata and model.metadata.get("defense", "none") == "none"
    assert len(made["rows"]) == 3 and set(made["rows"].task) == {"zero_shot"}
    assert Path("runs/pretrain/openmoji-clip/model.safetensors").stat().st_size < 6e6


def test_finetune_by_hand(project, capsys):
    own, more = {"lambda_image": 0.25}, {"log_every": 1, "betas": [0.8, 0.9]}
    short = dict(samples=8, steps=2, batch_size=4, inner_steps=1)
    execute("finetune", model="models/tiny", dataset="openmoji/birds", own=own, more=more, **short)
    model = load_model("runs/finetune")
    assert model.name == "finetune" and model.metadata["training"]["defense"]["with"]["lambda_image"] == 0.25
    assert model.metadata["training"]["config"]["betas"] == [0.8, 0.9]
    assert "nothing was trained" not in capsys.readouterr().out
    execute("finetune", model="models/tiny", dataset="openmoji/birds", own=own, more=more, **short)
    assert "runs/finetune holds this very run, finished before: nothing was trained" in capsys.readouterr().out
    with pytest.raises(UserError, match=r"another training run \(config.seed 0, now 1"):
        execute("finetune", model="models/tiny", dataset="openmoji/birds", own=own, more=more, seed=1, **short)
    with pytest.raises(UserError, match="samples must be a whole number, got '4'"):  # papermill -r samples 4
        execute("finetune", samples="4")
    with pytest.raises(UserError, match="unknown training setting 'lambda_image'"):
        execute("finetune", model="models/tiny", dataset="openmoji/birds", more={"lambda_image": 0.25}, **short)
    assert not Path("results").exists()


def test_notebooks_compute_what_a_plan_hands_them(write_profile):
    plan = make_plan(write_profile())
    write_specs(plan)
    for process in plan.pending:
        execute(KINDS[process.kind], plan=str(plan.spec(process)))
    assert make_plan("mini.yaml").pending == [] and not Path("results").exists()


def test_any_other_setting_by_hand(project):
    made = execute("evaluate", model="models/tiny", samples=4, steps=1, attacks=["text"], more={"attackable": "class_name"})
    assert set(made["table"].attackable) == {"class_name"}


def test_evaluate_by_hand_writes_nothing(project, capsys):
    made = execute("evaluate", model="models/tiny", samples=4, steps=1)
    assert list(made["table"].attack) == ["clean", "image", "text", "sequential"]
    assert "openmoji/birds: 4 of 4 samples" in capsys.readouterr().out
    assert sorted(path.name for path in Path().iterdir()) == ["models", "notebooks", "pyproject.toml"]


def test_evaluate_with_a_sweep_by_hand(project, capsys):
    sweep = {"name": "steps", "attacks": ["image"], "vary": {"steps": [1, 2]}}
    made = execute("evaluate", model="models/tiny", samples=4, attacks=["clean"], sweeps=[sweep])
    assert list(made["table"].sweep_value) == ["", "1", "2"]
    assert list(made["swept"].steps) == [1, 2]
    assert "openmoji/birds, steps 2: 4 of 4 samples" in capsys.readouterr().out
