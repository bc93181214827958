"""The machine that tests see, and fixtures: a tiny random CLIP (seconds on CPU) and the embedded model.

Marker `slow`: comparisons with other programs, benchmarks, several processes. `pytest -m "not slow"` leaves them out.
"""

import os
import tempfile

# Before torch and open_clip are imported. Neither models in the user's cache nor his GPUs are used.
os.environ["HF_HUB_OFFLINE"] = "1"  # a look-up without network takes a minute to fail
os.environ["HF_HOME"] = os.environ["HF_HUB_CACHE"] = os.path.join(tempfile.gettempdir(), "mmcoa-tests-have-no-hub")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # models are tiny, and pytest-xdist has a process on each core already

import json
import shutil
from dataclasses import replace
from pathlib import Path

import filelock
import hypothesis
import pytest
import torch

import mmcoa
from mmcoa.model.loading import create_model, embedded_folder

# The same examples everywhere, at whatever speed; nothing is written beside the tests.
hypothesis.settings.register_profile("mmcoa", deadline=None, derandomize=True, database=None)
hypothesis.settings.load_profile("mmcoa")

ROOT = Path(__file__).parents[1]
SHARED = os.path.join(os.path.dirname(__file__), "..", "..", "shared", "data")


# Begun first, the longest or most patient at the head, so that no core is idle at the end. The published book is asked for by
# several: others stand between, as one renders it and the rest would wait.
FIRST = (
    *("browser/test_pages.py", "study/test_slurm.py", "test_wheel.py", "study/test_runner.py", "attacks/test_torchattacks.py"),
    *("study/test_gallery.py", "study/test_workflow.py", "report/test_build.py", "test_recipes.py", "test_benchmarks.py"),
    *("training/test_loop.py", "training/test_distributed.py", "browser/test_pdf.py", "evaluation/test_clip_benchmark.py"),
    *("training/test_identity.py", "attacks/test_image_properties.py", "report/test_claims.py", "study/test_storage.py"),
)


def pytest_collection_modifyitems(items):
    """xdist hands modules out in this order (--no-loadscope-reorder)."""
    places = {str(ROOT / "tests" / name): place for place, name in enumerate(FIRST)}
    items.sort(key=lambda item: places.get(str(item.path), len(FIRST)))


@pytest.fixture(scope="session", autouse=True)
def cache_folder(tmp_path_factory):
    """Tests neither read nor write the user's cache, and none of his settings counts."""
    os.environ["MMCOA_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    names = ("MMCOA_DATA", "MMCOA_HUB", "MMCOA_COMMIT", "MMCOA_RUNNER", "MMCOA_STUDY", "MMCOA_RESULTS")
    for name in (*names, "WNSEARCHDIR", "NLTK_DATA"):
        os.environ.pop(name, None)


@pytest.fixture(scope="session")
def published(tmp_path_factory):
    """Folder of the published book, rendered with warnings as errors: once, by whichever worker asks first."""
    from mmcoa.report import build

    own = tmp_path_factory.getbasetemp()
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "published"
    done = folder.with_name("published.done")
    with filelock.FileLock(f"{folder}.lock"), pytest.MonkeyPatch.context() as patch:
        if not done.is_file():
            patch.chdir(ROOT)
            build.build_book(output=folder)
            done.touch()
    return folder


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory):
    """Configuration and tokenizer of a one-layer CLIP, 16 px, without weights."""
    folder = tmp_path_factory.mktemp("tiny") / "tiny-clip"
    shutil.copytree(embedded_folder("openmoji-clip"), folder, ignore=shutil.ignore_patterns("*.safetensors", "mmcoa.json"))
    config = json.loads((folder / "open_clip_config.json").read_text())
    config["model_cfg"]["embed_dim"] = 16
    config["model_cfg"]["vision_cfg"] |= {"image_size": 16, "layers": 1, "width": 32, "head_width": 16, "patch_size": 8}
    config["model_cfg"]["text_cfg"] |= {"width": 32, "heads": 2, "layers": 1}
    config["preprocess_cfg"]["size"] = [16, 16]
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture
def tiny(tiny_folder):
    """A fresh tiny model; its weights depend on nothing but the seed."""
    return create_model(tiny_folder, seed=0, name="tiny-clip").eval()


@pytest.fixture(scope="session")
def embedded():
    """The embedded model. Tests must not change it."""
    return mmcoa.load_model("openmoji-clip").requires_grad_(False)


@pytest.fixture(scope="session")
def birds():
    """42 pictures of birds, two of each class."""
    return mmcoa.load_dataset("openmoji/birds", samples=42)


@pytest.fixture
def small_birds(birds):
    """21 pictures at 16 px, for the tiny model."""
    small = birds.prefix(21)
    pixels = torch.nn.functional.interpolate(small.images.float(), size=16, mode="area").round().to(torch.uint8)
    return replace(small, images=pixels)


@pytest.fixture
def shared_data():
    """Folder of real photographs beside the checkout; tests that need it are skipped where it is absent."""
    if not os.path.isdir(SHARED):
        pytest.skip("no photographs beside this checkout")
    return os.path.abspath(SHARED)
