import ast
import importlib
import re
import tomllib
from pathlib import Path

import pytest
import yaml

from mmcoa.errors import UserError
from mmcoa.study.plan import notebook

ROOT = Path(__file__).parent.parent


def test_environment_lists_what_pyproject_lists():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    conda = yaml.safe_load((ROOT / "environment.yml").read_text())
    pip = next(entry["pip"] for entry in conda["dependencies"] if isinstance(entry, dict))
    assert pip[0] == "--editable ."
    assert sorted(pip[1:]) == sorted(project["dependencies"] + project["optional-dependencies"]["book"])


def test_constraints_pin_every_dependency():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pinned = {re.split("==", line)[0].lower().replace("_", "-") for line in (ROOT / "constraints.txt").read_text().splitlines()}
    wanted = project["dependencies"] + project["optional-dependencies"]["book"] + project["optional-dependencies"]["dev"]
    names = {re.match(r"[A-Za-z0-9_.-]+", text)[0].lower().replace("_", "-") for text in wanted}
    assert names <= pinned, names - pinned


def test_type_checkers_see_what_is_exported():
    """mmcoa/__init__.py says three times what it exports: by name, for type checkers, and where to load it from."""
    import mmcoa

    tree = ast.parse((ROOT / "mmcoa" / "__init__.py").read_text(encoding="utf8"))
    (shown,) = (node for node in tree.body if isinstance(node, ast.If))
    seen = {alias.name: node.module for node in shown.body for alias in node.names}
    assert set(seen) == set(mmcoa.__all__) == set(mmcoa._EXPORTS)
    assert (ROOT / "mmcoa" / "py.typed").is_file()
    for name, module in seen.items():
        assert getattr(importlib.import_module(module), name) is getattr(mmcoa, name)


def test_notebooks_are_found_wherever_one_stands(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notebooks").mkdir()
    mine = tmp_path / "notebooks" / "evaluate.ipynb"
    mine.write_text("{}")
    assert notebook("evaluate") == ROOT / "notebooks" / "evaluate.ipynb"  # not somebody else's of the same name
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "mmcoa"\n')
    assert notebook("evaluate") == Path("notebooks/evaluate.ipynb") and notebook("evaluate").samefile(mine)
    with pytest.raises(UserError, match="no notebook notebooks/nothing.ipynb"):
        notebook("nothing")


def test_assets_carry_their_licences():
    assets = ROOT / "mmcoa" / "assets"
    assert "CC BY-SA 4.0" in (assets / "LICENSE-OpenMoji.txt").read_text()
    assert "Princeton University" in (assets / "LICENSE-WordNet.txt").read_text()
    glyphs = sum((assets / name).stat().st_size for name in ("openmoji_color.png", "openmoji.json"))
    assert glyphs < 5e6


def test_versions_agree():
    import mmcoa

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert mmcoa.__version__ == project["version"] == citation["version"]
    assert f"## {mmcoa.__version__}" in (ROOT / "CHANGELOG.md").read_text()


def test_nothing_unpickles():
    """No call that could run code from a file: weights are safetensors, tables JSON, profiles safe YAML."""
    forbidden = ("pickle.load", "torch.load(", "yaml.load(", "yaml.unsafe_load", "allow_pickle=True", "extractall", "scipy.io")
    for path in [*ROOT.glob("mmcoa/**/*.py"), *ROOT.glob("notebooks/*.ipynb")]:
        text = path.read_text(encoding="utf8")
        if (
            path.name == "archives.py"
        ):  # the one place that unpacks; tests/datasets/test_download.py tries to get out of its folder
            text = text.replace('opened.extractall(folder, filter="data")', "").replace("opened.extractall(folder)", "", 1)
        for safe in (
            "io.BytesIO(read(IMAGE)), weights_only=True",
            'path, map_location="cpu", weights_only=True',
        ):  # tensors alone
            text = text.replace(f"torch.load({safe})", "")
        assert not any(word in text for word in forbidden), path
