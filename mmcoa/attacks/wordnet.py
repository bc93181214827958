"""Candidate source `wordnet`: related words from WordNet's own database files (Debian's `wordnet-base`, NLTK's `wordnet`).

Of a word's more frequent noun senses: synonyms, then hypernyms, hyponyms and sister terms; ten a word, BERT-Attack's k. The
embedded tables are the same candidates, split in two halves (mmcoa/assets/build_candidates.py).
"""

import functools
import itertools
import os
import re
from collections import Counter
from pathlib import Path

from mmcoa.attacks.candidates import OFFLINE, PER_WORD
from mmcoa.attacks.words import STOP_WORDS
from mmcoa.errors import UserError

KINDS = {"n": "noun", "v": "verb", "a": "adj", "r": "adv"}
RELATIONS = ("synonym", "hypernym", "hyponym", "sister")  # nearest first: the order of candidates
FILES = (*(f"{part}.{kind}" for part in ("index", "data") for kind in KINDS.values()), "noun.exc", "cntlist.rev")


def open_source(argument, prompts):
    """See `mmcoa.attacks.candidates.MODULES`; `argument`: folder of the database, default: the usual places."""
    folder = find_folder(argument)

    def look_up(word, prompt, position):
        return list(related_words(folder, word)) or None

    return look_up


def usual_folders():
    """Where WordNet's files usually lie."""
    places = [os.environ.get("WNSEARCHDIR"), "/usr/share/wordnet"]
    nltk = [*os.environ.get("NLTK_DATA", "").split(os.pathsep), Path.home() / "nltk_data", "/usr/share/nltk_data"]
    return [Path(place) for place in places if place] + [Path(place) / "corpora" / "wordnet" for place in nltk if place]


def find_folder(argument=""):
    """Folder with all of `FILES`: `argument`, or the first of `usual_folders`. Raises `UserError` where there is none."""
    folders = [Path(argument)] if argument else usual_folders()
    for folder in folders:
        missing = [name for name in FILES if not (folder / name).is_file()]
        if not missing:
            return folder
    where = f"{argument} (no {missing[0]} there)" if argument else ", ".join(map(str, folders))
    raise UserError(
        f"no WordNet database in {where}; install Debian's wordnet-base (`apt install wordnet-base`), or NLTK's corpus "
        f"(`python -m nltk.downloader wordnet`, unzipped) and name its folder: wordnet:FOLDER; {OFFLINE}"
    )


class WordNet:
    """Synsets from the `index.*` and `data.*` files of a folder (format: manual page wndb, section 5WN)."""

    def __init__(self, folder):
        self.senses, self.words, self.pointers = {}, {}, {}
        for kind, name in KINDS.items():
            for line in _lines(folder / f"index.{name}"):
                fields = line.split()
                offsets = fields[-int(fields[2]) :]
                self.senses.setdefault(fields[0], []).extend((kind, offset) for offset in offsets)
            for line in _lines(folder / f"data.{name}"):
                self._read_synset(kind, line.split(" | ")[0].split())
        self.singular = dict(line.split()[:2] for line in _lines(folder / "noun.exc"))

    def _read_synset(self, kind, fields):
        count = int(fields[3], 16)
        words, links = fields[4 : 4 + 2 * count : 2], fields[5 + 2 * count :]
        key = (kind, fields[0])
        self.words[key] = [re.sub(r"\(.*\)$", "", word) for word in words]
        links = [links[4 * i : 4 * i + 3] for i in range(int(fields[4 + 2 * count]))]
        self.pointers[key] = [(symbol, (to_kind.replace("s", "a"), offset)) for symbol, offset, to_kind in links]

    def linked(self, synset, *symbols):
        return [target for symbol, target in self.pointers[synset] if symbol in symbols]

    def stem(self, word):
        """The singular of a plural that WordNet lists under its singular only."""
        singulars = [self.singular.get(word), word.removesuffix("s"), word.removesuffix("es"), re.sub("ies$", "y", word)]
        return next((s for s in [word, *singulars] if s in self.senses), word)


def _lines(path):
    """Lines of a database file; those of the licence at its top begin with a space."""
    return [line for line in path.read_text(encoding="utf8").splitlines() if line and not line.startswith(" ")]


def corpus_counts(folder):
    """Word -> how often WordNet's tagged corpora use it."""
    counts = Counter()
    for line in _lines(folder / "cntlist.rev"):
        key, _, count = line.split()
        counts[key.split("%")[0]] += int(count)
    return counts


def related(wordnet, counts, word):
    """{candidate: its relation}: single lower-case words, nearest relation and most frequent sense first."""
    stem = wordnet.stem(word)
    senses = wordnet.senses.get(stem, [])
    # Class names are nouns wherever a word can be one: "ship" in a prompt is no "send".
    senses = ([s for s in senses if s[0] == "n"] or senses)[:3]
    hypernyms = [h for s in senses for h in wordnet.linked(s, "@", "&")]
    tiers = [
        senses,
        hypernyms,
        [h for s in senses for h in wordnet.linked(s, "~")],
        [sister for h in hypernyms for sister in wordnet.linked(h, "~")],
    ]
    found = {}
    for tier, synsets in enumerate(tiers):
        for rank, synset in enumerate(synsets):
            for name in wordnet.words[synset]:
                if re.fullmatch(r"[a-z]{3,}", name) and name not in (word, stem) and name not in STOP_WORDS:
                    # A word that the tagged corpora never use is an unlikely substitution: it comes last in its tier.
                    found.setdefault(name, (tier, name not in counts, rank))
    ordered = sorted(found, key=lambda name: (*found[name], name))
    return {name: RELATIONS[found[name][0]] for name in ordered}


@functools.cache
def _database(folder):
    try:
        return WordNet(folder), corpus_counts(folder)
    except (ValueError, IndexError, UnicodeDecodeError) as error:
        raise UserError(f"damaged WordNet database in {folder} ({error}); install it again, or use {OFFLINE}") from error


@functools.lru_cache(maxsize=65536)
def related_words(folder, word):
    """{candidate: relation}, at most ten, of a word from the database in `folder`, best first; none that WordNet lacks."""
    return dict(itertools.islice(related(*_database(folder), word).items(), PER_WORD))
