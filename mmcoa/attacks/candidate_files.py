"""Candidate tables on disk: what `mmcoa candidates build|show` call.

A table file is JSON {"source": ..., "prompts": {prompt: {position: [candidate, ...]}}}; positions count words from 0. It
serves as a candidate source by its name: `--candidates FILE.json`.
"""

from pathlib import Path

from mmcoa.attacks.candidates import CandidateTable
from mmcoa.attacks.words import content_positions, split_words
from mmcoa.errors import UserError
from mmcoa.store.files import write_json


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
        write_json(path, {"source": source, "prompts": by_prompt}, indent=1)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from error
    return rows
