"""The user's cache: what is costly to compute and can be computed again, under everything that it depends on (trap T6)."""

import contextlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mmcoa.store.files import digest, write_json


def cache_folder() -> Path:
    """Folder of everything that can be computed again: $MMCOA_CACHE, or the user's cache folder."""
    users = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(os.environ.get("MMCOA_CACHE") or users / "mmcoa")


def cached(kind: str, key: Any, compute: Callable[[], Any]) -> Any:
    """`compute()`, a JSON value, kept in the cache under everything that it depends on.

    A damaged entry is computed again; a folder that cannot be written to costs time only.

    Arguments:
        kind: subfolder of the cache.
        key: JSON value; name in it hashes of files, settings and the version of the code.
    """
    path = cache_folder() / kind / f"{digest(key)}.json"
    try:
        entry = json.loads(path.read_text(encoding="utf8"))
        if digest(entry["key"]) == digest(key):
            return entry["value"]
    except (OSError, ValueError, KeyError, TypeError):
        pass
    value = compute()
    with contextlib.suppress(OSError):
        write_json(path, {"key": key, "value": value}, indent=1)
    return value
