"""Which words may replace a word: the candidate sources of the text attack.

    table:train | table:eval | table:synonyms    the WordNet table in the package
    neighbours                                   nearest whole words in a model's own token embedding
    FILE.json                                    {word: [candidate, ...]} from disk

Candidates depend on the source alone, not on the attacked model. A word that a table does not know falls back to
`neighbours`, taken from the frozen model.
"""

import functools
import gzip
import json
import re
from importlib.resources import files
from pathlib import Path

import torch
import torch.nn.functional as F

from mmcoa.attacks.words import STOP_WORDS
from mmcoa.errors import UserError, unknown

TABLES = ("train", "eval", "synonyms")
PER_WORD = 10


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
    """A table from disk, checked: {word: [candidate, ...]}. Raises `UserError` where it is missing or not that."""
    try:
        table = json.loads(Path(path).read_text(encoding="utf8"))
    except OSError as error:
        raise UserError(f"no candidate table {path}; expected JSON {{word: [candidate, ...]}}") from error
    except ValueError as error:
        raise UserError(f"damaged candidate table {path}: {error}; expected JSON {{word: [candidate, ...]}}") from error
    valid = isinstance(table, dict) and all(isinstance(v, list) and all(isinstance(c, str) for c in v) for v in table.values())
    if not valid:
        raise UserError(f"candidate table {path} must be JSON {{word: [candidate, ...]}}")
    return table


class Neighbours:
    """Nearest whole-word tokens (cosine) in a model's token embedding; a word of several tokens counts as their mean."""

    def __init__(self, model):
        tower = model.clip if hasattr(model.clip, "token_embedding") else model.clip.text
        if not hasattr(tower, "token_embedding"):
            raise UserError(f"candidate source 'neighbours' needs a token embedding, which '{model.name}' lacks; use table:eval")
        self.embedding, self.tokenizer = tower.token_embedding.weight.detach(), model.tokenizer
        spelled = _vocabulary(model.tokenizer)
        self.words = {
            token.removesuffix("</w>"): i
            for i, token in spelled.items()
            if re.fullmatch(r"[a-z]{3,}</w>", token) and token.removesuffix("</w>") not in STOP_WORDS
        }
        if not self.words:
            raise UserError(f"candidate source 'neighbours' needs a tokenizer like CLIP's, which '{model.name}' lacks; use table:eval")
        self.found = {}
        self.names = list(self.words)
        self.unit = F.normalize(self.embedding[list(self.words.values())].float(), dim=-1)

    def __call__(self, word):
        """At most ten candidates, nearest first; inflections of the word itself are left out."""
        if word not in self.found:
            self.found[word] = self._search(word)
        return self.found[word]

    def _search(self, word):
        tokens = self.tokenizer([word])[0]
        length = int(tokens.argmax())  # the end token has the largest id
        query = F.normalize(self.embedding[tokens[1:length].to(self.embedding.device)].float().mean(dim=0), dim=0)
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

    Arguments
        source: see the module's text.
        frozen: function without arguments that returns the `ImageTextModel` whose token embedding gives the neighbours
            (the frozen model, not the attacked one); None: unknown words have no candidates.
    """

    def __init__(self, source, frozen=None):
        self.source, self.frozen = source, frozen
        if source.startswith("table:"):
            self.table = embedded_table(source.removeprefix("table:"))
        elif source == "neighbours":
            self.table = {}
        elif source.endswith(".json"):
            self.table = read_table(source)
        else:
            raise unknown("candidate source", source, [*(f"table:{name}" for name in TABLES), "neighbours", "FILE.json"])

    @functools.cached_property
    def neighbours(self):
        return Neighbours(self.frozen())

    def __call__(self, word):
        """(candidates of a lower-case word, best first, at most ten; name of the source they came from)."""
        if word in self.table:
            return self.table[word][:PER_WORD], self.source
        return (self.neighbours(word), "neighbours") if self.frozen is not None else ([], "none")
