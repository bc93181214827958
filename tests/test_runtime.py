import platform
import sys

from mmcoa.runtime import tune_allocator


def test_tuning_the_allocator_works_on_glibc_and_is_harmless_elsewhere(monkeypatch):
    assert tune_allocator() is (platform.libc_ver()[0] == "glibc")
    monkeypatch.setattr(sys, "platform", "darwin")
    assert tune_allocator() is False
