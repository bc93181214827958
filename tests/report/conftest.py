"""Synthetic studies, made once, as packed tables in one folder of results."""

import pytest

from mmcoa.report import results
from mmcoa.store import packed

from . import synthetic


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """Results of the studies `synthetic` (with sweeps), `plain` (without), `rich` (with models in distribution, few-shot
    ones, a variant of a method, training logs, a gallery) and `ablations`, and benchmarks."""
    made = tmp_path_factory.mktemp("made") / "results"
    packed.write(made / "synthetic", synthetic.study())
    packed.write(made / "plain", synthetic.study(sweeps=()))
    rich = synthetic.study(synthetic.RICH, synthetic.BENT, trained="openmoji/clothing", logs=True)
    packed.write(made / "rich", rich)
    packed.write(made / "ablations", synthetic.study(synthetic.VARIANTS, sweeps=(), trained="openmoji/others"))
    synthetic.write_gallery(made / "rich" / "gallery")
    synthetic.write_benchmarks(made)
    return made


@pytest.fixture(scope="session")
def bare(tmp_path_factory):
    """Results of the study `plain` and nothing else."""
    made = tmp_path_factory.mktemp("bare") / "results"
    packed.write(made / "plain", synthetic.study(sweeps=()))
    return made


@pytest.fixture(scope="session")
def study(folder):
    return results.load("synthetic", folder)


@pytest.fixture(scope="session")
def plain(folder):
    return results.load("plain", folder)


@pytest.fixture(scope="session")
def rich(folder):
    return results.load("rich", folder)
