"""One notebook in one process: unknown parameters, failures, what is kept."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import psutil
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from mmcoa.errors import UserError
from mmcoa.study.machine import kill_tree
from mmcoa.study.papermill_run import NotebookFailed, check_parameters, main, one_line, run_notebook

KERNEL = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}


@pytest.fixture
def notebook(tmp_path, monkeypatch):
    """A notebook of two cells that needs no library; `fail` makes it raise."""
    monkeypatch.chdir(tmp_path)
    cells = [
        new_code_cell(
            "samples = 1  # how many\nfail = False  # raise\nplan = None  # what a study hands it",
            metadata={"tags": ["parameters"]},
        )
    ]
    cells.append(new_code_cell("import sys\nassert not fail, f'wanted, with {samples}\\nsecond line'\nsys.executable"))
    nbformat.write(new_notebook(cells=cells, metadata=KERNEL), "small.ipynb")
    return Path("small.ipynb")


def test_unknown_parameter_is_an_error(notebook):
    with pytest.raises(UserError, match=r"small\.ipynb: unknown parameter 'sampels'; nearest: samples"):
        run_notebook(notebook, "out.ipynb", {"sampels": 3})
    assert not list(Path().glob("*out*"))


def test_missing_and_damaged_notebook(notebook):
    with pytest.raises(UserError, match=r"no notebook absent\.ipynb"):
        check_parameters("absent.ipynb", {})
    notebook.write_text("{ no")
    with pytest.raises(UserError, match=r"damaged notebook small\.ipynb"):
        check_parameters(notebook, {})


def test_success_then_failure(notebook):
    """A failure is kept under another name and does not touch what succeeded before; success removes it."""
    output = run_notebook(notebook, "made/out.ipynb", {"samples": 2})
    executed = nbformat.read(output, as_version=4)
    assert executed.cells[2].outputs[0].data["text/plain"] == repr(sys.executable)  # the kernel is this Python
    good = output.read_bytes()
    failing = nbformat.read(notebook, as_version=4)
    failing.cells[0].source = failing.cells[0].source.replace("fail = False", "fail = True")
    nbformat.write(failing, notebook)
    spec = {
        "name": "out",
        "kind": "evaluate",
        "notebook": str(notebook),
        "executed": str(output),
        "runs": "runs",
        "results": ".",
    }
    Path("spec.json").write_text(json.dumps(spec))
    assert main("spec.json") == 1
    failure = json.loads(Path("runs/failed/out.json").read_text())
    assert failure == {"reason": "AssertionError: wanted, with 1", "notebook": "made/out.failed.ipynb", "final": True}
    assert output.read_bytes() == good
    assert sorted(path.name for path in Path("made").iterdir()) == ["out.failed.ipynb", "out.ipynb"]
    assert not list(Path("runs/running").iterdir())


def test_a_kernel_that_dies_is_a_failure(notebook):
    nb = nbformat.read(notebook, as_version=4)
    nb.cells[1].source = "import os\nos._exit(1)"
    nbformat.write(nb, notebook)
    with pytest.raises(NotebookFailed, match="Dead") as failure:
        run_notebook(notebook, "out.ipynb", {})
    assert not failure.value.final  # as when the machine ran out of memory: worth another try
    assert not Path("out.ipynb").exists() and Path("out.failed.ipynb").exists()


@pytest.fixture
def spec(notebook):
    """Path of a SPEC.json of that notebook."""
    parts = {
        "name": "out",
        "kind": "evaluate",
        "notebook": str(notebook),
        "executed": "out.ipynb",
        "runs": "runs",
        "results": ".",
    }
    Path("spec.json").write_text(json.dumps(parts))
    return Path("spec.json")


@pytest.mark.parametrize(("final", "code"), [(True, 1), (False, 0)])
def test_another_try_ends_at_once_where_it_would_end_the_same_way(spec, capsys, final, code):
    Path("runs/failed").mkdir(parents=True)
    Path("runs/failed/out.json").write_text(json.dumps({"reason": "no room", "notebook": "x", "final": final}))
    assert main(spec, attempt=2) == code
    assert Path("out.ipynb").exists() != final and Path("runs/failed/out.json").exists() == final
    assert ("not tried again: no room" in capsys.readouterr().err) == final


def test_more_gpus_than_there_are_is_a_failure(spec, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert main(spec, hold=1) == 1
    assert json.loads(Path("runs/failed/out.json").read_text())["reason"] == "1 GPUs asked for, 0 visible"


@pytest.fixture
def sleeper(notebook, spec):
    """Function: start the command on a notebook that sleeps, wait until its cell runs.

    What is left is killed after the test.
    """
    nb = nbformat.read(notebook, as_version=4)
    nb.cells[1].source = "import time\nfrom pathlib import Path\nPath('began').touch()\ntime.sleep(300)"
    nbformat.write(nb, notebook)
    started = []

    def start(**environment):
        command = [sys.executable, "-m", "mmcoa.study.papermill_run", str(spec)]
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), **environment}
        started.append(subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL))
        while started[-1].poll() is None and not Path("began").exists():
            time.sleep(0.1)
        assert Path("runs/running/out.json").is_file()
        return started[-1]

    yield start
    for process in started:
        kill_tree(process.pid)


def test_a_scheduler_whose_time_is_up(sleeper):
    process = sleeper()
    family = psutil.Process(process.pid).children(recursive=True)
    process.terminate()
    assert process.wait(60) == 1
    failure = json.loads(Path("runs/failed/out.json").read_text())
    assert failure["reason"].startswith("ended from outside") and not failure["final"]
    assert not list(Path("runs/running").iterdir())
    assert family and not any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in family)


def test_a_job_ends_when_another_runner_has_taken_over(sleeper):
    """On a cluster the runner is on another host: whether it lives cannot be seen there."""
    runner = {"host": "elsewhere", "pid": 7, "started": 0.0}
    Path("runs").mkdir()
    Path("runs/runner.json").write_text(json.dumps(runner))
    process = sleeper(MMCOA_RUNNER=json.dumps(runner))
    time.sleep(1.5)
    assert process.poll() is None
    Path("runs/runner.json").write_text(json.dumps({**runner, "host": "another"}))
    assert process.wait(60) == 1


def test_one_line():
    assert one_line("\n  first\nsecond") == "first"
    assert len(one_line("x" * 1000)) == 300
