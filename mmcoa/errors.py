"""Errors a user can mend: the command line prints their text as one line and exits with code 2."""

import difflib
import errno
from collections.abc import Iterable


class UserError(Exception):
    """Something the caller said or supplied is wrong; the message says what, and how to mend it."""


def unknown(kind: str, name: object, valid: Iterable[str]) -> UserError:
    """`UserError` that names the valid names nearest to `name`."""
    valid = sorted(valid)
    near = difflib.get_close_matches(str(name), valid, n=4, cutoff=0.4)
    hint = f"nearest: {', '.join(near)}" if near else f"one of: {', '.join(valid[:20])}"
    return UserError(f"unknown {kind} '{name}'; {hint}")


STORAGE = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "free some space"),
    **dict.fromkeys((errno.EROFS, errno.EACCES, errno.EPERM), "make it writable for this user"),
    **dict.fromkeys((errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.ENXIO, errno.ENODEV), "bring the disk or mount back"),
}


def storage_problem(error: BaseException) -> str | None:
    """One line about an `OSError` of the disk that is full, read-only or gone, with what to do; None for any other error."""
    if not isinstance(error, OSError) or error.errno not in STORAGE:
        return None
    place = f"{error.filename}: " if error.filename else ""
    return f"{place}{error.strerror}; {STORAGE[error.errno]}, then the same command goes on from here"


def reason(error: BaseException, length: int = 300) -> str:
    """An error's text as one line, whole but for what exceeds `length` characters; its class where it has none."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= length else f"{text[: length - 1]}…"


NETWORK = {  # classes by name: whose they are need not be installed
    *("ConnectError", "ConnectionError", "NetworkError", "TimeoutException", "Timeout", "URLError", "gaierror"),
    *("LocalEntryNotFoundError", "OfflineModeIsEnabled"),
}


def is_network(error: BaseException | None) -> bool:
    """Whether an error, or what caused it, is that something on the network was not reached."""
    while error is not None:
        if {kind.__name__ for kind in type(error).__mro__} & NETWORK:
            return True
        error = error.__cause__ or error.__context__
    return False
