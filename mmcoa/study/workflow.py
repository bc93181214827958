"""Execute a plan's processes with Snakemake, on this machine or on a Slurm cluster; what runs when, and on what, is said here.

check("slurm")                                   # UserError where this machine cannot submit jobs
run(plan, jobs=20, executor="slurm", echo=print)
"""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import yaml

from mmcoa.errors import UserError, unknown
from mmcoa.store.files import write_atomic, write_json
from mmcoa.study import machine
from mmcoa.study.machine import claim, kill_tree
from mmcoa.study.plan import write_specs
from mmcoa.study.status import show_progress

EXECUTORS = ("local", "slurm")
CLUSTER_JOBS = 50  # Slurm jobs at once where nobody says how many
CLUSTER_THREADS = 4  # cores that a Slurm job asks for; this machine's count says nothing about a node's
RETRIES = 2  # of a Slurm job, each with more time and memory
# Asked of Slurm (MB, minutes). A process that runs out of time goes on from its last checkpoint or batch.
NEEDS = {
    "align": {"mem_mb": 8000, "runtime": 60},
    "pretrain": {"mem_mb": 16000, "runtime": 480},
    "train": {"mem_mb": 16000, "runtime": 240},
    "evaluate": {"mem_mb": 16000, "runtime": 480},
}

# Of a cluster's file, such as cluster/slurm.yaml: options whose value may be a mapping (Snakemake passes over any other
# mapping in silence), and what `mmcoa run` sets itself.
OF_RULES = ("set-resources", "set-threads")
MAPPINGS = (*OF_RULES, "default-resources", "resources", "set-scatter", "set-resource-scopes", "groups", "group-components")
OURS = ("snakefile", "configfile", "executor", "directory", "cores", "workflow-profile", "profile")


def check(executor, cluster=None, per_gpu=1):
    """Raise `UserError` for an unknown executor, and where what it needs is not installed.

    `cluster`: file with a cluster's settings.
    """
    if executor not in EXECUTORS:
        raise unknown("executor", executor, EXECUTORS)
    if per_gpu < 1:
        raise UserError(f"per-gpu must be at least 1, got {per_gpu}")
    if per_gpu > 1 and executor != "local":
        raise UserError("--per-gpu is for --executor local; on Slurm the cluster shares its GPUs out")
    if executor != "slurm":
        if cluster is not None:
            raise UserError("--cluster goes with --executor slurm")
        return
    if importlib.util.find_spec("snakemake_executor_plugin_slurm") is None:
        raise UserError("--executor slurm needs the extra 'slurm': pip install 'mmcoa[slurm]'")
    if shutil.which("sbatch") is None:
        raise UserError("--executor slurm needs Slurm's command sbatch; run it on a login node of the cluster")


def read_cluster(path):
    """The options in a cluster's file, as a dict.

    Raises `UserError` for what Snakemake would ignore or `mmcoa run` sets itself.
    """
    try:
        options = yaml.safe_load(Path(path).read_text(encoding="utf8"))
    except FileNotFoundError as error:
        raise UserError(f"no cluster file {path}") from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"{path}: not valid YAML ({str(error).splitlines()[0]})") from error
    if not isinstance(options, dict):
        raise UserError(f"{path}: a cluster file is a mapping of Snakemake options, such as jobs: 20")
    for option, value in options.items():
        if option in OURS:
            raise UserError(f"{path}: '{option}' is set by mmcoa run; remove it")
        if isinstance(value, dict) and option not in MAPPINGS:
            raise UserError(f"{path}: {unknown('option with a mapping', option, MAPPINGS)}")
        for rule in value if option in OF_RULES and isinstance(value, dict) else ():
            if rule not in NEEDS:
                raise UserError(f"{path}: {unknown('rule', rule, NEEDS)}")
    return options


def jobs_at_once(jobs, executor, cluster=None):
    """Processes at once: as asked; else, on a cluster, `jobs` of its file or CLUSTER_JOBS; else one."""
    if jobs is None:
        jobs = (read_cluster(cluster) if cluster else {}).get("jobs", CLUSTER_JOBS) if executor == "slurm" else 1
    if not isinstance(jobs, int) or jobs < 1:
        raise UserError(f"jobs must be at least 1, got {jobs}")
    return jobs


def run(plan, jobs, executor, echo, cluster=None, report=False, per_gpu=1):
    """Run the pending processes with Snakemake, and after them, with `report`, build the study's report.

    Returns Snakemake's exit code; on interruption nothing is left running.
    """
    config = settings(plan, jobs, executor, per_gpu) | ({"report": plan.asked} if report else {})
    place = write_json(plan.runs / "workflow.json", config, indent=1)
    words = command(plan, place, config, jobs, executor, cluster)
    if cluster:
        accepted(words, cluster)
    write_specs(plan)
    done = plan.runs / "done"
    for process in plan.pending:
        for path in (done / process.name, plan.failure(process), plan.claim(process)):
            path.unlink(missing_ok=True)
    (done / "report").unlink(missing_ok=True)
    environment = os.environ | {"MMCOA_RUNNER": json.dumps(claim())}  # sbatch hands it on to the job
    with (plan.runs / "snakemake.log").open("w") as log:
        # A session of its own: Ctrl-C reaches this process alone, which then ends the others.
        child = subprocess.Popen(words, stdout=log, stderr=subprocess.STDOUT, env=environment, start_new_session=True)
        try:
            write_json(plan.runs / "runner.json", claim() | {"workflow": claim() | {"pid": child.pid}})
            show_progress(plan, child, jobs, echo)
        finally:
            if child.poll() is None:
                kill_tree(child.pid)
                cancel(plan.runs)
            child.wait()
    return child.returncode


def cancel(runs):
    """Take the Slurm jobs of the last workflow in runs/PROFILE out of the queue, and end those that run. There may be none.

    Snakemake would cancel them too, but only when it has slept its time between two looks at the queue.
    """
    log = runs / "snakemake.log"
    found = re.search(r"^SLURM run ID: (\S+)$", log.read_text(errors="replace") if log.is_file() else "", re.MULTILINE)
    if found and shutil.which("scancel"):
        subprocess.run(["scancel", "--name", found[1]], capture_output=True, timeout=60)


def settings(plan, jobs, executor, per_gpu=1):
    """What the Snakefile reads as `config`, JSON. Raises `UserError` where this machine has fewer GPUs than one training takes.

    per_gpu: processes that share one GPU here; Snakemake counts their places, each process finds its own (machine.py).
    """
    local, device, processes = executor == "local", plan.profile.device, {}
    threads = machine.threads(jobs) if local else CLUSTER_THREADS
    there = len(machine.visible()) if local else 0
    for process in plan.pending:
        several = plan.profile.gpus_per_training if process.kind == "train" else 1
        needs = {"needs": plan.needs(process), "processes": several, **NEEDS[process.kind]}
        processes[process.name] = needs | gpu_needs(device, several, executor, there)
    # `cuda:1` names one GPU: then they take turns at it.
    most = min(1, there) if device.startswith("cuda:") else there
    if local and (short := max((needs["gpu"] for needs in processes.values()), default=0)) > most:
        raise UserError(f"gpus_per_training is {short}, but {most} GPU{'s are' * (most != 1) or ' is'} visible")
    told = {"runs": str(plan.runs), "python": sys.executable, "threads": threads}
    return told | {"gpus": most * per_gpu, "per_gpu": per_gpu, "processes": processes}


def gpu_needs(device, several, executor, there):
    """GPUs of a process that runs as `several`: {"gpu": how many it takes, "hold": how many of them it has to lock}.

    Slurm gives a job its own. Whether `auto` means a GPU there is for the cluster's file to say, unless several are asked for.
    """
    kind, _, index = device.partition(":")
    if executor == "slurm":
        return {"hold": 0} | ({} if kind == "auto" and several == 1 else {"gpu": 0 if kind == "cpu" else several})
    takes = several if there and kind in ("cuda", "auto") else 0
    return {"gpu": takes, "hold": 0 if index else takes}


def command(plan, place, config, jobs, executor, cluster=None):
    """Words of the Snakemake command."""
    words = [sys.executable, "-m", "snakemake", "--snakefile", str(files("mmcoa.study") / "Snakefile")]
    words += ["--configfile", str(place), "--nolock", "--rerun-incomplete", "--keep-going"]
    if executor == "local":
        return [*words, "--cores", str(jobs * config["threads"]), "--resources", f"gpu={config['gpus']}"]
    words += ["--executor", "slurm", "--jobs", str(jobs)]
    told = read_cluster(cluster) if cluster else {}
    for option, value in (("retries", RETRIES), ("slurm-logdir", plan.runs / "slurm")):
        words += [] if option in told else [f"--{option}", str(value)]
    if cluster:  # Snakemake takes a folder that holds config.yaml
        folder = plan.runs / "cluster"
        write_atomic(folder / "config.yaml", lambda path: shutil.copyfile(cluster, path))
        words += ["--workflow-profile", str(folder)]
    return words


def accepted(words, cluster):
    """Raise `UserError` with Snakemake's words where it does not take the cluster's file."""
    tried = subprocess.run([*words, "--dry-run", "--quiet"], capture_output=True, text=True)
    if tried.returncode:
        said = [line.strip() for line in (tried.stderr + tried.stdout).splitlines() if line.strip()]
        last = said[-1] if said else "refused by Snakemake"
        raise UserError(f"{cluster}: {last.removeprefix('snakemake: error: ').removeprefix('__main__.py: error: ')}")
