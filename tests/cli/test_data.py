"""`mmcoa data` and the table of `mmcoa datasets`."""

import importlib
import subprocess
import sys

import pytest

from mmcoa.cli import data as cli_data
from mmcoa.cli import main as cli
from mmcoa.datasets.records import Archive, Download, PromptRule, Record
from mmcoa.errors import UserError

from ..datasets.test_download import make_tar, server  # noqa: F401
from ..datasets.test_webdataset import write_folder

records_module = importlib.import_module("mmcoa.datasets.records")  # its name in the package is the function


@pytest.fixture
def call(capsys, monkeypatch):
    """Run `mmcoa data ...` in this process: (exit code, stdout, stderr)."""
    monkeypatch.setenv("MMCOA_DATA", "/nowhere")  # so that what --root sets is undone

    def run(*arguments):
        try:
            code = cli_data.app([str(argument) for argument in arguments], standalone_mode=False) or 0
        except (UserError, cli.UsageError) as error:
            code = 2
            print(error, file=sys.stderr)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture
def small(monkeypatch):
    """A data set that the test chooses stands beside the real ones."""

    def add(**changes):
        about = dict(name="small", title="Small", reader="webdataset", options={"folder": "wds"}, classes=2, splits={"test": 4})
        record = Record(
            **(about | dict(prompt=PromptRule(template="a {}"), licence="-", source="-", size=8, manual="copy it") | changes)
        )
        known = {**records_module.records(), "small": record}
        monkeypatch.setattr(records_module, "records", lambda: known)

    return add


def test_check_says_ready_or_not(call, small, tmp_path):
    small()
    write_folder(tmp_path / "wds", [(8, 8)] * 4, [0, 1, 0, 1])
    code, out, _ = call("check", "small", "--root", tmp_path)
    assert code == 0 and out.splitlines()[-1] == "small: ready (test 4 pictures)" and "2 each" in out
    small(splits={"test": 5})
    code, out, _ = call("check", "small", "--root", tmp_path, "--full")
    assert code == 1 and out.splitlines()[-1] == "small: NOT ready: test: pictures: 4, expected 5; copy it" and "WRONG" in out
    code, out, _ = call("check", "small", "--root", tmp_path / "absent")
    assert code == 1 and "NOT ready" in out
    code, out, _ = call("check", f"wds:{tmp_path / 'wds'}")
    assert code == 0 and out.splitlines()[-1] == "wds:wds: ready (test 4 pictures)"


@pytest.mark.parametrize("command", ["get", "check", "prompts"])
def test_an_unknown_name_is_a_mistake(call, command):
    code, _, err = call(command, "cifar1")
    assert code == 2 and "unknown data set 'cifar1'" in err and "cifar10" in err


def test_get(call, small, server, tmp_path):  # noqa: F811
    write_folder(tmp_path / "origin" / "wds", [(8, 8)] * 4, [0, 1, 0, 1])
    files = {
        path.relative_to(tmp_path / "origin").as_posix(): path.read_bytes()
        for path in (tmp_path / "origin").rglob("*")
        if path.is_file()
    }
    server.files["/small.tar.gz"] = make_tar(files)
    small(download=Download(files=[Archive(url=f"{server.url}/small.tar.gz")]))
    root = tmp_path / "root"
    code, out, err = call("get", "small", "--root", root)
    assert (
        code == 0
        and out == f"small is in {root}; next: mmcoa data check small --root {root}\n"
        and "fetching small.tar.gz" in err
    )
    asked = len(server.requests)
    assert call("get", "small", "--root", root)[0] == 0 and len(server.requests) == asked
    assert call("check", "small", "--root", root)[1].endswith("small: ready (test 4 pictures)\n")
    code, out, _ = call("get", "small", "--root", tmp_path / "origin")  # somebody unpacked it by hand: nothing is fetched
    assert code == 0 and out == "small: ready (test 4 pictures)\n" and len(server.requests) == asked
    assert call("get", "small", "--root", root, "--again")[0] == 0 and len(server.requests) == asked + 1


def test_get_fetches_a_split_that_is_absent(call, small, server, tmp_path):  # noqa: F811
    write_folder(tmp_path / "wds", [(8, 8)] * 4, [0, 1, 0, 1])
    small(splits={"test": 4, "train": 4}, download=Download(files=[Archive(url=f"{server.url}/train.zip")]))
    assert call("check", "small", "--root", tmp_path)[1].endswith("small: ready (test 4 pictures; not here: train)\n")
    code, _, err = call("get", "small", "--root", tmp_path)
    assert code == 2 and "train.zip is not there" in err


def test_get_what_needs_no_download_or_has_none(call, small, tmp_path):
    assert call("get", "openmoji/birds")[1] == "openmoji/birds is embedded: there is nothing to fetch\n"
    small()
    code, _, err = call("get", "small", "--root", tmp_path)
    assert code == 2 and "cannot be fetched by a command. copy it" in err


def test_get_an_address(call, server, tmp_path):  # noqa: F811
    folder = write_folder(tmp_path / "wds", [(8, 8)] * 4, [0, 1, 0, 1])
    server.files |= {
        f"/x/wds/{path.relative_to(folder).as_posix()}": path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }
    code, out, _ = call("get", f"wds:{server.url}/x/wds", "--root", tmp_path / "root")
    assert code == 0 and out.startswith(f"{tmp_path / 'root' / 'wds'} is there; use it with --dataset wds:{server.url}/x/wds")
    assert call("check", f"wds:{server.url}/x/wds", "--root", tmp_path / "root")[0] == 0


def test_prompts_need_no_data(call):
    code, out, _ = call("prompts", "cifar10")
    assert (
        code == 0
        and "airplane\tThis is a photo of a airplane" in out
        and "10 prompts\n0 prompts name more than one class" in out
    )
    code, out, _ = call("prompts", "cifar10", "--template", "a drawing of {}")
    assert code == 0 and "a drawing of airplane" in out
    code, out, _ = call("prompts", "cifar10", "--prompts", "openclip")
    assert code == 0 and "10 prompts of each of 18 templates" in out and "  a photo of a airplane." in out
    code, out, _ = call("prompts", "cars")
    assert "dodge durango suv.\tDodge Durango SUV 2012, Dodge Durango SUV 2007" in out
    assert "2 prompts name" not in call("prompts", "openmoji/birds")[1]


def test_prompts_mistakes(call, tmp_path):
    for arguments, near in (
        (("--prompts", "openai"), "openclip"),
        (("--template", "no place"), "has no {}"),
    ):
        code, _, err = call("prompts", "cifar10", *arguments)
        assert code == 2 and near in err
    code, _, err = call("prompts", "openmoji/birds", "--prompts", "openclip")
    assert code == 2 and "has no prompts of the preset 'openclip'" in err
    code, _, err = call("prompts", "photos/mnist", "--root", tmp_path)  # its names are in its folder
    assert code == 2 and "wds_mnist" in err


@pytest.mark.parametrize("command", ["get", "check", "prompts"])
def test_help_has_an_example(call, command):
    code, out, _ = call(command, "--help")
    assert code == 0 and f"Example: mmcoa data {command} c" in " ".join(out.replace("│", " ").split())


def test_the_table_of_data_sets(small, tmp_path, capsys):
    small()
    write_folder(tmp_path / "wds", [(8, 8)] * 4, [0, 1, 0, 1])
    columns, rows = cli_data.datasets_table(tmp_path)
    table = {row[0]: dict(zip([column.strip() for column in columns], row, strict=True)) for row in rows}
    assert (
        table["small"]["here"] == "yes" and table["cifar10"]["here"] == "no" and table["openmoji/birds"]["here"] == "embedded"
    )
    assert table["photos/cifar10-shift"]["here"] == "no"
    assert table["cifar10"]["test"].strip() == "10,000" and table["caltech101"]["test"].strip() == "of 8,677"
    assert table["caltech101"]["evaluated split"] == "test (paper: all)" and table["cifar10"]["evaluated split"] == "test"
    cli_data.print_table(columns, rows)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(rows) + 1 and max(map(len, lines)) <= 160  # no line is folded


def test_the_table_does_not_wait_for_torch():
    code = "import sys; from mmcoa.cli.data import datasets_table; datasets_table(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
