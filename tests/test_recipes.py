"""The recipes of the page Architecture, on a copy of the package: each is one addition, and none makes a result stale.

Those for an attack and a defence are run in tests/attacks/test_catalog.py and tests/defenses/test_own_defence.py too.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "book" / "architecture.md").read_text(encoding="utf8")
IDENTITIES = """
import json, sys
from mmcoa.study.plan import make_plan
names = ("quick", "openmoji", "ablations")
print(json.dumps({name: {cell.id: cell.identity for cell in make_plan(name, "no-results", "no-runs").cells} for name in names}))
"""

pytestmark = pytest.mark.slow


def recipe(heading, language):
    """The code block of a recipe."""
    return PAGE.partition(f"## {heading}")[2].partition(f"```{language}\n")[2].partition("```")[0]


@pytest.fixture
def copy(tmp_path):
    """A copy of the package, and a function that runs Python with it."""
    shutil.copytree(ROOT / "mmcoa", tmp_path / "mmcoa", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "notebooks", tmp_path / "notebooks")

    def run(*words, code=0):
        environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
        done = subprocess.run([sys.executable, *words], cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == code, done.stderr
        return done.stdout + done.stderr

    return tmp_path, run


def identities(run):
    return json.loads(run("-c", IDENTITIES).splitlines()[-1])


def test_an_attack_a_setting_and_a_renamed_module_make_nothing_stale(copy):
    folder, run = copy
    before = identities(run)
    (folder / "mmcoa" / "attacks" / "image" / "mi_fgsm.py").write_text(recipe("Add an attack", "python"))
    path = folder / "mmcoa" / "training" / "config.py"
    anchor = "    accumulate: int = setting("
    assert anchor in path.read_text()
    path.write_text(path.read_text().replace(anchor, recipe("Add a setting of a training", "python") + anchor))
    (folder / "mmcoa" / "attacks" / "ball.py").rename(folder / "mmcoa" / "attacks" / "sphere.py")
    for file in (folder / "mmcoa").rglob("*.py"):
        file.write_text("# a comment\n" + file.read_text().replace("mmcoa.attacks.ball", "mmcoa.attacks.sphere"))
    assert identities(run) == before
    assert "mi-fgsm" in run("-m", "mmcoa", "attacks")


def test_a_new_setting_is_known_to_profiles_and_the_command_line(copy):
    folder, run = copy
    path = folder / "mmcoa" / "training" / "config.py"
    anchor = "    accumulate: int = setting("
    path.write_text(path.read_text().replace(anchor, recipe("Add a setting of a training", "python") + anchor))
    short = "--defense tecoa --samples 20 --steps 1 --batch-size 4 --inner-steps 1 --held-out 0 --device cpu"
    train = ["-m", "mmcoa", "train", *short.split()]
    run(*train, "--output", "out", "--set", "label_noise=0.1")
    trained = json.loads((folder / "out" / "mmcoa.json").read_text())
    assert trained["training"]["config"]["label_noise"] == 0.1
    assert "label_noise" in run(*train, "--output", "other", "--set", "label_noise=2", code=2)
    (folder / "own.yaml").write_text("extends: quick\nname: own\ntrain: {label_noise: 0.1}\n")
    plan = "from mmcoa.study.plan import make_plan; cells = make_plan('own.yaml').cells; "
    plan += "print({cell.parameters['label_noise'] for cell in cells if cell.kind == 'train'})"
    assert run("-c", plan).strip() == "{0.1}"


def test_a_data_set_is_one_entry(copy):
    folder, run = copy
    (folder / "mmcoa" / "datasets" / "records" / "own.yaml").write_text(recipe("Add a data set", "yaml"))
    rng = np.random.default_rng(0)
    for name in ("circle", "square"):
        (folder / "data" / "shapes" / "test" / name).mkdir(parents=True)
        for i in range(10):
            pixels = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / "data" / "shapes" / "test" / name / f"{i}.png")
    assert "own/shapes" in run("-m", "mmcoa", "datasets")
    said = run("-m", "mmcoa", "data", "check", "own/shapes", "--root", "data")
    assert "ready" in said or "20" in said
    run("-m", "mmcoa", "evaluate", "--dataset", "own/shapes", "--root", "data", "--attack", "clean", "--output", "rows.json")
    (row,) = json.loads((folder / "rows.json").read_text())
    assert (row["dataset"], row["n"], row["classes"]) == ("own/shapes", 20, 2)


def test_a_page_is_one_text_file(tmp_path, monkeypatch):
    """Its code runs beside packed results and writes the table that its text shows; the number of the text is said."""
    page = PAGE.partition("## Add a page")[2].partition("````markdown\n")[2].partition("\n````")[0]
    code = [part.partition("```")[0] for part in page.split("```{code-cell} ipython3\n:tags: [remove-input]\n")[1:]]
    (tmp_path / "book").mkdir()
    (tmp_path / "results").symlink_to(ROOT / "results")
    monkeypatch.chdir(tmp_path / "book")
    exec("\n".join(code), {})
    table = pd.read_csv(tmp_path / "book" / "tables" / "seeds.csv")
    assert {"method", "train_seed", "accuracy"} == set(table.columns) and len(table) > 10
    assert len(code) == 1 and ":file: tables/seeds.csv\n" in page
    assert {part.partition("`")[0] for part in page.split("{glue:text}`")[1:]} == {"seeds_least"}
