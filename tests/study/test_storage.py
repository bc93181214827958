"""Disks that are full, read-only or gone: one line that says what to do, and nothing is lost."""

import errno
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from mmcoa.cli import main as cli
from mmcoa.errors import UserError, storage_problem
from mmcoa.study import preflight
from mmcoa.study.compute import run_spec
from mmcoa.study.papermill_run import main
from mmcoa.study.plan import make_plan, write_specs
from mmcoa.study.runner import run


@pytest.mark.parametrize(
    "number, says",
    [(errno.ENOSPC, "free some space"), (errno.EROFS, "make it writable"), (errno.ESTALE, "bring the disk or mount back")],
)
def test_what_to_do(number, says):
    text = storage_problem(OSError(number, os.strerror(number), "results/rows.csv"))
    assert text.startswith("results/rows.csv: ") and says in text and "the same command goes on" in text


def test_other_errors_are_no_storage_problems():
    assert storage_problem(FileNotFoundError(errno.ENOENT, "no", "x")) is None and storage_problem(ValueError("x")) is None


def test_the_command_line_says_it_in_one_line(capsys, monkeypatch):
    def fail(*arguments, **options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "results/mini/rows.csv")

    monkeypatch.setattr("mmcoa.study.runner.run", fail)
    with pytest.raises(SystemExit) as stop:
        cli.main(["run", "quick"])
    said = capsys.readouterr().err
    assert stop.value.code == 2 and said.count("\n") == 1 and "free some space" in said
    monkeypatch.setattr("mmcoa.study.runner.run", lambda *arguments, **options: Path("absent").read_text())
    with pytest.raises(FileNotFoundError):  # a fault of ours stays one
        cli.main(["run", "quick"])


@pytest.fixture
def small_disk(project):
    """Function: mount a disk of so many kB on a folder of the project; skipped where that is not allowed."""
    mounted = []

    def mount(folder, kilobytes, options="rw"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        command = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k,{options}", "none", str(folder)]
        if (
            os.name != "posix"
            or os.getuid()
            or not shutil.which("mount")
            or subprocess.run(command, capture_output=True).returncode
        ):
            pytest.skip("this test mounts small disks, which only root may, and not everywhere")
        mounted.append(folder)

    yield mount
    for folder in mounted:
        subprocess.run(["umount", "--lazy", str(folder)])


def test_a_read_only_folder_is_found_before_the_first_cell(write_profile, small_disk):
    small_disk("results", 1000, "ro")
    with pytest.raises(UserError, match="nothing was started.*results cannot be written to; make it writable"):
        run(write_profile(), echo=lambda text: None)


@pytest.mark.slow
def test_a_full_disk_stops_the_study_cleanly_and_it_goes_on_when_there_is_room(
    write_profile, small_disk, monkeypatch, replace_code
):
    replace_code("evaluate")
    path = write_profile(models=[{"defense": "none"}])
    small_disk("runs", 256)
    monkeypatch.setattr(preflight, "ROOM", 0)  # in this process: as if others had filled the disk after the start
    lines = []
    assert run(path, echo=lines.append) == 1
    text = "\n".join(lines)
    assert "failed: evaluate__none: runs/mini: 0 MB free" in text and "free some space" in text and "0 of 2 cells" in text
    subprocess.run(["mount", "-o", "remount,size=300000k", "runs"], check=True)
    assert run(path, echo=lines.append) == 0 and not make_plan(path).pending


@pytest.mark.slow
def test_a_disk_that_fills_up_inside_a_cell_leaves_nothing_half_written(write_profile, small_disk):
    plan = make_plan(write_profile(models=[{"defense": "none"}], evaluate__samples=4))
    small_disk("runs", 16)
    write_specs(plan)
    with pytest.raises(OSError, match="No space left on device"):
        run_spec(plan.spec(plan.pending[0]))
    assert not [path for path in Path("runs").rglob("*.json*") if path.name.startswith(".")]
    subprocess.run(["mount", "-o", "remount,size=4000k", "runs"], check=True)
    run_spec(plan.spec(plan.pending[0]))
    assert not make_plan("mini.yaml").pending


def test_a_process_without_room_ends_at_once(write_profile, monkeypatch, capsys):
    plan = make_plan(write_profile())
    write_specs(plan)
    process = plan.pending[0]
    usage = shutil.disk_usage(".")
    monkeypatch.setattr(preflight.shutil, "disk_usage", lambda place: usage._replace(free=1_000_000))
    assert main(plan.spec(process)) == 1
    reason = json.loads(plan.failure(process).read_text())["reason"]
    assert "1 MB free" in reason and "free some space" in reason and not plan.claim(process).exists()
