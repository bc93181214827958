"""Candidate tables on disk: what `mmcoa candidates build|show` call, and the cache of what is costly to compute.

A table file is JSON {"source": ..., "prompts": {prompt: {position: [candidate, ...]}}}; positions count words from 0. It
serves as a candidate source by its name: `--candidates FILE.json`.
"""

import contextlib
import hashlib
import json
import os
import tempfile
from pathlib import Path

from mmcoa.attacks.candidates import CandidateTable
from mmcoa.attacks.words import content_positions, split_words
from mmcoa.errors import UserError


def cache_folder():
    """Folder of everything that can be computed again: $MMCOA_CACHE, or the user's cache folder."""
    return Path(os.environ.get("MMCOA_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mmcoa")


def cached(kind, key, compute):
    """`compute()`, a JSON value, kept in the cache under everything that it depends on (trap T6).

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


def show(source, prompts, frozen=None):
    """What a source offers for prompts: list of dicts prompt, position, word, source, candidates; one a content word.

    frozen: function without arguments -> the model whose token embedding gives `neighbours`; see `CandidateTable`.
    """
    prompts = list(dict.fromkeys(prompts))
    table, rows = CandidateTable(source, frozen, prompts), []
    for prompt, positions in zip(prompts, content_positions(prompts), strict=True):
        words = split_words(prompt)
        for position in positions:
            word = words[position].core
            candidates, found_in = table(word.lower(), prompt, position)
            rows.append(
                {"prompt": prompt, "position": position, "word": word, "source": found_in, "candidates": list(candidates)}
            )
    return rows


def build(source, prompts, path, frozen=None):
    """Write the table of a source for prompts to `path` (FILE.json); returns what `show` does.

    Raises `UserError` where the path does not end in .json or cannot be written.
    """
    if Path(path).suffix != ".json":
        raise UserError(f"'{path}' must end in .json: a candidate table is found by this ending")
    rows = show(source, prompts, frozen)
    by_prompt = {prompt: {} for prompt in prompts}
    for row in rows:
        by_prompt[row["prompt"]][str(row["position"])] = row["candidates"]
    try:
        write_json(path, {"source": source, "prompts": by_prompt})
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from error
    return rows
