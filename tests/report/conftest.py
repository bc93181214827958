"""Synthetic studies, made once, as packed tables in one folder of results; and committed ones."""

from pathlib import Path

import pytest

from mmcoa.report import results
from mmcoa.store import packed

from . import synthetic


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """Results of the studies `plain` and `rich` (with sweeps, models in distribution, variants, training logs)."""
    made = tmp_path_factory.mktemp("made") / "results"
    packed.write(made / "plain", synthetic.study())
    packed.write(made / "rich", synthetic.study(synthetic.RICH, synthetic.SWEEPS, "openmoji/clothing", logs=True))
    return made


@pytest.fixture(scope="session")
def plain(folder):
    return results.load("plain", folder)


@pytest.fixture(scope="session")
def rich(folder):
    return results.load("rich", folder)


@pytest.fixture(scope="session")
def committed():
    """Folder of the results that git keeps."""
    return Path(__file__).parents[2] / "results"


@pytest.fixture(scope="session")
def main(committed):
    return results.load("main", committed)
