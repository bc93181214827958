"""One notebook in one process: unknown parameters, failures, what is kept."""

import json
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from mmcoa.errors import UserError
from mmcoa.study.papermill_run import NotebookFailed, check_parameters, main, one_line, run_notebook

KERNEL = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}


@pytest.fixture
def notebook(tmp_path, monkeypatch):
    """A notebook of two cells that needs no library; `fail` makes it raise."""
    monkeypatch.chdir(tmp_path)
    cells = [new_code_cell("samples = 1  # how many\nfail = False  # raise", metadata={"tags": ["parameters"]})]
    cells.append(new_code_cell("import sys\nassert not fail, f'wanted, with {samples}\\nsecond line'\nsys.executable"))
    nbformat.write(new_notebook(cells=cells, metadata=KERNEL), "small.ipynb")
    return Path("small.ipynb")


def test_unknown_parameter_is_an_error(notebook):
    with pytest.raises(UserError, match=r"small\.ipynb: unknown parameter 'sampels'; nearest: samples"):
        run_notebook(notebook, "out.ipynb", {"sampels": 3})
    assert not list(Path().glob("*out*"))


def test_missing_and_damaged_notebook(notebook):
    with pytest.raises(UserError, match=r"no notebook absent\.ipynb; run from the project's root folder"):
        check_parameters("absent.ipynb", {})
    notebook.write_text("{ no")
    with pytest.raises(UserError, match=r"damaged notebook small\.ipynb"):
        check_parameters(notebook, {})


def test_success_then_failure(notebook):
    """A failure is kept under another name and does not touch what succeeded before; success removes it."""
    import sys

    output = run_notebook(notebook, "made/out.ipynb", {"samples": 2})
    executed = nbformat.read(output, as_version=4)
    assert executed.cells[2].outputs[0].data["text/plain"] == repr(sys.executable)  # the kernel is this Python
    assert executed.cells[1].metadata["tags"] == ["injected-parameters", "hide-input"]
    assert "papermill" not in executed.metadata and not any("papermill" in cell.metadata for cell in executed.cells)
    good = output.read_bytes()
    spec = {"name": "out", "kind": "evaluate", "notebook": str(notebook), "output": str(output), "state": "runs", "parameters": {"fail": True}}
    Path("spec.json").write_text(json.dumps(spec))
    assert main("spec.json") == 1
    failure = json.loads(Path("runs/failed/out.json").read_text())
    assert failure == {"reason": "AssertionError: wanted, with 1", "notebook": "made/out.failed.ipynb"}
    assert output.read_bytes() == good
    assert sorted(path.name for path in Path("made").iterdir()) == ["out.failed.ipynb", "out.ipynb"]
    assert not list(Path("runs/running").iterdir())


def test_a_kernel_that_dies_is_a_failure(notebook):
    nb = nbformat.read(notebook, as_version=4)
    nb.cells[1].source = "import os\nos._exit(1)"
    nbformat.write(nb, notebook)
    with pytest.raises(NotebookFailed, match="Dead"):
        run_notebook(notebook, "out.ipynb", {})
    assert not Path("out.ipynb").exists() and Path("out.failed.ipynb").exists()


def test_one_line():
    assert one_line("\n  first\nsecond") == "first"
    assert len(one_line("x" * 1000)) == 300
