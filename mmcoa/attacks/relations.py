"""How a candidate is related to the word that it replaces, so that results can be split by it.

    synonym, hypernym, hyponym, sister    in WordNet: of one sense, above, below, beside it (sources `table:`, `wordnet`)
    neighbour                             near in a token embedding
    mlm, character                        expected by a language model; one edit of the word's letters
    file                                  whatever a table from disk holds

A word that its source does not know has neighbours.
"""

import functools
import gzip
import importlib
import json
from importlib.resources import files

LETTERS = {"s": "synonym", "h": "hypernym", "o": "hyponym", "t": "sister"}  # as the package's table has them
OTHERS = {"neighbours": "neighbour", "mlm": "mlm", "characters": "character"}
RELATIONS = (*LETTERS.values(), *OTHERS.values(), "file")


def relation(source, word, candidate):
    """One of `RELATIONS`, of a candidate that `source` gave for a lower-case word."""
    kind, _, argument = source.partition(":")
    if kind == "table":
        return embedded_relations()[word][candidate]
    if kind == "wordnet":
        wordnet = importlib.import_module("mmcoa.attacks.wordnet")  # which imports candidates.py, which imports this
        return wordnet.related_words(wordnet.find_folder(argument), word)[candidate]
    return OTHERS.get(kind, "file")


@functools.cache
def embedded_relations():
    """{word: {candidate: relation}} of the table in the package, both halves."""
    words, letters = map(_asset, ("candidates", "relations"))
    found = {}
    for half, table in letters.items():
        for word, each in table.items():
            found.setdefault(word, {}).update(zip(words[half][word], map(LETTERS.get, each), strict=True))
    return found


def _asset(name):
    return json.loads(gzip.decompress((files("mmcoa.assets") / f"{name}.json.gz").read_bytes()))
