"""One process of a study: a notebook, run by papermill with the checks that it lacks, and what the runner learns of it.

    run_notebook("notebooks/evaluate.ipynb", "out.ipynb", {"dataset": "openmoji/birds"})
    python -m mmcoa.study.papermill_run SPEC.json      # as the Snakefile does, which adds --processes, --gpus, --share and
    --attempt

An unknown parameter is an error; the output appears under its name only if every cell ran; a failed run is kept as
NAME.failed.ipynb. The kernel is this interpreter, whatever kernels the machine has installed.
"""

import argparse
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import nbformat
import papermill
from ipykernel.kernelspec import get_kernel_dict
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager

from mmcoa.errors import UserError, storage_problem, unknown
from mmcoa.store.files import write_json
from mmcoa.study import machine, preflight
from mmcoa.study.machine import alive, claim, claimed, kill_tree, on_signals

RUNNER = "MMCOA_RUNNER"  # environment: the runner's claim; a run whose runner was killed ends itself

# --multi_gpu names accelerate's launcher for one process a GPU; without a GPU the processes talk over gloo.
# Port 0: any free one, since several trainings may run on one machine.
LAUNCH = ["--multi_gpu", "--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
LAUNCH += ["--main_process_port", "0"]
RAISED = re.compile(r"^(?:\[rank\d+\]: ?)?((?:error|[A-Za-z_.]*(?:Error|Exception|Interrupt)): .+)")


class NotebookFailed(Exception):
    """A cell raised; the text is `Error: message`, `notebook` the partly executed notebook.

    `final`: False where the process was killed, so that another try, with more memory or time, may end otherwise.
    """

    def __init__(self, reason, notebook, final=True):
        super().__init__(reason)
        self.notebook, self.final = notebook, final


class ThisInterpreter(AsyncKernelManager):
    """A kernel of the Python that runs mmcoa: needs no installed kernelspec, and ignores one of another Python."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._handler = signal.getsignal(signal.SIGTERM)

    async def start_kernel(self, **kwargs):
        """nbclient has set a SIGTERM handler of its own meanwhile, too slow for a scheduler that kills soon after: undo
        that.
        """
        await super().start_kernel(**kwargs)
        if callable(self._handler) and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._handler)

    @property
    def kernel_spec(self):
        # tqdm warns, with a path of this machine, that it cannot draw widgets; none are wanted.
        env = {"PYTHONWARNINGS": ",".join(filter(None, [os.environ.get("PYTHONWARNINGS"), "ignore:IProgress not found"]))}
        # The kernel logs a warning about TCP at each start and an error at each orderly end: only what is fatal is news.
        return KernelSpec(resource_dir="", env=env, **get_kernel_dict(["--IPKernelApp.log_level=50"]))


def check_parameters(notebook, parameters):
    """Raise `UserError` for a missing or damaged notebook and for parameters that its `parameters` cell does not define
    (trap N1).
    """
    notebook = Path(notebook)
    if not notebook.is_file():
        raise UserError(f"no notebook {notebook}")
    try:
        known = papermill.inspect_notebook(str(notebook))
    except (ValueError, KeyError, nbformat.ValidationError) as error:
        raise UserError(f"damaged notebook {notebook}: {str(error).splitlines()[0]}") from error
    for name in parameters:
        if name not in known:
            raise UserError(f"{notebook}: {unknown('parameter', name, known)}")


def run_notebook(notebook, output, parameters):
    """Execute `notebook` with `parameters` and write `output`. Raises `NotebookFailed` where a cell raised."""
    notebook, output = Path(notebook), Path(output)
    check_parameters(notebook, parameters)
    output.parent.mkdir(parents=True, exist_ok=True)
    running, failed = output.with_name(f".{output.stem}.running.ipynb"), output.with_name(f"{output.stem}.failed.ipynb")
    options = dict(kernel_name="python3", kernel_manager_class=ThisInterpreter, progress_bar=False)
    try:
        papermill.execute_notebook(str(notebook), str(running), parameters, **options)
    except Exception as error:  # of a cell; any other one: the kernel died, or never came up
        raised = isinstance(error, papermill.PapermillExecutionError)
        reason = one_line(f"{error.ename}: {error.evalue}" if raised else f"{type(error).__name__}: {error}")
        if not running.is_file():
            raise NotebookFailed(reason, notebook, final=False) from error
        os.replace(running, failed)
        raise NotebookFailed(reason, failed, final=raised) from error
    os.replace(running, output)
    failed.unlink(missing_ok=True)
    return output


def one_line(text):
    """First line that says something, at most 300 characters."""
    return next((line.strip() for line in str(text).splitlines() if line.strip()), "unknown error")[:300]


def end_with_runner(state):
    """End this process and its kernel when the runner that started it is gone: killed, not just interrupted.

    state: folder runs/PROFILE, whose runner.json names the runner at work. On a cluster a job cannot see whether a process on
    another host lives, but it sees that another runner has taken over.
    """
    if RUNNER not in os.environ:
        return
    runner = json.loads(os.environ[RUNNER])

    def replaced():
        owner = claimed(Path(state) / "runner.json")
        return owner is not None and (owner["host"], owner["pid"]) != (runner["host"], runner["pid"])

    def watch():
        while alive(runner) and not replaced():
            time.sleep(1)
        kill_tree(os.getpid(), itself=False)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def last_words(running, failed, notebook):
    """On SIGTERM, as from a scheduler whose time is up, take back the claim `running` and leave the reason in `failed`."""

    def end(*_):
        running.unlink(missing_ok=True)
        fail(failed, "ended from outside (SIGTERM): out of time on the cluster, or cancelled", notebook, final=False)
        kill_tree(os.getpid(), itself=False)
        os._exit(1)

    return on_signals(end, signal.SIGTERM)


def fail(path, reason, notebook, final):
    """Leave a reason in runs/PROFILE/failed/NAME.json; `final`: another try would end the same way."""
    print(f"error: {reason}", file=sys.stderr)
    with contextlib.suppress(OSError):  # a full disk; the runner looks at it too
        write_json(path, {"reason": reason, "notebook": str(notebook), "final": final})


def train_together(spec, processes, log):
    """Train the cell of a SPEC.json in several processes, their output in the file `log`. Returns why that failed, in one
    line, or None.
    """
    log = Path(log)
    log.parent.mkdir(parents=True, exist_ok=True)
    cores = int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1)
    environment = os.environ | {"OMP_NUM_THREADS": str(max(1, cores // processes))}  # shared out, as the cores of a run are
    command = [sys.executable, "-m", "accelerate.commands.launch", *LAUNCH, "--num_processes", str(processes)]
    command += ["-m", "mmcoa.study.compute", str(spec)]
    with log.open("w", encoding="utf8") as file:
        code = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT, env=environment).returncode
    return first_error(log.read_text(encoding="utf8", errors="replace"), code) if code else None


def first_error(text, code):
    """The first error that one of the processes raised; what the launcher says about it comes after."""
    raised = (found[1] for line in text.splitlines() if (found := RAISED.match(line)))
    return next(raised, f"accelerate launch ended with code {code}").removeprefix("error: ")


def main(path, processes=1, hold=0, share=1, attempt=1):
    """Run the notebook of a SPEC.json; leaves runs/PROFILE/failed/NAME.json where it fails. Returns the exit code.

    Arguments:
        processes: so many train the cell first, see `train_together`; the notebook then shows what they made.
        hold: GPUs to hold meanwhile, of which each is for `share` processes; see machine.py.
        attempt: the how-manieth try it is. What a cell of the notebook raised in the one before is final: raised again at once.
    """
    spec = json.loads(Path(path).read_text(encoding="utf8"))
    running, failed = (Path(spec["runs"]) / kind / f"{spec['name']}.json" for kind in ("running", "failed"))
    if attempt > 1 and failed.is_file() and (before := json.loads(failed.read_text())).get("final"):
        print(f"error, not tried again: {before['reason']}", file=sys.stderr)
        return 1
    end_with_runner(spec["runs"])
    failed.unlink(missing_ok=True)
    try:
        if full := preflight.crowded(spec["results"], spec["runs"]):  # those after the one that filled the disk end at once
            raise UserError("; ".join(full))
        with last_words(running, failed, spec["notebook"]), machine.hold(hold, share=share):
            write_json(running, claim())
            if processes > 1:
                log = Path(spec["runs"]) / "logs" / f"{spec['name']}.training.log"
                if reason := train_together(path, processes, log):
                    raise NotebookFailed(one_line(reason), log)
            run_notebook(spec["notebook"], spec["executed"], {"plan": str(path)})
    except (NotebookFailed, UserError) as error:
        fail(failed, str(error), getattr(error, "notebook", spec["notebook"]), getattr(error, "final", True))
        return 1
    except OSError as error:
        if (reason := storage_problem(error)) is None:
            raise
        fail(failed, reason, spec["notebook"], final=True)
        return 1
    finally:
        with contextlib.suppress(OSError):
            running.unlink(missing_ok=True)
    return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m mmcoa.study.papermill_run", description="Run the notebook of a SPEC.json.")
    parser.add_argument("path", metavar="SPEC.json", help="as in runs/PROFILE/specs/")
    parser.add_argument("--processes", type=int, default=1, help="train in so many processes first")
    parser.add_argument("--gpus", type=int, default=0, dest="hold", help="wait for so many free GPUs and hold them")
    parser.add_argument("--share", type=int, default=1, help="processes that may be on each of them at once")
    parser.add_argument("--attempt", type=int, default=1, help="the how-manieth try")
    sys.exit(main(**vars(parser.parse_args())))
