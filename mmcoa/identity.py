"""What a result depends on, as values that can be compared: weights, data, candidate words, versions. Imports no torch.

Everything that finds finished work again (a study's cells, a training that goes on, kept batches, caches) asks here what the
work was made of. Equal identity, equal result. Files count by content, whatever they are called and wherever they lie.
"""

import functools
import json
import os
from importlib.resources import files
from pathlib import Path

from mmcoa import defenses, versions
from mmcoa.attacks import catalog
from mmcoa.cache import cached
from mmcoa.datasets.download import webdataset_folder
from mmcoa.datasets.listing import list_table
from mmcoa.datasets.records import is_path, records
from mmcoa.defenses import at_test
from mmcoa.model import lite, paths
from mmcoa.store.files import digest, file_digest

HASHED_WHOLE = 256e6  # bytes of a data set by path up to which the content of every file counts
LARGE = 16e6  # bytes of a file whose content always counts, such as a shard; its digest is kept in the user's cache
MARKER = "cell.json"  # in a study's checkpoint folder: which cell made it
SOURCES = ("characters", "wordnet", "mlm")  # candidate sources that take an argument behind a colon
READ = (".json", ".txt", ".model")  # kinds of files beside weights: configuration, tokenizer, vocabulary
PROBE = "The quick brown fox, jumps over 13 lazy dogs! Grüße 猫; don't stop"  # what tells tokenizers of one vocabulary apart


def asset(name):
    """Path of a file or folder in mmcoa/assets."""
    return Path(str(files("mmcoa.assets") / name))


@functools.cache
def _content(path, stamp):
    if stamp[1] < LARGE:
        return file_digest(path)
    return cached("contents", [os.path.realpath(path), *stamp], lambda: file_digest(path))


def content(path):
    """Digest of a file; one that stays as it was is read once."""
    info = Path(path).stat()
    return _content(str(path), (info.st_mtime_ns, info.st_size, info.st_ino))


def model(name):
    """Identity of a model's weights, configuration and tokenizer; a checkpoint of a study is what its cell is.

    A name of open_clip or the hub stands for itself: its weights are published under it.
    """
    if name == lite.NAME:
        return f"name:{name} {lite.VERSION}"  # built anywhere from the same packages
    folder = next((path for path in (asset(name), Path(name)) if path.is_dir()), None)
    if folder is None:
        return _by_path(name) or f"name:{name}"
    if made_by := checkpoint_cell(folder):
        return made_by
    kinds = (*READ, *paths.SUFFIXES)
    parts = sorted(path for path in folder.iterdir() if path.suffix in kinds and path.is_file())
    return digest({path.name: content(path) for path in parts})


def reading(model):
    """Digest of what a loaded model's weights are read with, beside `fingerprint()`: configuration, tokenizer, resize, base.

    The base is what `neighbours` and the floor of similarity come from; it counts as a name or by content, as `model` has it.
    """
    tokenizer, base = model.tokenizer, _origin(model.metadata, model.folder)
    inner = getattr(tokenizer, "tokenizer", None)
    known = inner.get_vocab() if hasattr(inner, "get_vocab") else getattr(tokenizer, "encoder", None)
    towers = dict(model.config["model_cfg"])
    words = {key: value for key, value in towers.get("text_cfg", {}).items() if key != "hf_model_name"}  # may be a path
    made = {
        "towers": {**towers, "text_cfg": words},
        "preprocess": {**model.config["preprocess_cfg"], "size": model.image_size},
        "resize": model.resize,
        "tokenizer": [known and sorted(known.items()), tokenizer([PROBE]).tolist()],
        "base": base,
    }
    return digest(json.loads(json.dumps(made, default=str)))[:16]


def _origin(metadata, folder):
    """Of the model before fine-tuning: its weights where the checkpoint states them, else by name or content."""
    if weights := metadata.get("base_weights"):
        return weights
    return next((model(place) for place in paths.base_places(metadata, folder)), None)


def words(threat):
    """Digest of where candidate words and similarities come from: files by content, and what is installed."""
    encoder = similarity_encoder(threat.text_threat, threat.similarity_encoder, threat.min_similarity)
    return digest([candidates(threat.candidate_source), encoder, versions.CANDIDATES])[:16]


def _by_path(name):
    """Identity of a model by path (by_path.py): of the weights, and of what they are read as; None for other names."""
    if (found := paths.parted(name)) is None:
        return None
    path, arch = found
    of_file = not path.is_dir() and (path.parent / "config.json").is_file()  # transformers', which counts for a file too
    beside = [one for one in sorted(path.parent.iterdir()) if one.suffix in READ and one.is_file()] if of_file else []
    known = {one.name: content(one) for one in beside}
    return digest({"weights": model(str(path)) if path.is_dir() else content(path), "arch": arch and model(arch), **known})


def checkpoint_cell(folder):
    """Identity of the cell that wrote a finished checkpoint; None where no study did, or it is unfinished."""
    folder = Path(folder)
    if not (folder / "mmcoa.json").is_file():
        return None
    try:
        return json.loads((folder / MARKER).read_text())["identity"]
    except (OSError, ValueError, KeyError):
        return None


def dataset(name):
    """Identity of a data set's record and files; of files at a path by content, see `_pictures`."""
    if name.startswith(("wds:http://", "wds:https://")):
        return _pictures(webdataset_folder(name.removeprefix("wds:")))
    if name.startswith("wds:"):
        return _pictures(Path(name.removeprefix("wds:")))
    if is_path(name):
        return _pictures(Path(name))
    record = records().get(name)
    if record is None:  # the evaluation itself says so
        return f"unknown:{name}"
    sheets = sorted(asset("").glob("openmoji*.*")) if record.reader == "openmoji" else []
    origin = dataset(record.options["of"]) if record.reader == "merged" else None
    embedded = {path.name: content(path) for path in sheets if path.is_file()}
    return digest({"record": record.identity(), "origin": origin, **embedded})


def _pictures(path):
    """Identity of a data set by path: of its files by content; beyond `HASHED_WHOLE` in all, small ones by size and time of
    change."""
    base = path if path.is_dir() else path.parent
    listed = _all_files(path) if path.is_dir() or not path.exists() else [path, *(base / key for key in _keys(path))]
    stats = {one: one.stat() for one in listed if one.is_file()}
    whole = sum(info.st_size for info in stats.values()) <= HASHED_WHOLE
    return digest(
        {
            os.path.relpath(one, base): content(one) if whole or i.st_size >= LARGE else [i.st_size, i.st_mtime_ns]
            for one, i in stats.items()
        }
    )


def _all_files(folder):
    """Files under a folder, those behind links too, each folder once."""
    found, seen = [], set()
    for place, folders, names in os.walk(folder, followlinks=True):
        if (real := os.path.realpath(place)) in seen:
            folders.clear()
            continue
        seen.add(real)
        found += [Path(place, name) for name in names]
    return sorted(found)


def _keys(path):
    """Files that a list names."""
    return sorted({key for samples in list_table(path).samples.values() for key, _ in samples})


def candidates(source):
    """Identity of what gives the candidates: the table's file, or the files of the folder in `mlm:FOLDER` or `wordnet:FOLDER`.

    Anything else stands for itself: `neighbours` come from the model, `characters` from code, a name from the hub.
    """
    if source == "characters:nonword":
        return digest([source, content(asset("candidates.json.gz"))])
    path = asset("candidates.json.gz") if source.startswith("table:") else Path(source)
    if path.is_file():
        return content(path)
    kind, _, argument = source.partition(":")
    folder = Path(argument.partition(",")[0]).expanduser()  # `mlm:FOLDER,whole`
    if kind not in SOURCES or not argument or not folder.is_dir():
        return source
    return digest({path.name: content(path) for path in sorted(folder.iterdir()) if path.is_file()})


def similarity_encoder(level, asked=None, floor=None):
    """{"similarity_encoder": name}, what was asked for or what the level `meaning` takes of what is installed; nothing where
    no floor uses it."""
    if level == "meaning":
        return {"similarity_encoder": asked or lite.similarity_encoder(level)}
    return {"similarity_encoder": asked} if floor is not None and asked is not None else {}


def evaluation_versions(attacks, checks=False, defense_at_test="none"):
    """{part: version} of an evaluation under attacks of these names, with self-checks and a test-time defence or without."""
    shared = {"evaluation": versions.EVALUATION, "data": versions.DATA} | ({"checks": versions.CHECKS} if checks else {})
    own = catalog.versions(attacks)
    texts = {"candidates": versions.CANDIDATES} if any(catalog.find(name).text for name in attacks) else {}
    if defense_at_test != "none":
        texts |= {"at test": versions.AT_TEST, f"defense at test {defense_at_test}": at_test.record(defense_at_test).version}
    return shared | texts | {f"attack {name}": version for name, version in own.items()}


def training_versions(defense):
    """{part: version} of a fine-tuning with a defence."""
    record = defenses.record(defense)
    shared = {"training": versions.TRAINING, "data": versions.DATA, f"defense {defense}": record.version}
    texts = {"candidates": versions.CANDIDATES} if "text" in record.inner else {}
    return shared | texts


def pretraining_versions():
    """{part: version} of a base model that is trained from scratch."""
    return {"pretraining": versions.PRETRAINING, "data": versions.DATA, "candidates": versions.CANDIDATES}
