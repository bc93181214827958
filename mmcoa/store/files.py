"""Files that a reader sees whole or not at all, and digests of files and values. All that writes or hashes uses these."""

import hashlib
import json
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any


def write_atomic(path: str | Path, write: Callable[[Path], Any]) -> Path:
    """Call `write(temporary path)`, then rename to `path`: a reader sees the whole file or none. Returns the path."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name[:64]}.{os.getpid()}-{secrets.token_hex(4)}")
    try:
        write(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def write_text(path: str | Path, text: str) -> Path:
    """`write_atomic` of a text in UTF-8."""
    return write_atomic(path, lambda temporary: temporary.write_text(text, encoding="utf8"))


def write_json(path: str | Path, value: Any, indent: int | None = None) -> Path:
    """`write_atomic` of a JSON value."""
    return write_text(path, json.dumps(value, indent=indent, ensure_ascii=False))


def digest(value: Any) -> str:
    """sha256 hex digits of a JSON value, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def file_digest(path: str | Path) -> str:
    """sha256 hex digits of a file's content."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
