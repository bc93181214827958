"""Stored results are run again and compared; rows are chosen from the command line."""

import shutil
from pathlib import Path

import pandas as pd
import pytest

from mmcoa.cli import main as cli
from mmcoa.errors import UserError
from mmcoa.study.pack import candidates, pack, rows, shown, verify
from mmcoa.study.plan import make_plan

CELLS = Path("runs/mini/cells")


def test_finished_cells_are_reproduced(finished, capsys):
    found, missing = candidates(make_plan(finished))
    assert found and not missing
    said = []
    compared = verify(finished, count=2, seed=1, device="cpu", echo=said.append)
    assert len({row["cell"] for row in compared}) == 2 and said == [f"2 of {len(found)} finished cells, chosen with --seed 1"]
    assert all(
        row["passed"] and row["place"] == "same" and row["moved"] == 0 and row["stored"] == row["again"] for row in compared
    )
    with pytest.raises(SystemExit) as stop:
        cli.main(["verify", finished, "--cells", "1", "--device", "cpu"])
    assert stop.value.code in (0, None) and "ok" in capsys.readouterr().out


def test_a_changed_outcome_is_found(finished):
    for path in CELLS.glob("*.parquet"):
        frame = pd.read_parquet(path)
        frame["clean_correct"] = ~frame["clean_correct"].astype(bool)
        frame.to_parquet(path, index=False)
    compared = verify(finished, count=1, seed=1, device="cpu", echo=lambda text: None)
    assert {row["attack"]: row["passed"] for row in compared}["clean"] is False
    assert all(row["moved"] == row["n"] for row in compared if row["attack"] == "clean")


def test_packed_results_are_verified_too(finished):
    pack(finished)
    for path in CELLS.glob("none__*"):
        path.unlink()
    compared = verify(finished, count=9, seed=1, device="cpu", echo=lambda text: None)
    assert {row["cell"].partition("__")[0] for row in compared} == {"none", "tecoa-seed0"}
    assert all(row["passed"] and row["place"] == "same" for row in compared)


def test_missing_checkpoints_are_named(finished):
    shutil.rmtree("runs/mini/models")
    said = []
    found, missing = candidates(make_plan(finished))
    assert missing and all("train" not in cell.id for _, cell in found)
    verify(finished, count=1, device="cpu", echo=said.append)
    assert "checkpoints of" in said[0]


def test_nothing_to_verify(write_profile):
    with pytest.raises(UserError, match="start with: mmcoa run"):
        verify(write_profile())


def test_rows_are_chosen(finished, capsys):
    everything = rows(finished)
    some = rows(finished, ["attack=image", "attack=text", "dataset=openmoji/tools"])
    assert (
        0 < len(some) < len(everything)
        and set(some["attack"]) == {"image", "text"}
        and set(some["dataset"]) == {"openmoji/tools"}
    )
    names, table = shown(some)
    assert "sweep" not in names and isinstance(table[0][names.index("accuracy")], float)
    for where, message in (["attack"], "COLUMN=VALUE"), (["atack=image"], "nearest: attack"):
        with pytest.raises(UserError, match=message):
            rows(finished, where)
    with pytest.raises(UserError, match="start with: mmcoa run"):
        rows("quick")
    with pytest.raises(SystemExit):
        cli.main(["results", finished, "--where", "attack=image", "--columns", "model,accuracy"])
    assert "accuracy" in capsys.readouterr().out
