"""Build the embedded candidate table from WordNet 3.0: `python -m mmcoa.assets.build_candidates` (extra `assets`).

Reads the files of Debian's `wordnet-base`. Writes `candidates.json.gz`: {"train": {word: [candidate, ...]}, "eval": {...}},
ten candidates a word in both together, best first: synonyms, then hypernyms, hyponyms, sister terms, of the more frequent
noun senses first (ten: BERT-Attack's k). The pairs (word, candidate) are split between the two tables by a hash, so that no
defence is judged on a substitution it was trained on. `synonyms`: the synonyms of `eval`.

Writes `relations.json.gz` beside it: {"train": {word: letters}, "eval": {...}}, the relation of each candidate, in the same
order, one letter each (`attacks/relations.py`). A file of its own: results are identified by the words, whatever they are
called.
"""

import gzip
import hashlib
import importlib.util
import json
import re
from pathlib import Path

from mmcoa.attacks.relations import LETTERS
from mmcoa.attacks.wordnet import PER_WORD, WordNet, corpus_counts, find_folder, related
from mmcoa.attacks.words import STOP_WORDS, split_words

ASSETS = Path(__file__).parent
TEMPLATE_WORDS = [
    "photo",
    "photograph",
    "picture",
    "image",
    "icon",
    "drawing",
    "painting",
    "sketch",
    "cartoon",
    "silhouette",
    "line",
    "style",
    "type",
    "food",
    "pet",
    "flower",
    "aircraft",
    "surface",
    "texture",
    "centered",
    "satellite",
    "hand",
    "signing",
    "number",
    "handwritten",
    "healthy",
    "lymph",
    "node",
    "tissue",
    "tumor",
    "origami",
    "sculpture",
    "close",
    "small",
    "large",
    "nice",
    "clean",
    "dark",
    "bright",
    "blurry",
    "took",
    "texture",
    "pattern",
]


def vocabulary():
    """Every word in the class names of the embedded, photographic and paper data sets."""
    names = [record["name"] for record in json.loads((ASSETS / "openmoji.json").read_text(encoding="utf8"))]
    package = Path(importlib.util.find_spec("clip_benchmark").submodule_search_locations[0])
    for classes in json.loads((package / "datasets" / "en_classnames.json").read_text(encoding="utf8")).values():
        names += classes if isinstance(classes, list) else []
    spelled = (re.sub(r"[_/-]", " ", name) for name in names)
    words = {word.core.lower() for name in spelled for word in split_words(name)} | set(TEMPLATE_WORDS)
    return sorted(w for w in words if re.fullmatch(r"[a-z]{2,}", w) and w not in STOP_WORDS)


def is_train(word, candidate):
    return hashlib.sha256(f"{word} {candidate}".encode()).digest()[0] % 2 == 0


def main():
    folder = find_folder()
    wordnet, counts = WordNet(folder), corpus_counts(folder)
    letters = {relation: letter for letter, relation in LETTERS.items()}
    tables, relations = {"train": {}, "eval": {}, "synonyms": {}}, {"train": {}, "eval": {}}
    for word in vocabulary():
        found = related(wordnet, counts, word)
        candidates = list(found)[:PER_WORD]
        train = [c for c in candidates if is_train(word, c)]
        held_out = [c for c in candidates if not is_train(word, c)]
        synonyms = [c for c in held_out if found[c] == "synonym"]
        for key, values in (("train", train), ("eval", held_out), ("synonyms", synonyms)):
            if values:
                tables[key][word] = values
                if key in relations:
                    relations[key][word] = "".join(letters[found[c]] for c in values)
    for name, value in (("candidates", tables), ("relations", relations)):
        data = json.dumps(value, separators=(",", ":"), sort_keys=True).encode()
        (ASSETS / f"{name}.json.gz").write_bytes(gzip.compress(data, mtime=0))
    for key, table in tables.items():
        print(key, len(table), "words", sum(map(len, table.values())), "pairs")


if __name__ == "__main__":
    main()
