"""The runner around Snakemake: plans, locks, failures, kills. The last test is the whole study on two cores in seconds."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import filelock
import pandas as pd
import psutil
import pytest

from mmcoa.errors import UserError
from mmcoa.store.finished import read_record, write_outcomes, write_record
from mmcoa.study.machine import alive, claim, kill_tree
from mmcoa.study.plan import make_plan
from mmcoa.study.runner import run

RUN = [sys.executable, "-c", "import sys; from mmcoa.study.runner import run; sys.exit(run('mini.yaml'))"]


def finish(profile):
    """Records and outcomes of all cells, as if they had run."""
    for cell in make_plan(profile).cells:
        more = {"training": {"seconds": 1.0}} if cell.kind == "train" else {}
        write_record("runs/mini", cell, {"seconds": 1.0}, **more)
        write_outcomes(pd.DataFrame({"sample_id": [0], "label": [0], "clean_correct": [True]}), Path("runs/mini"), cell.id)


def test_a_dry_run_writes_nothing_and_commands_what_they_read(write_profile):
    lines = []
    assert run(write_profile(), dry_run=True, echo=lines.append) == 0
    assert lines[0] == "mini: 5 cells, 0 done, 5 to do"
    assert "  evaluate__tecoa-seed0: 2 of 2 cells to do  after train__tecoa-seed0" in lines
    assert not Path("runs").exists() and not Path("results").exists()
    lines.clear()
    assert run(write_profile(), commands=True, echo=lines.append) == 0
    assert sum("notebooks/evaluate.ipynb" in line for line in lines) == 2
    for line in lines:
        assert Path(line.split()[-1]).is_file()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"executor": "slrum"}, "unknown executor 'slrum'; nearest: slurm"),
        ({"jobs": 0}, "jobs must be"),
    ],
)
def test_bad_arguments(write_profile, change, says):
    with pytest.raises(UserError, match=says):
        run(write_profile(), **change)


def test_another_runner_is_named(write_profile):
    Path("runs/mini").mkdir(parents=True, exist_ok=True)
    Path("runs/mini/runner.json").write_text(json.dumps(claim()))
    with (
        filelock.FileLock("runs/mini/lock"),
        pytest.raises(UserError, match=f"another runner is at work in runs/mini .process {os.getpid()} on"),
    ):
        run(write_profile())


def test_what_a_killed_runner_left_running_is_ended(write_profile):
    profile = write_profile()
    finish(profile)
    left = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    Path("runs/mini").mkdir(parents=True, exist_ok=True)
    Path("runs/mini/runner.json").write_text(json.dumps({**claim(), "workflow": {**claim(), "pid": left.pid}}))
    assert run(profile) == 0
    assert not psutil.pid_exists(left.pid)
    left.wait()


def test_a_process_of_another_host_is_let_be(write_profile):
    """On a cluster, runs/ is shared by hosts: the number of the workflow that was killed there is another process here."""
    profile = write_profile()
    finish(profile)
    bystander = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    Path("runs/mini").mkdir(parents=True, exist_ok=True)
    Path("runs/mini/runner.json").write_text(
        json.dumps({**claim(), "workflow": {**claim(), "host": "elsewhere", "pid": bystander.pid}})
    )
    assert run(profile) == 0
    assert bystander.poll() is None
    bystander.kill()
    bystander.wait()


def test_a_number_that_was_given_to_another_process_is_not_alive():
    mine = claim()
    assert alive(mine)
    assert not alive({**mine, "started": mine["started"] - 1e6})
    kill_tree(2**22 + 1)


def test_a_failed_cell_is_listed_and_never_done(write_profile, replace_code):
    """One process fails, the one that needs it does not run, the third one does; a second run tries again."""
    replace_code("finetune", "raise MemoryError('no room\\nsecond line')")
    replace_code("evaluate", "raise ValueError(f'{plan} is bad')")
    lines = []
    assert run(write_profile(), echo=lines.append) == 1
    assert "failed: train__tecoa-seed0: MemoryError: no room" in lines
    assert "  notebook: runs/mini/notebooks/train__tecoa-seed0.failed.ipynb" in lines
    assert "failed: evaluate__none: ValueError: runs/mini/specs/evaluate__none.json is bad" in lines
    assert "  retry:    mmcoa run mini.yaml --only evaluate__none" in lines
    assert "not run: evaluate__tecoa-seed0: needs train__tecoa-seed0" in lines
    assert "mini: 0 of 5 cells are done" in lines
    assert len(make_plan("mini.yaml").pending) == 3
    assert Path("runs/mini/notebooks/evaluate__none.failed.ipynb").is_file()
    assert not Path("runs/mini/notebooks/evaluate__none.ipynb").exists()


@pytest.mark.slow
def test_one_process_is_run_alone(write_profile, replace_code):
    replace_code("evaluate")
    path, lines = write_profile(), []
    assert run(path, only="none__openmoji-birds", echo=lines.append) == 0
    assert lines[0] == "mini: 2 cells to do in 1 processes" and lines[-1].startswith("mini: 2 of 5 cells are done")
    assert [process.name for process in make_plan(path).pending] == ["train__tecoa-seed0", "evaluate__tecoa-seed0"]
    assert not any(line.startswith(("failed", "not run")) for line in lines)


@pytest.fixture
def start():
    """Function: start the command; what is left of it after the test is killed."""
    started = []

    def begin():
        started.append(subprocess.Popen(RUN, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True))
        return started[-1]

    yield begin
    for process in started:
        kill_tree(process.pid)


def wait_for(condition, seconds=300):  # a bound for a stuck run, generous to a busy machine
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.1)
    return False


@pytest.mark.slow
def test_a_study_that_is_interrupted_and_killed_completes_with_the_same_command(write_profile, start):
    write_profile(models=[{"defense": "tecoa", "seeds": [0]}])
    trained = Path("runs/mini/cells/train__tecoa-seed0.json")

    runner = start()  # Ctrl-C while a notebook runs: exit code 130, nothing left running
    assert wait_for(lambda: list(Path("runs/mini/running").glob("*.json")))
    family = psutil.Process(runner.pid).children(recursive=True)
    runner.send_signal(signal.SIGINT)
    text, _ = runner.communicate(timeout=60)
    assert runner.returncode == 130
    assert text.splitlines()[-1] == "interrupted; finished cells are kept, the same command continues: mmcoa run mini.yaml"
    assert len(family) >= 2 and not any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in family)
    assert not list(Path("results").rglob("[!.]*.ipynb"))

    runner = start()  # kill -9 after the first cell: its processes end by themselves or with the next run
    assert wait_for(trained.is_file)
    runner.kill()
    runner.communicate(timeout=60)
    before = trained.read_bytes()

    done = subprocess.run(RUN, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "mini: 3 of 3 cells are done; packed in results/mini"
    assert trained.read_bytes() == before  # finished cells are not computed again
    assert len(Path("results/mini/rows.csv").read_text().splitlines()) == 1 + 2 * 3
    assert sorted(p.name for p in Path("runs/mini/notebooks").glob("[!.]*")) == [
        "evaluate__tecoa-seed0.ipynb",
        "train__tecoa-seed0.ipynb",
    ]
    record = read_record("runs/mini", "tecoa-seed0__openmoji-birds")
    stamp = Path("runs/mini/cells/tecoa-seed0__openmoji-birds.json").stat().st_mtime_ns
    assert record["rows"][0]["task"] == "in_distribution"

    lines = []
    assert run("mini.yaml", echo=lines.append) == 0 and lines == ["mini: all 3 cells are done; packed in results/mini"]
    assert Path("runs/mini/cells/tecoa-seed0__openmoji-birds.json").stat().st_mtime_ns == stamp
