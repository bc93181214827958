"""The positive control: its rule, its table, and the command."""

import pandas as pd
import pytest

from mmcoa import control as module
from mmcoa.control import Verdict, control, default_datasets
from mmcoa.errors import UserError
from mmcoa.training.config import TrainConfig


def test_the_rule():
    good = Verdict("t", ("a",), undefended=15.0, defended=20.0, gain=5.0, low=0.1, high=9)
    assert good.passes and str(good).endswith("passes")
    for change in ({"undefended": 15.1}, {"gain": 4.9}, {"low": 0.0}):
        assert not Verdict(**{**good.__dict__, **change}).passes


def test_default_data_sets_are_the_unseen_ones_of_the_family():
    names = default_datasets("lite-clip", "photos/cifar10")
    assert "photos/cifar100" in names and "photos/cifar10" not in names and "photos/imagenette" not in names
    assert all(name.startswith("openmoji/") for name in default_datasets("openmoji-clip", "openmoji/birds"))
    with pytest.raises(UserError, match="no family"):
        default_datasets("lite-clip", "wds:somewhere")


def test_table_and_verdicts_are_those_of_the_outcomes(tmp_path, monkeypatch):
    kept = {}
    real = module.evaluate

    def evaluate(model, dataset, *arguments):
        found = kept[model.name, dataset.name] = real(model, dataset, *arguments)
        return found

    monkeypatch.setattr(module, "evaluate", evaluate)
    config = TrainConfig(steps=2, batch_size=8, samples=40, held_out=0, epsilon="4/255")
    base, others = "openmoji/birds", ["openmoji/plants", "openmoji/land-vehicles"]
    table, verdicts = control("openmoji-clip", base, tmp_path / "tecoa", others, samples=12, config=config)
    assert list(table["dataset"]) == [base, *others]
    assert table["role"][0] == "base"
    assert [verdict.task for verdict in verdicts] == ["in distribution", "out of distribution"]
    after = {name: kept["tecoa", name].outcomes for name in table["dataset"]}
    before = {name: kept["openmoji-clip", name].outcomes for name in table["dataset"]}
    for row in table.itertuples():
        assert row.image == pytest.approx(100 * before[row.dataset]["image_correct"].mean())
        assert row.image_tecoa == pytest.approx(100 * after[row.dataset]["image_correct"].mean())
    outside = verdicts[1]
    wanted = table[table["dataset"].isin(outside.datasets)]
    assert outside.gain == pytest.approx((wanted["image_tecoa"] - wanted["image"]).mean())
    assert outside.undefended == pytest.approx(wanted["image"].mean()) and outside.low <= outside.gain <= outside.high
    assert isinstance(table, pd.DataFrame) and set(table["n"]) == {12}
