import json
import subprocess
import sys

import pandas as pd
import pytest
import typer

from mmcoa.cli import main as cli


@pytest.fixture
def call(capsys):
    """Run the command line in this process: (exit code, stdout, stderr)."""

    def run(*arguments):
        with pytest.raises(SystemExit) as stop:
            cli.main([str(a) for a in arguments])
        captured = capsys.readouterr()
        return stop.value.code, captured.out, captured.err

    return run


@pytest.mark.parametrize(
    "arguments,near",
    [
        (["evaluat"], "evaluate"),
        (["evaluate", "--epsilonn", "1/255"], "--epsilon"),
        (["evaluate", "--model", "openmoji"], "openmoji-clip"),
        (["evaluate", "--dataset", "openmoji/bird"], "openmoji/birds"),
        (["evaluate", "--attack", "txt"], "text"),
        (["evaluate", "--split", "trian"], "train"),
        (["evaluate", "--epsilon", "2"], "2/255"),
        (["evaluate", "--epsilon", "x"], "2/255"),
        (["evaluate", "--norm", "linff"], "linf"),
        (["evaluate", "--candidates", "table:evil"], "table:eval"),
        (["evaluate", "--samples", "0"], "samples"),
        (["evaluate", "--steps", "many"], "--steps"),
        (["evaluate", "--dataset", "wds:/no/such/folder"], "/no/such/folder"),
        (["evaluate", "--resize", "pil"], "openclip"),
        (["train", "--defense", "mmca", "--output", "x"], "mmcoa"),
        (["train", "--output", "x"], "--defense"),
        (["train", "--defense", "mmcoa", "--steps", "3", "--epochs", "1", "--output", "x"], "--epochs"),
        (["train", "--defense", "tecoa", "--batch-size", "1", "--output", "x"], "at least two"),
        (["train", "--defense", "tecoa", "--shots", "1000", "--output", "x"], "1000 shots"),
        (["train", "--defense", "tecoa", "--trains", "imag", "--output", "x"], "image"),
        (["train", "--defense", "tecoa", "--precision", "fp16", "--output", "x"], "bf16"),
        (["train", "--defense", "tecoa", "--set", "last_blocks=9", "--output", "x"], "last_blocks must lie in 1..4"),
        (["control", "openmoji-clip", "--base", "openmoji/birds", "--set", "batchsize=8"], "batch_size"),
        (["control", "openmoji-clip", "--base", "openmoji/birds", "--lr", "1e-4", "--set", "lr=1e-3"], "lr is given twice"),
        (["interpolate", "openmoji-clip", "--alpha", "0.5", "--output", "x"], "--base"),
        (["interpolate", "openmoji-clip", "--alpha", "2", "--base", "openmoji-clip", "--output", "x"], "alpha"),
        (["export", "--model", "openmoji", "x"], "openmoji-clip"),
        (["evaluate", "--precision", "fp16"], "bf16"),
        (["evaluate", "--preset", "referenc"], "reference"),
        (["evaluate", "--text-score", "margins"], "margin"),
        (["evaluate", "--craft-on", "openmoji"], "openmoji-clip"),
        (["evaluate", "--text-threat", "synonyms"], "nearest: synonym"),
        (["evaluate", "--text-threat", "synonym", "--candidates", "neighbours"], "table:eval, table:train or wordnet"),
        (["evaluate", "--words", "2"], "unknown words"),
        (["evaluate", "--words", "seen", "--candidates", "mlm"], "candidate source 'mlm' has none"),
        (["evaluate", "--similarity-encoder", "bert"], "own"),
        (["evaluate", "--candidates", "mlm:/no/such/folder"], "table:"),
        (["candidates", "show", "--source", "tabel:eval"], "table:eval"),
        (["compare", "absent.parquet", "absent.parquet"], "mmcoa evaluate --output"),
        (["bench"], "benchmarks/speed.py"),
        (["run", "quik"], "quick"),
        (["status", "quik"], "quick"),
        (["gallery", "quik"], "quick"),
        (["gallery", "quick", "--models", "mmca"], "mmcoa-seed0"),
        (["book", "quik"], "quick"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(call, tmp_path, monkeypatch, arguments, near):
    monkeypatch.chdir(tmp_path)
    code, out, err = call(*arguments)
    assert code == 2 and err.count("\n") == 1 and err.startswith("mmcoa: ") and near in err
    assert list(tmp_path.iterdir()) == []  # nothing half-written


@pytest.mark.parametrize("name", ["models", "datasets", "attacks", "defenses"])
def test_lists(call, name):
    code, out, _ = call(name)
    assert code == 0
    expected = {"models": "openmoji-clip", "datasets": "openmoji/birds", "attacks": "sequential", "defenses": "tecoa"}
    assert expected[name] in out and len(out.splitlines()) >= 4


def test_a_control_takes_every_setting_of_a_training(call, monkeypatch):
    from mmcoa import control
    from mmcoa.training.config import KINDS, TrainConfig

    asked = []
    monkeypatch.setattr(control, "control", lambda *arguments: asked.append(arguments) or (pd.DataFrame(), []))
    flags = {"steps": 7, "lr": 1e-4, "epsilon": "4/255", "seed": 3}
    others = {"batch_size": 16, "betas": "0.5,0.9", "gradient_checkpointing": "true", "inner_step_size": "1"}
    words = [word for name, value in flags.items() for word in (f"--{name}", value)]
    words += [word for name, value in others.items() for word in ("--set", f"{name}={value}")]
    code, _, err = call("control", "openmoji-clip", "--base", "openmoji/birds", *words)
    assert code == 0, err
    _, _, folder, _, _, config, *_ = asked[0]
    own = {"batch_size": 16, "betas": (0.5, 0.9), "gradient_checkpointing": True, "inner_step_size": 1.0}
    assert config == TrainConfig(**{**flags, **own})
    assert "steps7" in folder.name and "batch_size16" in folder.name  # another training, another folder
    _, out, _ = call("control", "--help")
    assert all(name in out for name in KINDS)


def test_every_command_has_help_with_an_example(call):
    commands = typer.main.get_command(cli.app).commands
    assert {"evaluate", "train", "run"} <= set(commands)
    for name in commands:
        code, out, _ = call(name, "--help")
        assert code == 0 and ("Example: mmcoa" in " ".join(out.split()) or hasattr(commands[name], "commands")), name


def test_lists_and_status_do_not_wait_for_torch():
    code = "import sys, mmcoa.cli.main, mmcoa.study.status, mmcoa.study.profiles, mmcoa.attacks.catalog\n"
    code += "sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_a_loss_that_is_not_finite_is_one_line(call, tmp_path, tiny):
    import torch

    from mmcoa.model.saving import save_checkpoint

    with torch.no_grad():
        tiny.clip.visual.proj.fill_(float("nan"))
    save_checkpoint(tiny, tmp_path / "base", {"name": "broken"})
    arguments = ("--defense", "clean", "--model", tmp_path / "base", "--dataset", "openmoji/birds", "--samples", 21)
    code, _, err = call("train", *arguments, "--steps", 2, "--output", tmp_path / "new")
    assert code == 2 and err.count("\n") == 1 and "step 0" in err and "smaller lr" in err
    assert not (tmp_path / "new" / "model.safetensors").exists()


def test_train_then_evaluate(call, tmp_path, tiny):
    from mmcoa.model.saving import save_checkpoint

    base, new, rows = tmp_path / "base", tmp_path / "new", tmp_path / "rows.json"
    save_checkpoint(tiny, base, {"name": "tiny-clip"})
    arguments = ("--model", base, "--dataset", "openmoji/birds", "--samples", 21)
    code, out, _ = call(
        "train", "--defense", "mmcoa", *arguments, "--steps", 2, "--inner-steps", 1, "--lr", "1e-3", "--output", new
    )
    assert code == 0 and "step 2/2" in out
    card = json.loads((new / "mmcoa.json").read_text())
    assert card["defense"] == "mmcoa" and card["trained_on"] == "openmoji/birds" and card["base_model"] == "tiny-clip"
    attacks = [x for name in ("clean", "image", "text", "multimodal") for x in ("--attack", name)]
    arguments = ("--model", new, "--dataset", "openmoji/birds", "--samples", 21, "--steps", 2, *attacks)
    code, out, _ = call("evaluate", *arguments, "--output", rows)
    assert code == 0 and "multimodal" in out
    written = json.loads(rows.read_text())
    required = (
        "model defense dataset split attack accuracy correct n ci_low ci_high epsilon steps seed config_hash device seconds"
    )
    assert [row["attack"] for row in written] == ["clean", "image", "text", "multimodal"]
    assert all(set(required.split()) <= set(row) for row in written)
    assert {row["model"] for row in written} == {"new"} and {row["n"] for row in written} == {21}
    assert all(row["check"].startswith(("ok", "suspicious")) for row in written if row["attack"] != "clean")

    code, out, _ = call("evaluate", "--model", base, *arguments[2:], "--output", tmp_path / "base.json")
    code, out, _ = call("compare", tmp_path / "base.parquet", tmp_path / "rows.parquet")
    assert code == 0 and "multimodal" in out and "McNemar" in out
    assert not list(tmp_path.glob(".*unfinished*"))
    code, _, err = call("compare", tmp_path / "base.parquet", rows)
    assert code == 2 and "no readable outcomes" in err


def test_several_epsilons(call, tmp_path, tiny):
    from mmcoa.model.saving import save_checkpoint

    save_checkpoint(tiny, tmp_path / "base", {"name": "tiny-clip"})
    arguments = (
        "--model",
        tmp_path / "base",
        "--dataset",
        "openmoji/birds",
        "--samples",
        21,
        "--steps",
        1,
        "--attack",
        "image",
    )
    code, out, _ = call("evaluate", *arguments, "--epsilon", "1/255", "--epsilon", "8/255", "--check-samples", 0)
    assert code == 0 and "1/255" in out and "8/255" in out and "not run" in out


def test_candidates_are_shown_and_built(call, tmp_path):
    code, out, _ = call("candidates", "show", "--source", "table:eval", "--dataset", "openmoji/birds", "--prompts", 2)
    assert code == 0 and "photo" in out and "table:eval" in out
    path = tmp_path / "c.json"
    code, out, _ = call("candidates", "build", "--source", "characters", "--dataset", "openmoji/birds", "--output", path)
    assert code == 0 and path.is_file()
    code, out, _ = call("candidates", "show", "--source", path, "--dataset", "openmoji/birds", "--prompts", 2)
    assert code == 0 and "photo" in out
