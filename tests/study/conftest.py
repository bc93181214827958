"""A tiny study: a random one-layer CLIP in a folder, and a profile of two data sets that takes seconds a process."""

import json
import shutil
from pathlib import Path

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


@pytest.fixture
def project(tmp_path, monkeypatch, tiny_model):
    """A checkout that holds notebooks/ and models/tiny alone, made the current one: all paths in a study are relative."""
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "mmcoa"\n')
    for name in ("finetune", "evaluate"):
        shutil.copy(NOTEBOOKS / f"{name}.ipynb", tmp_path / "notebooks")
    shutil.copytree(tiny_model, tmp_path / "models" / "tiny")
    monkeypatch.chdir(tmp_path)
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


@pytest.fixture
def write_profile(project):
    """Function: write PROFILE with changes (dotted keys) to mini.yaml; returns its path."""

    def write(**changes):
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

    return write
