"""Which words may replace a word: the candidate sources of the text attack.

    table:train | table:eval | table:synonyms    the WordNet table in the package
    neighbours                                   nearest whole words in a model's own token embedding
    FILE.json                                    {word: [candidate, ...]}, or a table that `mmcoa candidates build` wrote
    characters                                   all single edits of a word's letters (characters.py)
    wordnet | wordnet:FOLDER                     WordNet's own database files (wordnet.py)
    mlm | mlm:NAME_OR_FOLDER                     a masked language model at the word's place (mlm.py)

Candidates depend on the source, and for `mlm` on the prompt, but not on the attacked model. A word that a table does not
know falls back to `neighbours`, taken from the frozen model; not where only synonyms are allowed.
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
            raise UserError(
                f"candidate source 'neighbours' needs a token embedding, which '{model.name}' lacks; use table:eval"
            )
        self.embedding, self.model = embedding.weight.detach(), model
        # CLIP marks the last piece of a word, word pieces all but the first: a whole word ends so, or has no mark.
        whole = r"[a-z]{3,}" if hf_text.is_hf(model.clip) else r"[a-z]{3,}</w>"
        self.words = {
            token.removesuffix("</w>"): i
            for i, token in _vocabulary(model.tokenizer).items()
            if re.fullmatch(whole, token) and token.removesuffix("</w>") not in STOP_WORDS
        }
        if not self.words:
            raise UserError(
                f"candidate source 'neighbours' needs a tokenizer like CLIP's, which '{model.name}' lacks; use table:eval"
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
        tokens = self.model.tokenizer([word])
        pieces = tokens[0, 1 : int(token_counts(self.model, tokens)) - 1]  # between the start and the end token
        query = F.normalize(self.embedding[pieces.to(self.embedding.device)].float().mean(dim=0), dim=0)
        order = torch.argsort(self.unit @ query, descending=True)[: 3 * PER_WORD].tolist()
        near = (self.names[i] for i in order)
        return [name for name in near if name not in (word, word + "s", word.removesuffix("s"))][:PER_WORD]


def _vocabulary(tokenizer):
    """{id: token} of an open_clip tokenizer, whole words ending in `</w>`."""
    if hasattr(tokenizer, "decoder"):
        return tokenizer.decoder
    return {i: token for token, i in tokenizer.tokenizer.get_vocab().items()}


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
        return Neighbours(self.frozen())

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
