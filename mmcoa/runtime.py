"""The process: settings that make CPU runs faster and keep their memory flat."""

import ctypes
import sys


def tune_allocator():
    """Let glibc keep freed memory instead of handing it back to the system after each large tensor.

    Activations of a batch are megabytes each: by default every one is mapped, zeroed page by page and unmapped again.
    Does nothing where there is no glibc. Returns whether it did something.
    """
    return _thresholds(mmap=1 << 30, trim=(1 << 31) - 1)


def usual_allocator():
    """The other way round: what a process without `tune_allocator` comes to, glibc's largest thresholds (for benchmarks)."""
    return _thresholds(mmap=1 << 25, trim=1 << 26) and release_memory()


def _thresholds(mmap, trim):
    """Sizes in bytes from which memory is mapped by itself, and from which a free end of the heap is handed back."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        libc = ctypes.CDLL("libc.so.6")
        m_trim_threshold, m_mmap_threshold = -1, -3
        return bool(libc.mallopt(m_mmap_threshold, mmap) and libc.mallopt(m_trim_threshold, trim))
    except (OSError, AttributeError):
        return False


def release_memory():
    """Hand freed memory back to the system, where there is a glibc. Returns whether it could be asked.

    With `tune_allocator` the heap keeps what is freed, and fragments: over thousands of samples an evaluation would grow by a
    fifth without holding one tensor more. A trim costs milliseconds.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    except (OSError, AttributeError):
        return False
    return True
