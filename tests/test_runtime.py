import platform
import sys

from mmcoa import runtime
from mmcoa.runtime import release_memory, releasing, tune_allocator


def test_tuning_the_allocator_works_on_glibc_and_is_harmless_elsewhere(monkeypatch):
    assert tune_allocator() is (platform.libc_ver()[0] == "glibc")
    monkeypatch.setattr(sys, "platform", "darwin")
    assert tune_allocator() is False


def test_freed_memory_is_handed_back_now_and_then(monkeypatch):
    assert release_memory() is (platform.libc_ver()[0] == "glibc")
    seen, released = [], []
    monkeypatch.setattr(runtime, "release_memory", lambda: released.append(len(seen)))
    advance = releasing(lambda done, total: seen.append(done), every=3)
    for done in range(7):
        advance(done, 7)
    assert seen == list(range(7)) and released == [2, 5]
    releasing(None)(1, 2)
