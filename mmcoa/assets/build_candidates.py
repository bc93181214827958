"""Build the embedded candidate table from WordNet 3.0: `python -m mmcoa.assets.build_candidates` (extra `assets`).

Reads the files of Debian's `wordnet-base`. Writes `candidates.json.gz`: {"train": {word: [candidate, ...]}, "eval": {...}},
ten candidates a word in both together, best first: synonyms, then hypernyms, hyponyms, sister terms, of the more frequent
noun senses first (ten: BERT-Attack's k). The pairs (word, candidate) are split between the two tables by a hash, so that no
defence is judged on a substitution it was trained on. `synonyms`: the synonyms of `eval`, for the stricter attack.
"""

import gzip
import hashlib
import importlib.util
import json
import re
from collections import Counter
from pathlib import Path

from mmcoa.attacks.words import STOP_WORDS, split_words

ASSETS = Path(__file__).parent
WORDNET = Path("/usr/share/wordnet")
PER_WORD = 10  # in both tables together
TEMPLATE_WORDS = ["photo", "photograph", "picture", "image", "icon", "drawing", "painting", "sketch", "cartoon", "silhouette", "line", "style", "type", "food", "pet", "flower", "aircraft", "surface", "texture", "centered", "satellite", "hand", "signing", "number", "handwritten", "healthy", "lymph", "node", "tissue", "tumor", "origami", "sculpture", "close", "small", "large", "nice", "clean", "dark", "bright", "blurry", "took", "texture", "pattern"]


def vocabulary():
    """Every word in the class names of the embedded, photographic and paper data sets."""
    names = [record["name"] for record in json.loads((ASSETS / "openmoji.json").read_text(encoding="utf8"))]
    package = Path(importlib.util.find_spec("clip_benchmark").submodule_search_locations[0])
    for classes in json.loads((package / "datasets" / "en_classnames.json").read_text(encoding="utf8")).values():
        names += classes if isinstance(classes, list) else []
    spelled = (re.sub(r"[_/-]", " ", name) for name in names)
    words = {word.core.lower() for name in spelled for word in split_words(name)} | set(TEMPLATE_WORDS)
    return sorted(w for w in words if re.fullmatch(r"[a-z]{2,}", w) and w not in STOP_WORDS)


class WordNet:
    """Synsets of WordNet 3.0 from its `index.*` and `data.*` files (format: manual page wndb, section 5WN)."""

    KINDS = {"n": "noun", "v": "verb", "a": "adj", "r": "adv"}

    def __init__(self, folder):
        self.senses, self.words, self.pointers = {}, {}, {}
        for kind, name in self.KINDS.items():
            for line in (folder / f"index.{name}").read_text().splitlines():
                if not line.startswith(" "):
                    fields = line.split()
                    offsets = fields[-int(fields[2]) :]
                    self.senses.setdefault(fields[0], []).extend((kind, offset) for offset in offsets)
            for line in (folder / f"data.{name}").read_text().splitlines():
                if not line.startswith(" "):
                    self._read_synset(kind, line.split(" | ")[0].split())
        self.singular = dict(line.split()[:2] for line in (folder / "noun.exc").read_text().splitlines())

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


def corpus_counts():
    """Word -> how often WordNet's tagged corpora use it."""
    counts = Counter()
    for line in (WORDNET / "cntlist.rev").read_text().splitlines():
        key, _, count = line.split()
        counts[key.split("%")[0]] += int(count)
    return counts


def related(wordnet, counts, word):
    """(candidates, synonyms): single lower-case words, nearest relation and most frequent sense first."""
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
    return ordered, [name for name in ordered if found[name][0] == 0]


def is_train(word, candidate):
    return hashlib.sha256(f"{word} {candidate}".encode()).digest()[0] % 2 == 0


def main():
    wordnet, counts = WordNet(WORDNET), corpus_counts()
    tables = {"train": {}, "eval": {}, "synonyms": {}}
    for word in vocabulary():
        candidates, synonyms = related(wordnet, counts, word)
        train = [c for c in candidates[:PER_WORD] if is_train(word, c)]
        held_out = [c for c in candidates[:PER_WORD] if not is_train(word, c)]
        for key, values in (("train", train), ("eval", held_out), ("synonyms", [c for c in held_out if c in synonyms])):
            if values:
                tables[key][word] = values
    data = json.dumps(tables, separators=(",", ":"), sort_keys=True).encode()
    (ASSETS / "candidates.json.gz").write_bytes(gzip.compress(data, mtime=0))
    for key, table in tables.items():
        print(key, len(table), "words", sum(map(len, table.values())), "pairs")


if __name__ == "__main__":
    main()
