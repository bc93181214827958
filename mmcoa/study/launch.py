"""Train one cell in several processes: `accelerate launch` of compute.py, whose checkpoint the notebook then finds and
shows.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

# --multi_gpu names accelerate's launcher for one process a GPU; without a GPU the processes talk over gloo.
# Port 0: any free one, since several trainings may run on one machine.
LAUNCH = (
    "-m",
    "accelerate.commands.launch",
    "--multi_gpu",
    "--num_machines",
    "1",
    "--mixed_precision",
    "no",
    "--dynamo_backend",
    "no",
    "--main_process_port",
    "0",
)
RAISED = re.compile(r"^(?:\[rank\d+\]: ?)?((?:error|[A-Za-z_.]*(?:Error|Exception|Interrupt)): .+)")


def command(spec, processes):
    """Words of the command that trains the cell of a SPEC.json."""
    return [sys.executable, *LAUNCH, "--num_processes", str(processes), "-m", "mmcoa.study.compute", str(spec)]


def train(spec, processes, log):
    """Run the command, its output in the file `log`. Returns why it failed, in one line, or None."""
    log = Path(log)
    log.parent.mkdir(parents=True, exist_ok=True)
    cores = int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1)
    environment = os.environ | {"OMP_NUM_THREADS": str(max(1, cores // processes))}  # shared out, as the cores of a run are
    with log.open("w", encoding="utf8") as file:
        code = subprocess.run(command(spec, processes), stdout=file, stderr=subprocess.STDOUT, env=environment).returncode
    return reason(log.read_text(encoding="utf8", errors="replace"), code) if code else None


def reason(text, code):
    """The first error that one of the processes raised; what the launcher says about it comes after."""
    raised = [found[1] for line in text.splitlines() if (found := RAISED.match(line))]
    return raised[0].removeprefix("error: ") if raised else f"accelerate launch ended with code {code}"
