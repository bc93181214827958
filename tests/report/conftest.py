"""A synthetic study on disk, made once."""

import pytest

from mmcoa.clip import create_model, save_checkpoint
from mmcoa.report import results

from . import synthetic


@pytest.fixture(scope="session")
def synthetic_profile(tmp_path_factory, tiny_folder):
    """(profile, folder of all results): made-up outcomes of a tiny random model."""
    folder = tmp_path_factory.mktemp("synthetic")
    save_checkpoint(create_model(tiny_folder, name="tiny-clip"), folder / "base", {"name": "tiny-clip"})
    profile = synthetic.write_profile(folder, folder / "base")
    synthetic.write_results(profile, folder / "results")
    return str(profile), folder / "results"


@pytest.fixture(scope="session")
def study(synthetic_profile):
    return results.load(*synthetic_profile)
