import platform
import sys

from mmcoa.runtime import release_memory, tune_allocator, usual_allocator


def test_tuning_the_allocator_works_on_glibc_and_is_harmless_elsewhere(monkeypatch):
    assert tune_allocator() is (platform.libc_ver()[0] == "glibc")
    assert usual_allocator() is tune_allocator()
    monkeypatch.setattr(sys, "platform", "darwin")
    assert tune_allocator() is False


def test_freed_memory_can_be_handed_back():
    assert release_memory() is (platform.libc_ver()[0] == "glibc")
