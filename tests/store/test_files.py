import os
import subprocess
import sys
import threading

import pytest

from mmcoa.store.files import digest, file_digest, write_atomic, write_json, write_text


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = write_text(tmp_path / "new" / "a.txt", "old")

    def fail(temporary):
        temporary.write_text("half")
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space"):
        write_atomic(path, fail)
    assert path.read_text() == "old" and list(path.parent.iterdir()) == [path]


def test_a_file_is_for_whom_the_umask_lets(tmp_path):
    before = os.umask(0o027)
    try:
        assert write_json(tmp_path / "a.json", {}).stat().st_mode & 0o777 == 0o640
    finally:
        os.umask(before)


def test_two_writers_do_not_mix(tmp_path):
    texts = [letter * 200_000 for letter in "ab"]
    threads = [threading.Thread(target=write_text, args=(tmp_path / "a", text)) for text in texts * 4]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (tmp_path / "a").read_text() in texts and len(list(tmp_path.iterdir())) == 1


def test_digests_depend_on_values_alone(tmp_path):
    assert digest({"a": 1, "b": [2]}) == digest({"b": [2], "a": 1}) != digest({"a": 1, "b": ["2"]})
    assert file_digest(write_text(tmp_path / "a", "x")) == file_digest(write_text(tmp_path / "b", "x"))


def test_writing_a_file_needs_no_heavy_package():
    code = "import sys, mmcoa.store.files; sys.exit(bool({'pandas', 'pyarrow', 'torch', 'numpy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
