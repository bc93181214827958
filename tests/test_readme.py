"""What the README says must work."""

import re
from pathlib import Path

import pytest

from mmcoa.cli import main as cli

README = (Path(__file__).parent.parent / "README.md").read_text()


def test_the_python_example_runs(capsys):
    (code,) = re.findall(r"```python\n(.*?)```", README, flags=re.S)
    exec(compile(code, "README.md", "exec"), {})
    printed = capsys.readouterr().out
    assert all(attack in printed for attack in ("clean", "image", "text", "multimodal")) and "n = 100" in printed
    assert "'adversarial_prompt'" in printed


def test_the_commands_exist(capsys):
    named = set(
        re.findall(r"mmcoa (evaluate|compare|bench|train|run|status|gallery|book|models|datasets|attacks|defenses)", README)
    )
    assert {"evaluate", "train", "run", "status", "book"} <= named
    for name in named:
        with pytest.raises(SystemExit) as stop:
            cli.main([name, "--help"])
        assert stop.value.code == 0
        help_text = capsys.readouterr().out
        for line in re.findall(rf"mmcoa {name} [^\n`]*", README):
            assert all(option in help_text for option in re.findall(r"--[a-z-]+", line)), line


def test_files_it_names_are_there():
    root = Path(__file__).parent.parent
    for path in re.findall(r"(?:mmcoa|notebooks|results|book|benchmarks|tests)/[\w./-]*", README):
        if path not in ("mmcoa/defenses/NAME.py",):
            assert (root / path).exists(), path
