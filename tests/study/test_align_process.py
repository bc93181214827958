"""A study on `lite-clip` builds it before anything else; no result has it for an input but by its version."""

import json
import subprocess
from dataclasses import asdict
from pathlib import Path

import pytest

from mmcoa.errors import UserError
from mmcoa.model import lite
from mmcoa.model.lite import build, packages
from mmcoa.model.lite.align import Recipe
from mmcoa.store.files import write_json
from mmcoa.study import compute, preflight, runner, workflow
from mmcoa.study.plan import make_plan, write_specs
from mmcoa.study.workflow import settings
from tests.study.test_notebooks import execute

ALIGN = f"align__lite-clip-{lite.VERSION}"


@pytest.fixture
def profile(write_profile, monkeypatch):
    """A study on `lite-clip`; what is built is the tiny model, at once."""
    path = Path("models/tiny/mmcoa.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), "name": "lite-clip", "recipe": asdict(Recipe())}))
    for module in (build, compute):
        monkeypatch.setattr(module, "lite_folder", lambda progress=None: Path("models/tiny"))
    return write_profile(base_model="lite-clip")


def test_it_comes_first_and_once(profile):
    plan = make_plan(profile)
    assert [process.name for process in plan.pending] == [
        ALIGN,
        "train__tecoa-seed0",
        "evaluate__none",
        "evaluate__tecoa-seed0",
    ]
    needs = {process.name: plan.needs(process) for process in plan.pending}
    assert needs == {
        ALIGN: [],
        "train__tecoa-seed0": [ALIGN],
        "evaluate__none": [ALIGN],
        "evaluate__tecoa-seed0": ["train__tecoa-seed0"],
    }
    assert not any(cell.kind == "align" for cell in plan.cells)
    train = next(cell for cell in plan.cells if cell.kind == "train")
    assert train.inputs["model"] == f"name:lite-clip {lite.VERSION}"
    assert any("the base model, if the cache lacks it" in line for line in runner.describe(plan))
    write_specs(plan)
    align = plan.pending[0]
    made = execute("align", plan=str(plan.spec(align)))
    assert made["model"].name == "lite-clip"
    plan.executed(align).parent.mkdir(parents=True)
    plan.executed(align).touch()  # as papermill does
    plan = plan.again()
    assert [process.name for process in plan.pending] == list(needs)[1:]
    for process in plan.pending:
        compute.run_spec(plan.spec(process))
    assert not make_plan(profile).pending
    plan.executed(align).unlink()
    assert not make_plan(profile).pending  # a finished study does not ask for it
    assert {path.stem for path in Path("runs/mini/cells").glob("*.json")} == {cell.id for cell in plan.cells}


def test_snakemake_has_a_rule_for_it(profile):
    plan = make_plan(profile)
    write_specs(plan)
    config = settings(plan, 1, "local")
    write_json(Path("config.json"), config)
    words = workflow.command(plan, Path("config.json"), config, 1, "local")
    said = subprocess.run([*words, "--dry-run"], capture_output=True, text=True)
    assert said.returncode == 0, said.stderr
    order = [line.split()[-1] for line in said.stdout.splitlines() if line.startswith(("rule", "localrule"))]
    assert order and order[0] == "align:"


def test_a_missing_package_is_said_before_anything_starts(profile, monkeypatch):
    monkeypatch.setattr(packages, "TEXT", packages.Weights("none==1", "no_such_package_here", "x", "0"))
    monkeypatch.setattr(packages, "IMAGE", packages.Weights("json", "json", "__init__.py", "0"))
    with pytest.raises(UserError, match=r"nothing was started: 1 problem: model 'lite-clip' needs .* none==1; pip install"):
        preflight.check(make_plan(profile))
