"""Build the embedded table of ImageNet's names from WordNet 3.0: `python -m mmcoa.assets.build_names FOLDER`.

FOLDER holds the files of Debian's `wordnet-base`. Writes `imagenet_names.json.gz`, a tree: {"names": [[synonym, ...], ...],
"parents": [node, ...]}. Nodes 0 to 999 are ImageNet's classes, in the order of its classifiers (timm's list of their synsets);
behind them stand their hypernyms, each node's first one being its parent (-1: none).
"""

import gzip
import json
import sys
from pathlib import Path

from mmcoa.attacks.wordnet import WordNet, find_folder

ASSETS = Path(__file__).parent


def tree(wordnet, synsets):
    """{"names", "parents"} of the noun synsets and of all that stands above them."""
    nodes = list(dict.fromkeys(synsets))
    places = {synset: place for place, synset in enumerate(nodes)}
    parents = []
    for synset in nodes:  # grows while it is walked
        above = next(iter(wordnet.linked(synset, "@", "@i")), None)
        if above is not None and above not in places:
            places[above] = len(nodes)
            nodes.append(above)
        parents.append(-1 if above is None else places[above])
    return {"names": [[word.replace("_", " ") for word in wordnet.words[synset]] for synset in nodes], "parents": parents}


def main():
    from timm.data import ImageNetInfo

    synsets = [("n", name.removeprefix("n")) for name in ImageNetInfo().label_names()]
    table = tree(WordNet(find_folder(sys.argv[1] if len(sys.argv) > 1 else "")), synsets)
    with open(ASSETS / "imagenet_names.json.gz", "wb") as file, gzip.GzipFile("", "wb", fileobj=file, mtime=0) as packed:
        packed.write(json.dumps(table, ensure_ascii=False).encode())


if __name__ == "__main__":
    main()
