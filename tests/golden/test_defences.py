"""A defence whose models change says so by its version; see defences.py."""

import json
from dataclasses import replace

import pytest

from mmcoa import defenses, versions
from tests.golden import defences as golden

STORED = json.loads(golden.STORED.read_text())


@pytest.mark.parametrize("name", golden.names())
def test_nothing_moved_without_a_raised_version(name):
    if name not in STORED:
        pytest.skip(f"{name} is new; to guard it: {golden.COMMAND}")
    if text := golden.complaint(name, STORED[name], golden.compute(name)):
        pytest.fail(text)


@pytest.mark.parametrize(
    "name, change",
    [
        ("mmcoa", {"lambda_image": 0.55}),
        ("mmcoa", {"threat": golden.THREAT.changed(steps=3)}),
        ("tecoa", {"threat": golden.THREAT.changed(epsilon="3/255")}),
        ("leaf", {"edits": 25}),
        ("clean", {"config": replace(golden.CONFIG, weight_decay=2.0)}),
        ("clean", {"config": replace(golden.CONFIG, betas=(0.8, 0.98))}),
    ],
)
def test_a_small_change_is_noticed_and_the_line_to_edit_is_named(name, change):
    text = golden.complaint(name, STORED[name], golden.compute(name, **change))
    assert text is not None
    record = defenses.record(name)
    line = record.path.read_text().splitlines().index(f"VERSION = {record.version}") + 1
    assert f"raise VERSION = {record.version} in {record.path}, line {line}" in text and golden.COMMAND in text


def test_the_golden_is_rewritten_for_a_raised_version_alone(tmp_path, monkeypatch, capsys):
    moved = {"logits": [[9.0]], "losses": [9.0]}
    monkeypatch.setattr(golden, "compute", lambda name: moved if name == "clean" else STORED[name])
    path = tmp_path / "defences.json"
    path.write_text(golden.STORED.read_text())
    assert golden.main(path) == 2 and path.read_text() == golden.STORED.read_text()
    assert "nothing was written:\nclean: logits by inf" in capsys.readouterr().err
    monkeypatch.setattr(versions, "TRAINING", versions.TRAINING + 1)
    assert golden.complaint("tecoa", STORED["tecoa"], STORED["tecoa"]).startswith("tecoa: the golden is of")
    assert golden.main(path) == 0
    written = json.loads(path.read_text())
    assert written["clean"]["logits"] == [[9.0]] and written["clean"]["versions"]["TRAINING"] == versions.TRAINING
    assert written.keys() == set(golden.names())
