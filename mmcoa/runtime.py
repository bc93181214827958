"""Settings of the process that make CPU runs faster."""

import ctypes
import sys


def tune_allocator():
    """Let glibc keep freed memory instead of handing it back to the system after each large tensor.

    Activations of a batch are megabytes each: by default every one is mapped, zeroed page by page and unmapped again.
    Does nothing where there is no glibc. Returns whether it did something.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        libc = ctypes.CDLL("libc.so.6")
        m_trim_threshold, m_mmap_threshold = -1, -3
        return bool(libc.mallopt(m_mmap_threshold, 1 << 30) and libc.mallopt(m_trim_threshold, (1 << 31) - 1))
    except (OSError, AttributeError):
        return False
