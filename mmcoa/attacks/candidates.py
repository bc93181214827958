"""Which words may replace a word: the candidate sources of the text attack.

    table:train | table:eval | table:synonyms    the WordNet table in the package
    neighbours                                   nearest whole words in a model's own token embedding
    FILE.json                                    {word: [candidate, ...]}, or a table that `mmcoa candidates build` wrote
    characters | characters:nonword              all single edits of a word's letters; those that are no word (characters.py)
    wordnet | wordnet:FOLDER                     WordNet's own database files (wordnet.py)
    mlm | mlm:NAME_OR_FOLDER                     a masked language model at the word's place (mlm.py)

Candidates depend on the source, and for `mlm` on the prompt, but not on the attacked model. A word that a table does not
know falls back to `neighbours`, taken from the frozen model; not where only synonyms are allowed, and not where that model's
tokenizer has no whole words. Rows say for how many prompts (`share_unknown`, `share_fallback`).
"""

import functools
import gzip
import importlib
import json
import re
from importlib.resources import files
from pathlib import Path

import torch
import torch.nn.functional as F

from mmcoa.attacks.relations import relation
from mmcoa.attacks.words import STOP_WORDS
from mmcoa.errors import UserError, unknown
from mmcoa.model import hf_text
from mmcoa.model.clip import token_counts

TABLES = ("train", "eval", "synonyms")
PER_WORD = 10
EXPECTED = "expected JSON {word: [candidate, ...]} or a table written by `mmcoa candidates build`"
OFFLINE = "without a download: table:eval, neighbours, characters, or a FILE.json"
# Module of each larger source, with `open_source(argument, prompts) -> function (word, prompt, position) -> list or None`.
# By name, so that what never uses a source does not depend on its code.
MODULES = {"characters": "mmcoa.attacks.characters", "wordnet": "mmcoa.attacks.wordnet", "mlm": "mmcoa.attacks.mlm"}


@functools.cache
def embedded_table(half):
    """The WordNet table in the package: {word: [candidate, ...]}; half `train`, `eval` or `synonyms`.

    `train` and `eval` share no (word, candidate) pair: defences learn from the one and are judged on the other.
    """
    if half not in TABLES:
        raise unknown("candidate table", f"table:{half}", [f"table:{name}" for name in TABLES])
    data = (files("mmcoa.assets") / "candidates.json.gz").read_bytes()
    return json.loads(gzip.decompress(data))[half]


@functools.cache
def caption_table():
    """Both halves joined: the words that pre-training captions meet, as a web-scale CLIP has met its attacker's words."""
    train, held_out = embedded_table("train"), embedded_table("eval")
    return {word: train.get(word, []) + held_out.get(word, []) for word in sorted({*train, *held_out})}


def read_table(path):
    """A table from disk, checked: ({word: candidates}, {prompt: {position: candidates}}), one of them empty.

    Raises `UserError` where it is missing, damaged or not a table.
    """
    try:
        table = json.loads(Path(path).read_text(encoding="utf8"))
    except OSError as error:
        raise UserError(f"no candidate table {path}; {EXPECTED}") from error
    except ValueError as error:
        raise UserError(f"damaged candidate table {path}: {error}; {EXPECTED}") from error
    by_prompt = isinstance(table, dict) and isinstance(table.get("prompts"), dict)
    lists = [table] if not by_prompt else list(table["prompts"].values())
    if not all(isinstance(entries, dict) for entries in lists):
        raise UserError(f"candidate table {path} is no table; {EXPECTED}")
    for candidates in (value for entries in lists for value in entries.values()):
        if not isinstance(candidates, list) or not all(isinstance(c, str) for c in candidates):
            raise UserError(f"candidate table {path} is no table; {EXPECTED}")
        odd = next((c for c in candidates if len(c.split()) != 1), None)
        if odd is not None:
            raise UserError(f"candidate '{odd}' in {path} is not one word: a substitution replaces one word by one word")
    if not by_prompt:
        return table, {}
    if not all(place.isdecimal() for entries in lists for place in entries):
        raise UserError(f"candidate table {path} is no table: positions must be numbers from 0; {EXPECTED}")
    return {}, {prompt: {int(i): c for i, c in entries.items()} for prompt, entries in table["prompts"].items()}


class Neighbours:
    """Nearest whole-word tokens (cosine) in a model's token embedding; a word of several tokens counts as their mean."""

    def __init__(self, model):
        embedding = hf_text.token_embedding(model.clip)
        if embedding is None:
            raise NoNeighbours(
                f"candidate source 'neighbours' needs a token embedding, which '{model.name}' lacks; use table:eval"
            )
        self.embedding, self.model = embedding.weight.detach(), model
        found = _whole_words(model.tokenizer)
        self.words = {word: i for word, i in found.items() if word not in STOP_WORDS and i < len(self.embedding)}
        if not self.words:
            raise NoNeighbours(
                f"candidate source 'neighbours' needs a tokenizer with whole words, which '{model.name}' lacks; use table:eval"
            )
        self.found = {}
        self.names = list(self.words)
        self.unit = F.normalize(self.embedding[list(self.words.values())].float(), dim=-1)

    def __call__(self, word):
        """At most ten candidates, nearest first; inflections of the word itself are left out."""
        if word not in self.found:
            self.found[word] = self._search(word)
        return self.found[word]

    def _search(self, word):
        pieces = self._pieces(word)
        if not len(pieces):
            return []
        query = F.normalize(self.embedding[pieces.to(self.embedding.device)].float().mean(dim=0), dim=0)
        order = torch.argsort(self.unit @ query, descending=True)[: 3 * PER_WORD].tolist()
        near = (self.names[i] for i in order)
        return [name for name in near if name not in (word, word + "s", word.removesuffix("s"))][:PER_WORD]

    def _pieces(self, word):
        """Token ids of a word alone, int64 [L]."""
        tokens, inner = self.model.tokenizer([word]), getattr(self.model.tokenizer, "tokenizer", None)
        if hf_text.is_hf(self.model.clip) or inner is None or _mark(_vocabulary(self.model.tokenizer).values()) == "</w>":
            start = 0 if inner is not None and int(tokens[0, 0]) not in inner.all_special_ids else 1  # T5 has none
            return tokens[0, start : int(token_counts(self.model, tokens)) - 1]  # between the start and the end token
        return tokens[0][~torch.isin(tokens[0], torch.tensor(inner.all_special_ids))]  # of a tower of open_clip's own


class NoNeighbours(UserError):
    """A model whose tokenizer or text tower cannot say which whole words lie near."""


MARKS = ("</w>", "\u2581", "\u0120")  # of a whole word: CLIP's at its end; sentencepiece's and byte-level BPE's before it


def _whole_words(tokenizer):
    """{lower-case word of three letters or more: id} of a tokenizer, by how it marks whole words; of word pieces, no mark."""
    vocabulary = _vocabulary(tokenizer)
    mark = _mark(vocabulary.values())
    pattern = re.compile(rf"[a-z]{{3,}}{mark}" if mark == "</w>" else rf"{mark}[a-z]{{3,}}")
    return {token.replace(mark, ""): i for i, token in vocabulary.items() if pattern.fullmatch(token)}


def _mark(tokens):
    """The one of `MARKS` that tokens have, or an empty text."""
    for mark in MARKS:
        pattern = re.compile(rf"[a-z]{{3,}}{mark}" if mark == "</w>" else rf"{mark}[a-z]{{3,}}")
        if any(map(pattern.fullmatch, tokens)):
            return mark
    return ""


def _vocabulary(tokenizer):
    """{id: token} of an open_clip tokenizer; empty where it does not say."""
    if hasattr(tokenizer, "decoder"):
        return tokenizer.decoder
    inner = getattr(tokenizer, "tokenizer", None)
    return {i: token for token, i in inner.get_vocab().items()} if hasattr(inner, "get_vocab") else {}


class CandidateTable:
    """Candidates of a source, and where each came from.

    Arguments:
        source: see the module's text.
        frozen: function without arguments that returns the `ImageTextModel` whose token embedding gives the neighbours
            (the frozen model, not the attacked one); None: unknown words have no candidates.
        prompts: the prompts that will be asked about; `mlm` reads them all at once.
        level: `text_threat` of the threat model; `synonym` keeps synonyms alone, and a word without any has no candidates.

    Raises `UserError` for an unknown source, and for one that cannot be reached.
    """

    def __init__(self, source, frozen=None, prompts=(), level="any"):
        self.source, self.frozen, self.level = source, frozen, level
        kind, _, argument = source.partition(":")
        if kind in MODULES:
            self.look_up = importlib.import_module(MODULES[kind]).open_source(argument, list(dict.fromkeys(prompts)))
        elif kind == "table":
            table = embedded_table(argument)
            self.look_up = lambda word, prompt, position: table.get(word)
        elif source == "neighbours":
            self.look_up = lambda word, prompt, position: None
        elif source.endswith(".json"):
            by_word, by_prompt = read_table(source)
            self.look_up = lambda word, prompt, position: (
                by_prompt[prompt].get(position, []) if prompt in by_prompt else by_word.get(word)
            )
        else:
            raise unknown(
                "candidate source", source, [*(f"table:{name}" for name in TABLES), "neighbours", *MODULES, "FILE.json"]
            )

    @functools.cached_property
    def neighbours(self):
        try:
            return Neighbours(self.frozen())
        except NoNeighbours:
            if self.source == "neighbours":
                raise
            return lambda word: []  # the source's own words are all that there are

    def __call__(self, word, prompt=None, position=None):
        """(candidates, best first; name of the source they came from) of a lower-case word.

        prompt, position: where the word stands, counted in words from 0; only sources that read the prompt need them.
        """
        candidates = self.look_up(word, prompt, position)
        if self.level == "synonym":
            return [each for each in candidates or [] if relation(self.source, word, each) == "synonym"], self.source
        if candidates is not None:
            return candidates, self.source
        return (self.neighbours(word), "neighbours") if self.frozen is not None else ([], "none")
