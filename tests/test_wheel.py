"""The built wheel, installed in an environment of its own and used in an empty folder: nothing of the checkout is in reach."""

import json
import os
import re
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PROFILE = """
name: tiny
base_model: openmoji-clip
train: {dataset: openmoji/birds, steps: 1, batch_size: 4, inner_steps: 1}
models: [{defense: tecoa, seeds: [0]}]
evaluate: {datasets: [openmoji/birds], split: test, samples: 4, attacks: [clean, image], steps: 1}
"""
EMBEDDED = sorted(path.parent.name for path in ROOT.glob("mmcoa/assets/*/model.safetensors"))

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel of this checkout, built by the running environment's own tools: no network."""
    folder = tmp_path_factory.mktemp("wheel")
    build = ["wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", folder, ROOT]
    subprocess.run([sys.executable, "-m", "pip", *build], check=True)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """`run(*words)` in an empty folder: a command of an environment that has the wheel, and else the packages of this one."""
    place = tmp_path_factory.mktemp("environment")
    venv.create(place, with_pip=False, symlinks=True)
    python = place / "bin" / "python"
    packages = Path(sysconfig.get_path("purelib", vars={"base": str(place), "platbase": str(place)}))
    # A folder named in a .pth file is searched, but .pth files in it, such as that of an editable mmcoa, are not read.
    (packages / "running.pth").write_text(sysconfig.get_path("purelib"))
    install = ["install", "--quiet", "--no-deps", "--no-index", "--ignore-installed", wheel]
    subprocess.run([sys.executable, "-m", "pip", "--python", python, *install], check=True)
    empty = tmp_path_factory.mktemp("empty")
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "MMCOA_DATA")}
    environment |= {"MMCOA_CACHE": str(empty / "cache"), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}

    def run(*words):
        command = [place / "bin" / words[0], *map(str, words[1:])]
        done = subprocess.run(command, cwd=empty, env=environment, capture_output=True, text=True, timeout=900)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    run.folder, run.place = empty, place
    return run


def test_wheel_holds_what_git_keeps(wheel):
    kept = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "mmcoa", "notebooks"], cwd=ROOT, capture_output=True, text=True
    )
    if kept.returncode:
        pytest.skip("no git repository")
    wanted = {
        path if path.startswith("mmcoa/") else f"mmcoa/{path}" for path in kept.stdout.split("\n") if (ROOT / path).is_file()
    }
    assert "mmcoa/notebooks/evaluate.ipynb" in wanted
    assert wanted <= set(zipfile.ZipFile(wheel).namelist())


def test_embedded_models_are_listed(installed):
    assert Path(installed("python", "-c", "import mmcoa; print(mmcoa.__file__)").strip()).is_relative_to(installed.place)
    listed = installed("mmcoa", "models")
    assert [name for name in EMBEDDED if name not in listed] == []


@pytest.mark.parametrize("model", EMBEDDED)
def test_evaluate(installed, model):
    output = f"rows-{model}.json"
    words = ["--samples", 4, "--attack", "clean", "--attack", "image", "--steps", 1, "--check-samples", 0, "--output", output]
    installed("mmcoa", "evaluate", "--model", model, *words)
    rows = json.loads((installed.folder / output).read_text())
    assert [(row["model"], row["attack"], row["n"]) for row in rows] == [(model, "clean", 4), (model, "image", 4)]


def test_train(installed):
    words = ["--dataset", "openmoji/birds", "--steps", 2, "--batch-size", 4, "--inner-steps", 1, "--output", "trained"]
    installed("mmcoa", "train", "--defense", "tecoa", "--model", "openmoji-clip", *words)
    assert (installed.folder / "trained" / "model.safetensors").is_file()


def test_run_a_study(installed):
    """As `mmcoa run quick`, smaller: plan, Snakemake, notebooks, records."""
    (installed.folder / "tiny.yaml").write_text(PROFILE)
    assert "tiny: 2 of 2 cells are done" in installed("mmcoa", "run", "tiny.yaml")
    assert re.search(r"done +2\b", installed("mmcoa", "status", "tiny.yaml"))
    assert "quick" in installed("mmcoa", "run", "quick", "--dry-run")
