"""The graph on Snakemake: resources, GPUs that are held, clusters' files, trainings in several processes.

Slurm itself: test_slurm.py.
"""

import importlib.util
import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mmcoa.cli import main as cli
from mmcoa.errors import UserError
from mmcoa.store.finished import read_record
from mmcoa.study import compute, papermill_run, workflow
from mmcoa.study import machine as gpus
from mmcoa.study.plan import make_plan, write_specs
from mmcoa.study.runner import run

SHIPPED = Path(workflow.__file__).parent / "cluster" / "slurm.yaml"
LISTING = """\
GPU 0: Some GPU (UUID: GPU-aaaa)
GPU 1: Some GPU (UUID: GPU-bbbb)
  MIG 1g.10gb     Device  0: (UUID: MIG-cccc)
  MIG 1g.10gb     Device  1: (UUID: MIG-dddd)
"""


@pytest.fixture
def fake_gpus(tmp_path, monkeypatch):
    """Function: put an `nvidia-smi` with this output first on PATH; locks go into an empty folder."""

    def install(text, code=0):
        folder = tmp_path / "bin"
        folder.mkdir(exist_ok=True)
        (folder / "listing").write_text(text)
        (folder / "nvidia-smi").write_text(f'#!/bin/sh\ncat "{folder}/listing"\nexit {code}\n')
        (folder / "nvidia-smi").chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
        monkeypatch.setenv("TMPDIR", str(tmp_path))
        monkeypatch.setattr("tempfile.tempdir", None)
        monkeypatch.delenv(gpus.VARIABLE, raising=False)

    return install


@pytest.mark.parametrize("jobs, asked, wanted", [(1, "", 4), (2, "", 2), (8, "", 1), (1, "3", 3), (2, "3", 2), (1, "2,1", 4)])
def test_cores_are_shared_out(monkeypatch, jobs, asked, wanted):
    """Those of this process, not of the machine: a study in `taskset` or in a container keeps to its own."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(4)), raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", asked)
    assert gpus.threads(jobs) == wanted


@pytest.mark.parametrize(
    ("setting", "known", "names"),
    [
        (None, ["a", "b"], ["a", "b"]),
        ("", ["a", "b"], []),
        ("1,0", ["a", "b"], ["b", "a"]),
        ("0,-1,1", ["a", "b"], ["a"]),  # CUDA stops at the first bad entry
        ("0,7,1", ["a", "b"], ["a"]),
        ("0,0", ["a", "b"], ["a"]),
        ("GPU-b", ["GPU-aaaa", "GPU-bbbb"], ["GPU-bbbb"]),
        ("2,3", [], ["2", "3"]),  # no nvidia-smi here
    ],
)
def test_what_cuda_visible_devices_leaves(setting, known, names):
    assert gpus.chosen(setting, known) == names


def test_gpus_of_this_machine(fake_gpus, monkeypatch):
    fake_gpus(LISTING)
    assert gpus.visible() == ["GPU-aaaa", "MIG-cccc", "MIG-dddd"]  # of a GPU that is split, its parts
    monkeypatch.setenv(gpus.VARIABLE, "1")
    assert gpus.visible() == ["MIG-cccc"]
    fake_gpus("no driver", code=9)
    assert gpus.visible() == []


def test_a_gpu_that_is_held_is_given_to_nobody_else(tmp_path, monkeypatch):
    monkeypatch.delenv(gpus.VARIABLE, raising=False)
    monkeypatch.setattr(gpus, "POLL", 0.01)
    names = ["a", "b", "MIG-1/2/3"]
    held = "from mmcoa.study.machine import hold\n"
    held += f"with hold(1, {names}, {str(tmp_path)!r}) as got: print(*got, flush=True); input()"
    other = subprocess.Popen([sys.executable, "-c", held], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert other.stdout.readline() == "a\n"
    with gpus.hold(1, names, tmp_path) as got:
        assert got == ["b"] and os.environ[gpus.VARIABLE] == "b"
        assert gpus.take(2, names, tmp_path) == {}  # one is free, and is not kept from others
        assert list(gpus.take(1, names, tmp_path)) == ["MIG-1/2/3"]
    assert gpus.VARIABLE not in os.environ
    other.kill()  # a process that is killed holds nothing
    other.communicate()
    with gpus.hold(3, names, tmp_path) as got:
        assert got == names
    with gpus.hold(0) as got:
        assert got == [] and gpus.VARIABLE not in os.environ


def test_a_gpu_has_as_many_places_as_processes_may_share_it(tmp_path):
    first, second = (gpus.take(1, ["a", "b"], tmp_path, share=2) for _ in range(2))
    assert list(first) == list(second) == ["a"]
    third = gpus.take(1, ["a", "b"], tmp_path, share=2)
    assert list(third) == ["b"]
    assert gpus.take(1, ["a", "b"], tmp_path) == {}  # alone on a GPU: not where one is already
    gpus.release(third["b"])
    alone = gpus.take(1, ["a", "b"], tmp_path)
    assert list(alone) == ["b"]
    gpus.release(first["a"])
    again = gpus.take(2, ["a", "b"], tmp_path, share=2)
    assert again == {}  # one place on a, and b is somebody's alone
    assert list(gpus.take(1, ["b", "a"], tmp_path, share=2)) == ["a"]


def test_processes_of_a_run_share_a_gpu(write_profile, fake_gpus):
    fake_gpus("GPU 0: x (UUID: GPU-a)\n")
    plan = make_plan(write_profile(device="auto"))
    told = workflow.settings(plan, 4, "local", per_gpu=3)
    assert told["gpus"] == 3 and told["per_gpu"] == 3
    assert {process["gpu"] for process in told["processes"].values()} == {1}
    with pytest.raises(UserError, match="--per-gpu is for --executor local"):
        workflow.check("slurm", per_gpu=2)
    with pytest.raises(UserError, match="at least 1"):
        workflow.check("local", per_gpu=0)


def test_more_gpus_than_there_are(tmp_path):
    with pytest.raises(UserError, match="2 GPUs asked for, 1 visible"), gpus.hold(2, ["a"], tmp_path):
        pass


@pytest.mark.parametrize(
    ("device", "several", "executor", "there", "wanted"),
    [
        ("cpu", 1, "local", 2, {"gpu": 0, "hold": 0}),
        ("auto", 1, "local", 0, {"gpu": 0, "hold": 0}),
        ("auto", 1, "local", 2, {"gpu": 1, "hold": 1}),
        ("cuda", 2, "local", 2, {"gpu": 2, "hold": 2}),
        ("cuda:1", 1, "local", 2, {"gpu": 1, "hold": 0}),  # its number would mean nothing if one GPU alone were visible
        ("cpu", 1, "slurm", 0, {"gpu": 0, "hold": 0}),
        ("auto", 1, "slurm", 0, {"hold": 0}),  # the cluster's file says whether there are any
        ("auto", 4, "slurm", 0, {"gpu": 4, "hold": 0}),
        ("cuda", 1, "slurm", 0, {"gpu": 1, "hold": 0}),
    ],
)
def test_gpus_of_a_process(device, several, executor, there, wanted):
    assert workflow.gpu_needs(device, several, executor, there) == wanted


@pytest.mark.slow
def test_processes_at_once_never_share_a_gpu(write_profile, fake_gpus, replace_code):
    """Three processes, two GPUs, three at once: each has one GPU, and none has that of another that runs."""
    fake_gpus("GPU 0: x (UUID: GPU-a)\nGPU 1: x (UUID: GPU-b)\n")
    profile = write_profile(device="auto", models=[{"defense": "none", "name": name} for name in ("one", "two", "three")])
    code = "import os, time, pathlib\nbegan = time.time(); time.sleep(1)\n"
    code += "told = f'{os.environ[\"CUDA_VISIBLE_DEVICES\"]} {began} {time.time()}'\n"
    code += "pathlib.Path(pathlib.Path(plan).stem + '.seen').write_text(told)"
    replace_code("evaluate", code)
    assert run(profile, jobs=3, echo=lambda line: None) == 1  # there are no records
    seen = sorted(path.read_text().split() for path in Path().glob("*.seen"))
    assert [name for name, *_ in seen] in (["GPU-a", "GPU-a", "GPU-b"], ["GPU-a", "GPU-b", "GPU-b"])
    for (name, _, end), (other, began, _) in itertools.pairwise(seen):
        assert name != other or float(end) <= float(began)


def test_a_training_that_takes_more_gpus_than_there_are(write_profile, fake_gpus):
    fake_gpus("GPU 0: x (UUID: GPU-a)\n")
    with pytest.raises(UserError, match="gpus_per_training is 2, but 1 GPU is visible"):
        run(write_profile(device="auto", gpus_per_training=2))


def test_gpus_per_training_is_no_part_of_a_cell(write_profile):
    one, two = ({cell.id: cell.identity for cell in make_plan(write_profile(gpus_per_training=n)).cells} for n in (1, 2))
    assert one == two
    assert workflow.settings(make_plan("mini.yaml"), 1, "local")["processes"]["train__tecoa-seed0"]["processes"] == 2
    with pytest.raises(UserError, match=r"mini\.yaml, line \d+: .*gpus_per_training"):
        make_plan(write_profile(gpus_per_training=0))


@pytest.mark.slow
def test_two_processes_train_a_cell_and_one_writes_its_record(write_profile):
    plan = make_plan(write_profile(models=[{"defense": "tecoa", "seeds": [0]}], gpus_per_training=2))
    write_specs(plan)
    spec = plan.spec(plan.pending[0])
    assert papermill_run.train_together(spec, 2, "runs/mini/logs/two.log") is None, Path("runs/mini/logs/two.log").read_text()
    record = read_record("runs/mini", "train__tecoa-seed0")
    assert record["training"]["processes"] == 2 and record["training"]["images"] == 8
    assert (plan.runs / "cells" / "train__tecoa-seed0.csv").is_file()
    weights = Path("runs/mini/models/tecoa-seed0/model.safetensors")
    stamp = weights.stat().st_mtime_ns
    compute.run_spec(spec)  # what the notebook does after that: it finds the checkpoint
    assert weights.stat().st_mtime_ns == stamp and read_record("runs/mini", "train__tecoa-seed0") == record
    assert [process.kind for process in make_plan("mini.yaml").pending] == ["evaluate"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("error: class 3 has 2 pictures\nraise ChildFailedError(\ntorch...ChildFailedError: \n", "class 3 has 2 pictures"),
        ("x\n[rank1]: torch.OutOfMemoryError: CUDA out of memory\n", "torch.OutOfMemoryError: CUDA out of memory"),
        ("nothing", "accelerate launch ended with code 7"),
    ],
)
def test_why_a_launched_training_failed(text, says):
    assert papermill_run.first_error(text, 7) == says


@pytest.mark.parametrize(
    ("arguments", "hide", "says"),
    [
        (["--cluster", "x.yaml"], "", "--cluster goes with --executor slurm"),
        (["--executor", "slurm"], "plugin", "--executor slurm needs the extra 'slurm': pip install"),
        (["--executor", "slurm"], "sbatch", "--executor slurm needs Slurm's command sbatch"),
    ],
)
def test_what_slurm_needs_is_one_line(write_profile, monkeypatch, capsys, arguments, hide, says):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *rest: (None if hide == "plugin" else find("json")) if "plugin" in name else find(name, *rest),
    )
    monkeypatch.setattr(workflow.shutil, "which", lambda name: None)
    with pytest.raises(SystemExit) as stopped:
        cli.main(["run", str(write_profile()), *arguments])
    assert stopped.value.code == 2
    said = capsys.readouterr().err
    assert says in said and len(said.splitlines()) == 1
    assert not Path("runs").exists()


def test_jobs_at_once(tmp_path):
    (tmp_path / "c.yaml").write_text("jobs: 7")
    (tmp_path / "none.yaml").write_text("retries: 0")
    assert workflow.jobs_at_once(None, "local") == 1
    assert (
        workflow.jobs_at_once(None, "slurm")
        == workflow.jobs_at_once(None, "slurm", tmp_path / "none.yaml")
        == workflow.CLUSTER_JOBS
    )
    assert workflow.jobs_at_once(None, "slurm", tmp_path / "c.yaml") == 7
    assert workflow.jobs_at_once(3, "slurm", tmp_path / "c.yaml") == 3


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("- a", "is a mapping of Snakemake options"),
        ("a: [", "not valid YAML"),
        ("executor: slurm", "'executor' is set by mmcoa run"),
        ("set-resource: {train: {runtime: 3}}", "unknown option with a mapping 'set-resource'; nearest: set-resources"),
        ("set-resources: {trian: {runtime: 3}}", "unknown rule 'trian'; nearest: train"),
    ],
)
def test_a_bad_cluster_file_is_one_line(tmp_path, text, says):
    path = tmp_path / "c.yaml"
    with pytest.raises(UserError, match=r"no cluster file .*c\.yaml"):
        workflow.read_cluster(path)
    path.write_text(text)
    with pytest.raises(UserError, match=says):
        workflow.read_cluster(path)


@pytest.mark.slow
def test_the_shipped_cluster_file_is_taken_and_an_unknown_option_is_not(write_profile):
    pytest.importorskip("snakemake_executor_plugin_slurm", reason="needs the extra 'slurm'")
    plan = make_plan(write_profile())
    config = workflow.settings(plan, 1, "slurm")
    place = Path("workflow.json")
    place.write_text(json.dumps(config))
    Path("bad.yaml").write_text("jobs: 2\nno-such-option: 3\n")
    workflow.accepted(workflow.command(plan, place, config, 3, "slurm", SHIPPED), SHIPPED)
    with pytest.raises(UserError, match=r"bad\.yaml: unrecognized arguments: --no-such-option"):
        workflow.accepted(workflow.command(plan, place, config, 3, "slurm", "bad.yaml"), "bad.yaml")


@pytest.mark.slow
def test_resources_grow_with_the_attempt(write_profile):
    """As Snakemake reads them from the Snakefile for a third try."""
    plan = make_plan(write_profile(device="cuda"))
    config = workflow.settings(plan, 1, "local") | {"gpus": 1}
    config["processes"]["train__tecoa-seed0"] |= {"gpu": 1, "hold": 1}
    place = Path("workflow.json")
    place.write_text(json.dumps(config))
    words = [*workflow.command(plan, place, config, 1, "local"), "--dry-run", "--printshellcmds", "--attempt", "3"]
    text = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    train = next(line for line in text.splitlines() if "runtime=" in line)
    needs = workflow.NEEDS["train"]
    assert f"mem_mb={3 * needs['mem_mb']}" in train and f"runtime={3 * needs['runtime']}" in train and "gpu=1" in train
    assert "train__tecoa-seed0.json --processes 1 --gpus 1 --share 1 --attempt 3 >" in text
