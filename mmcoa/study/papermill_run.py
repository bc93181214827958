"""Run one notebook in one process: papermill with the checks that it lacks.

    run_notebook("notebooks/evaluate.ipynb", "out.ipynb", {"dataset": "openmoji/birds"})
    python -m mmcoa.study.papermill_run SPEC.json      # as the Snakefile does

An unknown parameter is an error; the output appears under its name only if every cell ran; a failed run is kept as
NAME.failed.ipynb. The kernel is this interpreter, whatever kernels the machine has installed.
"""

import json
import os
import sys
import threading
import time
from pathlib import Path

import nbformat
import papermill
from ipykernel.kernelspec import get_kernel_dict
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager

from mmcoa.errors import UserError, unknown
from mmcoa.study.processes import alive, claim, kill_tree
from mmcoa.study.records import write_atomic

RUNNER = "MMCOA_RUNNER"  # environment: the runner's claim; a run whose runner was killed ends itself


class NotebookFailed(Exception):
    """A cell raised; the text is `Error: message`, `notebook` the partly executed notebook."""

    def __init__(self, reason, notebook):
        super().__init__(reason)
        self.notebook = notebook


class ThisInterpreter(AsyncKernelManager):
    """A kernel of the Python that runs mmcoa: needs no installed kernelspec, and ignores one of another Python."""

    @property
    def kernel_spec(self):
        # tqdm warns, with a path of this machine, that it cannot draw widgets; none are wanted.
        env = {"PYTHONWARNINGS": ",".join(filter(None, [os.environ.get("PYTHONWARNINGS"), "ignore:IProgress not found"]))}
        # The kernel logs a warning about TCP at each start and an error at each orderly end: only what is fatal is news.
        return KernelSpec(resource_dir="", env=env, **get_kernel_dict(["--IPKernelApp.log_level=50"]))


def check_parameters(notebook, parameters):
    """Raise `UserError` for a missing or damaged notebook and for parameters that its `parameters` cell does not define (trap N1)."""
    notebook = Path(notebook)
    if not notebook.is_file():
        raise UserError(f"no notebook {notebook}; run from the project's root folder, which holds notebooks/")
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
    running = output.with_name(f".{output.stem}.running.ipynb")
    failed = output.with_name(f"{output.stem}.failed.ipynb")
    reason = None
    try:
        papermill.execute_notebook(
            str(notebook), str(running), parameters, kernel_name="python3", kernel_manager_class=ThisInterpreter, progress_bar=False
        )
    except papermill.PapermillExecutionError as error:
        reason = one_line(f"{error.ename}: {error.evalue}")
    except Exception as error:
        reason = one_line(f"{type(error).__name__}: {error}")  # the kernel died, or never came up
    if not running.is_file():
        raise NotebookFailed(reason or "papermill wrote no output", notebook)
    executed = nbformat.read(running, as_version=4)
    raised = [out for cell in executed.cells for out in cell.get("outputs", []) if out.output_type == "error"]
    reason = reason or (one_line(f"{raised[0].ename}: {raised[0].evalue}") if raised else None)
    nbformat.write(tidy(executed), running)
    if reason:
        os.replace(running, failed)
        raise NotebookFailed(reason, failed)
    os.replace(running, output)
    failed.unlink(missing_ok=True)
    return output


def tidy(notebook):
    """Strip papermill's and the client's metadata and widget state; hide the injected cell's code in the book."""
    for key in ("papermill", "widgets"):
        notebook.metadata.pop(key, None)
    for cell in notebook.cells:
        for key in ("papermill", "execution"):
            cell.metadata.pop(key, None)
        tags = cell.metadata.get("tags", [])
        if "injected-parameters" in tags and "hide-input" not in tags:
            tags.append("hide-input")
        if not tags:
            cell.metadata.pop("tags", None)
    return notebook


def one_line(text):
    """First line that says something, at most 300 characters."""
    return next((line.strip() for line in str(text).splitlines() if line.strip()), "unknown error")[:300]


def end_with_runner():
    """End this process and its kernel when the runner that started it is gone (killed, not just interrupted)."""
    if RUNNER not in os.environ:
        return
    runner = json.loads(os.environ[RUNNER])

    def watch():
        while alive(runner):
            time.sleep(1)
        kill_tree(os.getpid(), itself=False)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def main(path):
    """Run the notebook of a SPEC.json; leaves runs/PROFILE/failed/NAME.json where it fails. Returns the exit code."""
    spec = json.loads(Path(path).read_text(encoding="utf8"))
    end_with_runner()
    running, failed = (Path(spec["state"]) / kind / f"{spec['name']}.json" for kind in ("running", "failed"))
    failed.unlink(missing_ok=True)
    write_atomic(running, lambda p: p.write_text(json.dumps(claim())))
    try:
        run_notebook(spec["notebook"], spec["output"], spec["parameters"])
    except (NotebookFailed, UserError) as error:
        failure = {"reason": str(error), "notebook": str(getattr(error, "notebook", spec["notebook"]))}
        write_atomic(failed, lambda p: p.write_text(json.dumps(failure)))
        print(f"error: {error}", file=sys.stderr)
        return 1
    finally:
        running.unlink(missing_ok=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
