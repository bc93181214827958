"""A folder that `datasets` of Hugging Face saved to disk, read from its Arrow files in place. Imports no torch."""

import io
import json
from pathlib import Path

from PIL import Image

from mmcoa.datasets.listing import Listing
from mmcoa.errors import UserError

LABELS = ("label", "labels", "fine_label", "class", "target")
DICT, INFO, STATE = "dataset_dict.json", "dataset_info.json", "state.json"


def is_arrow(path):
    """Whether a folder was saved by `Dataset.save_to_disk` or `DatasetDict.save_to_disk`."""
    return (Path(path) / DICT).is_file() or ((Path(path) / INFO).is_file() and (Path(path) / STATE).is_file())


def list_arrow(path):
    """`Listing` of such a folder; a sample's key is its split and row."""
    path, samples, classes, numbered = Path(path), {}, [], False
    for split, folder in _parts(path).items():
        names, column = _labels(folder)
        values = _table(folder).column(column).to_pylist()
        if any(value is None or value == -1 for value in values):  # published without labels
            continue
        numbered = names is None and all(isinstance(value, int) for value in values)
        if names is None:
            names = [str(n) for n in range(max(values) + 1)] if numbered else sorted({*map(str, values), *classes})
        texts = [names[value] if isinstance(value, int) else str(value) for value in values]
        samples[split] = [(f"{split or 'all'}/{row}", text) for row, text in enumerate(texts)]
        classes = names if len(names) >= len(classes) else classes
    if not any(samples.values()):
        raise UserError(f"{path} has no split whose samples all have labels")
    return Listing(path, samples, classes, numbered)


def opener(path, split):
    """row -> PIL picture, of one split (None: of a folder without)."""
    folder = _parts(Path(path))[split]
    images = _table(folder).column(_only(folder, _features(folder), "Image"))

    def decode(row):
        stored = images[row].as_py()
        return Image.open(io.BytesIO(stored["bytes"]) if stored["bytes"] is not None else stored["path"])

    return decode


def files(path, split):
    """The Arrow files of a split."""
    return _files(_parts(Path(path))[split])


def _parts(path):
    """{split: its folder}; {None: path} without splits."""
    if not (path / DICT).is_file():
        return {None: path}
    return {split: path / split for split in _json(path / DICT)["splits"]}


def _json(path):
    try:
        return json.loads(path.read_text(encoding="utf8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is missing or damaged; `save_to_disk` of Hugging Face's datasets writes it") from error


def _features(folder):
    return _json(folder / INFO)["features"]


def _files(folder):
    return [folder / entry["filename"] for entry in _json(folder / STATE)["_data_files"]]


def _table(folder):
    import pyarrow as pa

    try:
        return pa.concat_tables([pa.ipc.open_stream(pa.memory_map(str(file))).read_all() for file in _files(folder)])
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"cannot read the Arrow files of {folder}: {error}") from error


def _only(folder, features, kind):
    found = [name for name, feature in features.items() if feature.get("_type") == kind]
    if len(found) != 1:
        raise UserError(f"{folder} has {len(found)} columns of type {kind}; one is expected: {', '.join(features)}")
    return found[0]


def _labels(folder):
    """(class names in label order, or None where the column does not say them; name of the column)."""
    features = _features(folder)
    named = [name for name, feature in features.items() if feature.get("_type") == "ClassLabel"]
    column = named[0] if len(named) == 1 else next((name for name in LABELS if name in features), None)
    if column is None:
        raise UserError(f"{folder}: which column is the label? One of {', '.join(LABELS)} is expected: {', '.join(features)}")
    return features[column].get("names"), column
