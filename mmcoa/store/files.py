"""Files that a reader sees whole or not at all, and digests of files and values. All that writes or hashes uses these."""

import hashlib
import json
import os
import tempfile
from pathlib import Path


def write_atomic(path, write):
    """Call `write(temporary path)`, then rename to `path`: a reader sees the whole file or none. Returns the path."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        write(temporary)
        temporary.chmod(0o666 & ~_umask())  # mkstemp's file is for its owner alone
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def write_text(path, text):
    """`write_atomic` of a text in UTF-8."""
    return write_atomic(path, lambda temporary: temporary.write_text(text, encoding="utf8"))


def write_json(path, value, indent=None):
    """`write_atomic` of a JSON value."""
    return write_text(path, json.dumps(value, indent=indent))


def _umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask


def digest(value):
    """sha256 hex digits of a JSON value, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def file_digest(path):
    """sha256 hex digits of a file's content."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
