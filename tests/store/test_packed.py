"""Packed results: what is written is what is read, same tables give same bytes, a changed entry touches its own files."""

import dataclasses

import numpy as np
import pandas as pd
import pyarrow
import pytest
from pyarrow import parquet

from mmcoa.errors import UserError
from mmcoa.store import packed


def study(models=("none", "tecoa-seed0"), samples=20):
    """Tables of a small made-up study."""
    rng = np.random.default_rng(0)
    cells, rows, outcomes, changes = [], [], [], []
    for model in models:
        who = {"model": model, "entry": model.partition("-")[0], "dataset": "d", "sweep": "", "sweep_value": ""}
        cells.append({"cell": f"{model}__d", "kind": "evaluate", **who, "identity": model * 3, "seconds": 1.5})
        rows.append({**who, "attack": "image", "accuracy": 50.0, "n": samples, "epsilon": None, "threat_text": ""})
        outcomes += [
            {**who, "attack": "image", "sample_id": i, "label": i % 3, "correct": bool(rng.integers(2))} for i in range(samples)
        ]
        edit = {"position": 6, "old_word": "grapes", "new_word": "windfall", "source": "table:eval"}
        changes.append(
            {**who, "attack": "text", "class_name": "grapes", "prompt": "a grapes", "changed": True, "edits": [edit]}
        )
    frames = dict(
        trainings=pd.DataFrame([{"model": "tecoa-seed0", "lr": 1e-3, "shots": None}]), checks=pd.DataFrame([{"check": "x"}])
    )
    logs = pd.DataFrame({"model": ["tecoa-seed0"], "step": [0], "loss": [1.25]})
    tables = {"cells": cells, "rows": rows, "outcomes": outcomes, "changes": changes}
    return packed.Packed(logs=logs, **frames, **{name: pd.DataFrame(items) for name, items in tables.items()})


def test_what_is_written_is_read(tmp_path):
    made = study()
    assert packed.write(tmp_path, made)
    found = packed.read(tmp_path)
    assert found.cells.identity.tolist() == made.cells.identity.tolist()
    assert found.rows.epsilon.isna().all() and (found.rows.threat_text == "").all()
    assert found.outcomes.correct.tolist() == made.outcomes.correct.tolist()
    assert found.outcomes.broken_by.isna().all()
    assert found.changes.edits[0][0]["new_word"] == "windfall" and found.changes.similarity.isna().all()
    assert found.logs.loss.tolist() == [1.25] and found.trainings.lr.tolist() == [1e-3]
    assert packed.read_cells(tmp_path).equals(found.cells) and packed.read_cells(tmp_path / "none") is None


def test_older_files_without_a_column_are_read_beside_newer_ones(tmp_path):
    made = study()
    edits = [[each | {"relation": "sister"} for each in edits] for edits in made.changes.edits]
    packed.write(tmp_path, dataclasses.replace(made, changes=made.changes.assign(relation="sister", edits=edits)))
    path = tmp_path / "changes" / "none.parquet"
    table = parquet.read_table(path)
    old = pyarrow.struct([field for field in table.schema.field("edits").type.value_type if field.name != "relation"])
    table = table.drop_columns(["edits"]).append_column("edits", table["edits"].cast(pyarrow.list_(old)))
    parquet.write_table(table.drop_columns(["relation"]), path)
    found = packed.read(tmp_path).changes
    assert found.relation.isna().tolist() == [True, False] and found.relation[1] == "sister"
    assert [edits[0]["relation"] for edits in found.edits] == [None, "sister"]
    assert [edits[0]["new_word"] for edits in found.edits] == ["windfall"] * 2


def test_the_same_tables_give_the_same_bytes(tmp_path):
    packed.write(tmp_path, study())
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.*") if path.is_file()}
    assert packed.write(tmp_path, study()) == []
    assert packed.write(tmp_path / "again", study())
    for path, content in before.items():
        assert (tmp_path / "again" / path.relative_to(tmp_path)).read_bytes() == content


def test_a_repeated_entry_touches_its_own_files(tmp_path):
    made = study(("none", "tecoa-seed0", "mmcoa-seed0"))
    packed.write(tmp_path, made)
    flipped = made.outcomes.assign(correct=made.outcomes.correct ^ (made.outcomes.entry == "tecoa"))
    assert [path.name for path in packed.write(tmp_path, dataclasses.replace(made, outcomes=flipped))] == ["tecoa.parquet"]
    kept = {name: frame[frame.entry != "tecoa"] for name in ("cells", "outcomes", "changes") for frame in [getattr(made, name)]}
    packed.write(tmp_path, dataclasses.replace(made, **kept))
    assert not (tmp_path / "outcomes" / "tecoa.parquet").exists() and len(packed.read(tmp_path).outcomes) == 40


def test_missing_and_damaged_files_are_one_clear_line(tmp_path):
    with pytest.raises(UserError, match="mmcoa run"):
        packed.read(tmp_path)
    packed.write(tmp_path, study())
    (tmp_path / "outcomes" / "none.parquet").write_bytes(b"no parquet")
    with pytest.raises(UserError, match=r"none\.parquet .*mmcoa pack"):
        packed.read(tmp_path)
