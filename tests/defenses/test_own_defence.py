"""The book's example of a new defence: saved as the page says, it is listed, trained and evaluated like any other."""

import json
import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from mmcoa import defenses
from mmcoa.cli import main as cli
from mmcoa.study import preflight as cost
from mmcoa.study.profiles import load_profile, train_settings

PAGE = Path(__file__).parents[2] / "book" / "add_a_defence.md"


@pytest.fixture
def example(tmp_path, monkeypatch):
    text = PAGE.read_text(encoding="utf8")
    (code,) = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    folder = tmp_path / "defenses"
    folder.mkdir()
    (folder / "smooth_tecoa.py").write_text(code)
    monkeypatch.setattr(defenses, "__path__", [*defenses.__path__, str(folder)])
    return text


def test_the_example_trains_from_the_command_line(example, tmp_path, capsys):
    assert "smooth_tecoa" in defenses.names()
    command = re.search(r"mmcoa (train .*--output) ", example)[1]
    with pytest.raises(SystemExit) as ended:
        cli.main(
            [*command.split(), str(tmp_path / "run"), "--steps", "2", "--samples", "40", "--batch-size", "8", "--held-out", "4"]
        )
    assert ended.value.code == 0
    info = json.loads((tmp_path / "run" / "mmcoa.json").read_text())
    assert info["defense"] == "smooth_tecoa" and info["held_out"]["samples"] == 4
    assert info["training"]["defense"]["with"] == {"smoothing": 0.2}
    assert "smooth_tecoa" in (tmp_path / "run" / "log.csv").read_text().splitlines()[0]


def test_one_line_of_a_profile_is_enough(example, tmp_path):
    (line,) = re.findall(r"```yaml\n(.*?)```", example, flags=re.DOTALL)
    profile = load_profile("quick").model_dump(exclude_defaults=True)
    path = tmp_path / "own.yaml"
    path.write_text(
        json.dumps(profile | {"name": "own", "models": [], "sweeps": []}).replace(
            '"models": []', '"models": [' + line.strip().removeprefix("- ") + "]"
        )
    )
    profile = load_profile(str(path))
    (entry,) = profile.models
    assert entry.defense == "smooth_tecoa" and entry.seeds == [0, 1, 2]
    assert getattr(entry, "with") == {"smoothing": 0.2}
    settings = {"defense": entry.defense, **train_settings(profile, entry), "seed": 0}
    assert settings["with"] == {"smoothing": 0.2} and "smoothing" not in settings
    assert cost.operations(SimpleNamespace(kind="train", parameters=settings), 1, 0) > 0


@pytest.mark.parametrize(
    "text, says", [("smooting=0.2", "nearest: smoothing"), ("smoothing=-1", "at least 0"), ("smoothing=x", "a number")]
)
def test_mistakes_in_its_own_setting(example, capsys, text, says):
    with pytest.raises(SystemExit) as ended:
        cli.main(["train", "--defense", "smooth_tecoa", "--set", text, "--output", "run"])
    assert ended.value.code == 2 and says in " ".join(capsys.readouterr().err.split())
