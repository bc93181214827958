"""A real Slurm of one node, this machine: daemons in a temporary folder, ended after the test.

Needs Debian's slurm-wlm and munge, and root.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import pytest
import yaml

from mmcoa.store.finished import read_record
from mmcoa.study.machine import kill_tree

TOOLS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "sinfo", "scontrol", "scancel", "squeue")
SYSTEM = "/usr/local/sbin:/usr/sbin:/sbin"  # where the daemons are; not always on a user's PATH
MISSING = [tool for tool in TOOLS if not shutil.which(tool, path=f"{os.environ.get('PATH', '')}:{SYSTEM}")]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)} (Debian: slurm-wlm, munge)"),
    pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() != 0, reason="slurmd starts jobs as root alone"),
]

CONFIG = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmdPort={node}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.sock
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SchedulerType=sched/builtin
SchedulerParameters=sched_interval=1
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
JobCompType=jobcomp/none
SlurmdParameters=config_overrides
KillWait=5
NodeName={host} NodeAddr=127.0.0.1 CPUs=4 RealMemory=16000 State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""
CLUSTER = {
    "jobs": 4,
    "retries": 1,
    "slurm-status-command": "squeue",  # there is no accounting
    "slurm-init-seconds-before-status-checks": 1,  # then 11, 21 ...
    "slurm-no-account": True,
    "set-threads": {"train": 1, "evaluate": 1},
    "set-resources": {"train": {"mem_mb": 2000, "runtime": "attempt * 7"}, "evaluate": {"mem_mb": 3000}},
}
FAULT = (
    "import os\nif 'fare' in plan: raise ValueError('a fault, of the job of a runner: ' + str('MMCOA_RUNNER' in os.environ))"
)
RUN = [sys.executable, "-m", "mmcoa.cli.main", "run", "mini.yaml", "--executor", "slurm", "--cluster", "cluster.yaml"]


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@pytest.fixture
def slurm(monkeypatch):
    """Daemons of a cluster of one node, which the environment's SLURM_CONF names; yields their folder."""
    pytest.importorskip("snakemake_executor_plugin_slurm", reason="needs the extra 'slurm'")
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))
    folder.chmod(0o755)  # munged wants its socket to be within everybody's reach, which pytest's folders are not
    for name in ("state", "spool", "bin"):
        (folder / name).mkdir()
    host = socket.gethostname().partition(".")[0]
    config = folder / "slurm.conf"
    config.write_text(CONFIG.format(host=host, controller=free_port(), node=free_port(), folder=folder))
    (folder / "munge.key").write_bytes(os.urandom(1024))
    (folder / "munge.key").chmod(0o400)
    monkeypatch.setenv("SLURM_CONF", str(config))
    path = f"{os.environ['PATH']}:{SYSTEM}"
    # The plugin calls srun without SLURM_CONF: on a cluster the configuration is where srun looks by itself.
    srun = folder / "bin" / "srun"
    srun.write_text(f'#!/bin/sh\nSLURM_CONF="{config}" exec "{shutil.which("srun", path=path)}" "$@"\n')
    srun.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder / 'bin'}:{path}")
    for name in [name for name in os.environ if name.startswith("SLURM_") and name != "SLURM_CONF"]:
        monkeypatch.delenv(name)
    places = [
        f"--{option}={folder}/munge.{end}"
        for option, end in (
            ("socket", "sock"),
            ("key-file", "key"),
            ("pid-file", "pid"),
            ("log-file", "log"),
            ("seed-file", "seed"),
        )
    ]
    daemons = []

    def start(*command):
        with (folder / f"{command[0]}.out").open("w") as log:
            daemons.append(subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, cwd=folder, start_new_session=True))

    try:
        start("munged", "--foreground", *places)
        wait_for(lambda: (folder / "munge.sock").exists() or daemons[0].poll() is not None, folder)
        start("slurmctld", "-D")
        start("slurmd", "-D")
        wait_for(lambda: "idle" in said("sinfo", "--noheader", "--format=%t"), folder)
        yield folder
        said("scancel", "--user=root")
        wait_for(lambda: not said("squeue", "--noheader"), folder, fail=False)  # slurmd ends what is left of the jobs
    finally:
        for daemon in reversed(daemons):
            kill_tree(daemon.pid)
            daemon.wait()
        shutil.rmtree(folder)


def said(*command):
    return subprocess.run(command, capture_output=True, text=True, timeout=60).stdout


def wait_for(condition, folder, seconds=60, fail=True):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return
        time.sleep(0.1)
    if fail:
        pytest.fail("Slurm did not come up: " + " | ".join(path.read_text()[-300:] for path in folder.glob("*.out")))


@pytest.fixture
def study(slurm, write_profile, replace_code):
    """The tiny study with a third model whose training fails, and the file of this cluster."""
    replace_code("finetune", before=FAULT)
    replace_code("evaluate")
    Path("cluster.yaml").write_text(yaml.safe_dump(CLUSTER))
    return write_profile(models=[{"defense": "none"}, {"defense": "tecoa", "seeds": [0]}, {"defense": "fare", "seeds": [0]}])


def test_a_study_on_slurm(study):
    """All cells are done but those of the training that fails, which is not computed again; what needs it does not run."""
    done = subprocess.run(RUN, capture_output=True, text=True, timeout=900)
    log = Path("runs/mini/snakemake.log").read_text()
    assert done.returncode == 1, done.stdout + done.stderr + log
    lines = done.stdout.splitlines()
    assert "failed: train__fare-seed0: ValueError: a fault, of the job of a runner: True" in lines, lines
    assert "not run: evaluate__fare-seed0: needs train__fare-seed0" in lines
    assert any(line.startswith("mini: 5 of 8 cells are done") for line in lines), lines
    assert read_record("runs/mini", "tecoa-seed0__openmoji-tools")["rows"]
    assert not list(Path("runs/mini/running").glob("*"))
    assert "not tried again: ValueError: a fault" in Path("runs/mini/logs/train__fare-seed0.log").read_text()
    # What the scheduler was asked for: (kind, minutes, memory, cores). The second try of what failed got more time.
    asked = set()
    for job in said("scontrol", "--oneliner", "show", "job").splitlines():
        words = dict(word.split("=", 1) for word in job.split() if "=" in word)
        kind = words["Comment"].partition("wildcards_")[2]
        asked.add((kind, words["TimeLimit"], words["MinMemoryNode"], words["NumCPUs"]))
    assert asked == {
        ("evaluate__none", "08:00:00", "3000M", "1"),
        ("evaluate__tecoa-seed0", "08:00:00", "3000M", "1"),
        ("train__tecoa-seed0", "00:07:00", "2000M", "1"),
        ("train__fare-seed0", "00:07:00", "2000M", "1"),
        ("train__fare-seed0", "00:14:00", "2000M", "1"),
    }


def test_an_interrupted_run_leaves_no_job_behind(study, slurm):
    runner = subprocess.Popen(RUN, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        wait_for(lambda: list(Path("runs/mini/running").glob("*.json")) or runner.poll() is not None, slurm, seconds=300)
        jobs = [json.loads(path.read_text())["pid"] for path in Path("runs/mini/running").glob("*.json")]
        runner.send_signal(signal.SIGINT)
        text, _ = runner.communicate(timeout=120)
    finally:
        kill_tree(runner.pid)
    assert runner.returncode == 130 and "interrupted" in text, text
    wait_for(lambda: not said("squeue", "--noheader"), slurm)
    assert jobs and not any(psutil.pid_exists(job) for job in jobs)
