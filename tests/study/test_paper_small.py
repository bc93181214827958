"""The profile `paper-small` end to end, rehearsed: random weights in OpenAI's format, miniatures of the data, two steps.

It runs in a copy of the package whose records count the miniatures' pictures.
"""

import os
import shutil
import subprocess
import sys

import open_clip
import pytest
import torch
import yaml

import mmcoa
from mmcoa.report import results
from mmcoa.study.profiles import load_profile, shipped_profiles
from tests.datasets import miniatures

VISION = {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16}
CHECKED = ("STL10", "Flowers102")
TEXT = {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 1}


def small_data(project, names):
    """Write miniatures under data/, and the package that knows their sizes."""
    package = shutil.copytree(os.path.dirname(mmcoa.__file__), project / "mmcoa", ignore=shutil.ignore_patterns("__pycache__"))
    path = package / "datasets" / "records" / "paper.yaml"
    records = yaml.safe_load(path.read_text())
    (project / "data").mkdir()
    for name in names:
        counts = miniatures.write(name, project / "data")
        records[name] |= {"total": counts["all"]} if "all" in counts else {"splits": records[name]["splits"] | counts}
    path.write_text(yaml.safe_dump(records))
    with (package / "datasets" / "torchvision.py").open("a") as reader:  # torchvision knows the digests of the whole files
        reader.write("\n\nimport torchvision\n")
        reader.writelines(f"torchvision.datasets.{name}._check_integrity = lambda self: True\n" for name in CHECKED)


@pytest.mark.slow
def test_it_runs_end_to_end(project):
    torch.manual_seed(0)
    state = open_clip.CLIP(embed_dim=16, vision_cfg=VISION, text_cfg=TEXT, quick_gelu=True).state_dict()
    numbers = {"input_resolution": 32, "context_length": 77, "vocab_size": 49408}
    torch.save(state | {name: torch.tensor(value) for name, value in numbers.items()}, project / "clip.pt")
    profile = load_profile(shipped_profiles()["paper-small"])
    small_data(project, profile.evaluate.datasets)
    changed = {"extends": "paper-small", "name": "rehearsal", "base_model": "clip.pt", "device": "cpu"}
    changed |= {"train": {"steps": 2, "batch_size": 4}, "models": [{"defense": "mmcoa"}]}
    changed |= {"evaluate": {"samples": 2, "steps": 1, "check_dataset": None}}
    levels = {"name": "meaning", "datasets": ["cifar10"], "samples": 2, "attacks": ["text"]}
    changed |= {"sweeps": [levels | {"vary": {"text_threat": ["any", "meaning"]}}]}
    (project / "rehearsal.yaml").write_text(yaml.safe_dump(changed))
    command = [sys.executable, "-m", "mmcoa", "run", "rehearsal.yaml", "--jobs", "2"]
    place = os.environ | {"PYTHONPATH": str(project), "MMCOA_DATA": str(project / "data")}
    done = subprocess.run(command, cwd=project, env=place, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    found = results.load("rehearsal", project / "results")
    assert set(found.rows.dataset) == set(profile.evaluate.datasets) and found.methods == ["mmcoa"]
    assert set(found.attacks) == set(profile.evaluate.attacks) and set(found.rows.n) == {2}
    assert set(found.sweep("meaning")) == {"any", "meaning"}
