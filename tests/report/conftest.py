"""Synthetic studies on disk, made once."""

import pytest

from mmcoa.model.loading import create_model, save_checkpoint
from mmcoa.report import results

from . import synthetic


@pytest.fixture(scope="session")
def base_model(tmp_path_factory, tiny_folder):
    """Folder of a tiny random model."""
    folder = tmp_path_factory.mktemp("synthetic-base") / "base"
    save_checkpoint(create_model(tiny_folder, name="tiny-clip"), folder, {"name": "tiny-clip"})
    return folder


@pytest.fixture(scope="session")
def synthetic_profile(tmp_path_factory, base_model):
    """(profile, folder of all results): made-up outcomes of a tiny random model, with sweeps, self-checks and benchmarks."""
    folder = tmp_path_factory.mktemp("synthetic")
    profile = synthetic.write_profile(folder, base_model)
    synthetic.write_results(profile, folder / "results")
    synthetic.write_benchmarks(folder / "results")
    return str(profile), folder / "results"


@pytest.fixture(scope="session")
def plain_profile(tmp_path_factory, base_model):
    """The same without sweeps and benchmarks."""
    folder = tmp_path_factory.mktemp("plain")
    profile = synthetic.write_profile(folder, base_model, sweeps=False, name="plain")
    synthetic.write_results(profile, folder / "results")
    return str(profile), folder / "results"


@pytest.fixture(scope="session")
def study(synthetic_profile):
    return results.load(*synthetic_profile)


@pytest.fixture(scope="session")
def plain(plain_profile):
    return results.load(*plain_profile)


@pytest.fixture(scope="session")
def rich_profile(tmp_path_factory, base_model):
    """The same with models in distribution, few-shot ones, a variant of a method, and defended models in the sweep over epsilon."""
    folder = tmp_path_factory.mktemp("rich")
    profile = synthetic.write_profile(folder, base_model, name="rich", trained="openmoji/clothing", entries=synthetic.ENTRIES)
    synthetic.write_results(profile, folder / "results")
    synthetic.write_benchmarks(folder / "results")
    return str(profile), folder / "results"


@pytest.fixture(scope="session")
def rich(rich_profile):
    return results.load(*rich_profile)
