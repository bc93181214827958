"""The user's cache: what is costly to compute and can be computed again, under everything that it depends on (trap T6)."""

import contextlib
import hashlib
import json
import os
import tempfile
from pathlib import Path


def cache_folder():
    """Folder of everything that can be computed again: $MMCOA_CACHE, or the user's cache folder."""
    return Path(os.environ.get("MMCOA_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mmcoa")


def cached(kind, key, compute):
    """`compute()`, a JSON value, kept in the cache under everything that it depends on.

    kind: subfolder of the cache. key: JSON value; name in it hashes of files, settings and the version of the code. A damaged
    entry is computed again; a folder that cannot be written to costs time only.
    """
    text = json.dumps(key, sort_keys=True)
    path = cache_folder() / kind / f"{hashlib.sha256(text.encode()).hexdigest()}.json"
    try:
        entry = json.loads(path.read_text(encoding="utf8"))
        if entry["key"] == json.loads(text):
            return entry["value"]
    except (OSError, ValueError, KeyError, TypeError):
        pass
    value = compute()
    with contextlib.suppress(OSError):
        write_json(path, {"key": key, "value": value})
    return value


def write_json(path, value):
    """Write a JSON file, whole or not at all."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=f".{path.name[:32]}-", delete=False, encoding="utf8") as file:
        try:
            json.dump(value, file, indent=1, ensure_ascii=False)
            file.flush()
            os.fchmod(file.fileno(), 0o644)  # temporary files are private: a table is for everyone
            os.replace(file.name, path)
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise
