"""Candidate source `mlm`: what a masked language model expects at a word's own place (BERT-Attack, Li et al., EMNLP 2020).

As there (section 3.2) the model reads the sentence as it is, nothing masked, and its k = 10 likeliest tokens at the word's
place are the candidates; sub-words, stop words, the word itself, digits and punctuation are left out. A word of several pieces:
the k likeliest tokens of each piece are combined, and the k combinations of the largest joint probability that spell one word
are kept. `mlm:NAME,whole` leaves such words alone.

Places are found by characters, never by counting tokens: the start token and punctuation do not shift them (trap X1).
"""

import hashlib
import os
import re
from pathlib import Path

import torch

from mmcoa.attacks.candidates import OFFLINE, PER_WORD
from mmcoa.attacks.words import STOP_WORDS, split_words
from mmcoa.cache import cached
from mmcoa.errors import UserError

DEFAULT = "bert-base-uncased"
OTHER_NAMES = {"bert-base-uncased": "google-bert/bert-base-uncased"}  # where the hub keeps it now
FILES = ("config.json", "model.safetensors", "tokenizer*", "vocab*", "merges.txt", "special_tokens_map.json")
BATCH = 64  # prompts read at once
VERSION = 1  # of this file's results: part of the cache's key


def open_source(argument, prompts):
    """See `mmcoa.attacks.candidates.MODULES`; `argument`: name on the hub or folder, and perhaps `,whole`."""
    name, comma, mode = argument.partition(",")
    if comma and mode != "whole":
        raise UserError(f"candidate source 'mlm:{argument}': only ',whole' may follow the model's name")
    folder = find_model(name or DEFAULT)
    table = prompt_table(folder, prompts, whole=bool(mode))

    def look_up(word, prompt, position):
        if prompt is None:
            raise UserError("candidate source 'mlm' reads whole prompts; a word by itself has no candidates")
        if prompt not in table:
            table.update(prompt_table(folder, [prompt], whole=bool(mode)))
        return table[prompt].get(str(position), [])

    return look_up


def find_model(name):
    """Folder with the model's files: `name` itself, or what the hub's client has or fetches for it.

    Raises `UserError` that says what to download and where to put it.
    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").is_file() or not (folder / "model.safetensors").is_file():
            raise UserError(f"no language model in {name}: it needs config.json, model.safetensors and the tokenizer's files")
        return folder
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise UserError(f"no folder '{name}' for candidate source mlm; {OFFLINE}")
    from huggingface_hub import constants, snapshot_download

    names, reason = list(dict.fromkeys([name, OTHER_NAMES.get(name, name)])), "offline mode is on"
    for local in (True, False) if not constants.HF_HUB_OFFLINE else (True,):
        for known in names:
            try:
                folder = Path(snapshot_download(known, allow_patterns=list(FILES), local_files_only=local, etag_timeout=5))
            except Exception as error:
                reason = reason if local else str(error).splitlines()[0][:100]
                continue
            if (folder / "config.json").is_file() and (folder / "model.safetensors").is_file():
                return folder
            reason = "model.safetensors is missing there"
    raise UserError(
        f"cannot reach language model '{names[-1]}' ({reason}); where there is a network, fetch it with "
        f"`hf download {names[-1]} config.json model.safetensors tokenizer.json tokenizer_config.json vocab.txt "
        "--local-dir FOLDER`, "
        f"and name the folder: mlm:FOLDER; {OFFLINE}"
    )


def prompt_table(folder, prompts, whole=False):
    """{prompt: {position as text: [candidate, ...]}} of content words, from the cache where it is there."""
    if not prompts:
        return {}
    files = sorted(path for path in Path(folder).iterdir() if path.is_file() and any(path.match(pattern) for pattern in FILES))
    hashes = {path.name: _file_hash(path) for path in files}
    key = {"source": "mlm", "version": VERSION, "files": hashes, "k": PER_WORD, "whole": whole, "prompts": list(prompts)}
    return cached("candidates", key, lambda: _read_prompts(*_load(folder), prompts, whole))


def _file_hash(path):
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _load(folder):
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from transformers import AutoModelForMaskedLM, AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, use_fast=True)
        model, report = AutoModelForMaskedLM.from_pretrained(
            folder,
            local_files_only=True,
            use_safetensors=True,  # nothing is unpickled
            output_loading_info=True,
        )
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:120]
        raise UserError(f"damaged language model in {folder}: {reason}; fetch it again, or use {OFFLINE}") from error
    if report["missing_keys"]:  # transformers goes on with random weights and a warning
        raise UserError(f"{folder} holds no masked language model: weights of {sorted(report['missing_keys'])[0]} are missing")
    if not tokenizer.is_fast:
        raise UserError(f"the tokenizer in {folder} tells no places of words (it is no fast one); use another language model")
    return model.eval(), tokenizer


class Pieces:
    """What tokens of letters spell: `starts` {id: text} of those that begin a word, `inner` {id: text} of those inside one."""

    def __init__(self, tokenizer):
        spelled = {i: token for token, i in tokenizer.get_vocab().items() if i not in tokenizer.all_special_ids}
        if any(token.startswith("##") for token in spelled.values()):  # WordPiece
            starts = {i: token for i, token in spelled.items() if not token.startswith("##")}
            inner = {i: token[2:] for i, token in spelled.items() if i not in starts}
        else:  # BPE and unigram mark the beginning of a word; bytes beyond ASCII spell no letters by themselves
            spelled = {i: token for i, token in spelled.items() if token.lstrip("Ġ▁").isascii()}
            starts = {i: token[1:] for i, token in spelled.items() if token[:1] in ("Ġ", "▁")}
            inner = {i: token for i, token in spelled.items() if i not in starts}
        self.starts = {i: text for i, text in starts.items() if text.isalpha()}
        self.inner = {i: text for i, text in inner.items() if text.isalpha()}


@torch.no_grad()
def _read_prompts(model, tokenizer, prompts, whole):
    pieces, table = Pieces(tokenizer), {}
    for start in range(0, len(prompts), BATCH):
        part = prompts[start : start + BATCH]
        encoded = tokenizer(part, return_tensors="pt", padding=True, truncation=True, return_offsets_mapping=True)
        places = encoded.pop("offset_mapping").tolist()
        scores = model(**encoded).logits.log_softmax(dim=-1)
        top = scores.topk(min(PER_WORD, scores.shape[-1]), dim=-1)
        for row, prompt in enumerate(part):
            table[prompt] = {}
            for position, begin, end in _content_spans(prompt):
                own = [t for t, (left, right) in enumerate(places[row]) if max(left, begin) < min(right, end)]
                choices = [list(zip(top.indices[row, t].tolist(), top.values[row, t].tolist(), strict=True)) for t in own]
                allowed = choices if len(own) == 1 or not whole else []
                word = prompt[begin:end].lower()
                found = [spelled for spelled in _combinations(allowed, pieces) if _fits(spelled, word)]
                table[prompt][str(position)] = list(dict.fromkeys(found))[:PER_WORD]
    return table


def _content_spans(prompt):
    """[(position, first character, one behind the last)] of the cores of content words."""
    spans = []
    for position, match in enumerate(re.finditer(r"\S+", prompt)):
        (word,) = split_words(match.group())
        if word.is_content:
            begin = match.start() + len(word.prefix)
            spans.append((position, begin, begin + len(word.core)))
    return spans


def _combinations(choices, pieces):
    """Words spelled by one token of each list in `choices` [(id, log-probability), ...], likeliest first.

    Joint probabilities are products, so that the best combinations are extensions of the best so far. More are kept than are
    asked for: some spell the word itself, or a stop word.
    """
    best = [("", 0.0)] if choices else []
    for index, options in enumerate(choices):
        known = pieces.starts if index == 0 else pieces.inner
        longer = [(text + known[i], total + value) for text, total in best for i, value in options if i in known]
        best = sorted(longer, key=lambda item: -item[1])[: 2 * PER_WORD + len(STOP_WORDS)]
    return [text.lower() for text, _ in best]


def _fits(candidate, word):
    return len(candidate) > 1 and candidate.isalpha() and candidate not in STOP_WORDS and candidate != word
