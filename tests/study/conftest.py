"""A tiny study: a random one-layer CLIP in a folder, and a profile of two data sets that takes seconds a process."""

import json
import shutil
from pathlib import Path

import nbformat
import pytest
import yaml

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory, tiny_folder):
    """Checkpoint folder of a random one-layer CLIP."""
    from mmcoa.model.loading import create_model
    from mmcoa.model.saving import save_checkpoint

    metadata = {"name": "tiny", "epsilon": "2/255", "train_defaults": {"lr": 1e-3, "steps": 2, "batch_size": 4, "warmup": 1}}
    return save_checkpoint(create_model(tiny_folder), tmp_path_factory.mktemp("base") / "tiny", metadata)


def checkout(folder, model):
    """A checkout that holds notebooks/ and models/tiny alone; returns its folder."""
    (folder / "notebooks").mkdir()
    (folder / "pyproject.toml").write_text('[project]\nname = "mmcoa"\n')
    for name in ("finetune", "evaluate"):
        shutil.copy(NOTEBOOKS / f"{name}.ipynb", folder / "notebooks")
    shutil.copytree(model, folder / "models" / "tiny")
    return folder


@pytest.fixture
def project(tmp_path, monkeypatch, tiny_model):
    """A checkout, made the current folder: all paths in a study are relative."""
    monkeypatch.chdir(checkout(tmp_path, tiny_model))
    monkeypatch.setenv("PYTHONPATH", str(NOTEBOOKS.parent))
    return tmp_path


PROFILE = {
    "name": "mini",
    "base_model": "models/tiny",
    "device": "cpu",
    "train": {"dataset": "openmoji/birds", "samples": 8, "steps": 2, "batch_size": 4, "inner_steps": 1, "epsilon": "2/255"},
    "models": [{"defense": "none"}, {"defense": "tecoa", "seeds": [0]}],
    "evaluate": {
        "datasets": ["openmoji/birds", "openmoji/tools"],
        "samples": 4,
        "attacks": ["clean", "image", "text"],
        "steps": 1,
    },
}


def profile_with(**changes):
    """PROFILE with changes (dotted keys, `__` for the dot), written to mini.yaml; returns its path."""
    data = json.loads(json.dumps(PROFILE))
    for key, value in changes.items():
        *parents, last = key.split("__")
        place = data
        for parent in parents:
            place = place[parent]
        place[last] = value
    path = Path("mini.yaml")
    path.write_text(yaml.safe_dump(data, sort_keys=False))
    return path


@pytest.fixture
def write_profile(project):
    """Function: `profile_with`, in the current checkout."""
    return profile_with


@pytest.fixture(scope="module")
def run_once(tmp_path_factory, tiny_model):
    """Folder of a checkout in which the study of PROFILE was run to its end, in this process."""
    from mmcoa.study.compute import run_spec
    from mmcoa.study.plan import make_plan, write_specs

    folder = checkout(tmp_path_factory.mktemp("once"), tiny_model)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        plan = make_plan(profile_with())
        write_specs(plan)
        for process in plan.pending:
            run_spec(plan.spec(process))
    return folder


@pytest.fixture
def finished(run_once, tmp_path, monkeypatch):
    """Path of that study's profile, in a copy of the folder that is the current one."""
    monkeypatch.chdir(shutil.copytree(run_once, tmp_path / "copy"))
    return "mini.yaml"


LIGHT = """
import json
from pathlib import Path

import pandas as pd

from mmcoa.identity import MARKER
from mmcoa.store.finished import write_outcomes, write_record
from mmcoa.study.plan import read_spec

spec, cells = read_spec(plan)
for cell in cells:
    if cell.kind == "evaluate":
        write_outcomes(pd.DataFrame({"sample_id": [0], "label": [0], "clean_correct": [True]}), spec["runs"], cell.id)
        write_record(spec["runs"], cell, {"seconds": 1.0}, rows=[{"attack": "clean", "accuracy": 100.0}])
    else:
        folder = Path(spec["output"])
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "mmcoa.json").write_text("{}")
        (folder / MARKER).write_text(json.dumps({"cell": cell.id, "identity": cell.identity}))
        write_record(spec["runs"], cell, {"seconds": 1.0}, training={"seconds": 1.0})
"""


@pytest.fixture
def replace_code(project):
    """Function: put `code` behind the parameters of notebooks/NAME.ipynb, in place of all other cells.

    Without `code`, what the notebook would write, made up, after `before`: torch is not waited for where only the run is tried.
    """

    def replace(name, code=None, before=""):
        path = project / "notebooks" / f"{name}.ipynb"
        notebook = nbformat.read(path, as_version=4)
        notebook.cells = [*notebook.cells[:2], nbformat.v4.new_code_cell(code or before + LIGHT)]
        nbformat.write(notebook, path)

    return replace
