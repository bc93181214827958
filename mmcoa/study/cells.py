"""Cells: the units of a study. A pretrain cell makes the base model where the study trains its own; a train cell makes one
defended model; an evaluate cell is one model on one data set, under the main settings or at one point of a sweep.

A cell's identity covers its parameters, its inputs (weights, data, candidate words) and the versions of what computes it; the
identity of the cell that made a model is an input of those that use it. Equal identity, equal result: the identity alone
decides whether a result is current. Source text is no part of it, and neither is a parameter that stands at its default, so
that a setting that is added leaves old results as they are. (A default that changes is a change of behaviour: a new version.)
"""

from dataclasses import asdict, dataclass

from mmcoa import defenses, identity
from mmcoa.defenses import at_test
from mmcoa.store.files import digest
from mmcoa.study.settings import (
    AT_TEST,
    EVALUATE_DEFAULTS,
    OWN_FILES,
    PRETRAIN_DEFAULTS,
    TRAIN_DEFAULTS,
    reading_of,
    safe_name,
    written,
)

SINCE = 1  # of this way to make identities


@dataclass(frozen=True)
class Cell:
    """`kind`: pretrain, train or evaluate; `model`: id within the study; `entry`: line of the profile's `models` that it
    belongs to.

    parameters: all that shapes the result, as the notebook's function takes it; inputs: identities of what it reads;
    versions: of what computes it. `sweep`, `sweep_value`: the point of a sweep that an evaluate cell is; empty for the main
    evaluation.
    """

    id: str
    kind: str
    model: str
    entry: str
    parameters: dict
    inputs: dict
    versions: dict
    identity: str
    sweep: str = ""
    sweep_value: str = ""

    def asdict(self):
        """JSON value from which `Cell(**value)` is the cell again."""
        return asdict(self)


def _identity(kind, parameters, defaults, inputs, versions):
    told = {name: value for name, value in parameters.items() if name not in defaults or value != defaults[name]}
    return digest([SINCE, kind, told, inputs, versions])


def _canonical(parameters):
    """Epsilon written one way."""
    epsilon = parameters["epsilon"]
    return {**parameters, "epsilon": None if epsilon is None else written(epsilon)}


NO_FILES = dict.fromkeys(OWN_FILES)  # of a user's own words: they count by content, as inputs


def _own_files(parameters):
    """{"classnames": digest, ...} of the files of own words that are given."""
    return {key: identity.content(parameters[key]) for key in OWN_FILES if parameters.get(key) is not None}


def _at_test(parameters):
    """What counts of a test-time defence: of its settings, those that are not at their default; nothing without one."""
    if (name := parameters["defense_at_test"]) == "none":
        return {key: EVALUATE_DEFAULTS[key] for key in AT_TEST}
    defaults = at_test.record(name).settings
    return {"with_at_test": {key: value for key, value in parameters["with_at_test"].items() if value != defaults.get(key)}}


def pretrain_cell(name, data, **parameters):
    """The cell that trains a base model from scratch; parameters as in notebooks/pretrain.ipynb."""
    names = [] if data == "openmoji" else data
    inputs = {
        "datasets": {each: identity.dataset(each) for each in names or ["openmoji/others"]},  # all glyphs lie on one sheet
        "candidates": identity.candidates("table:train"),  # captions meet both halves, which lie in one file
    }
    parameters, parts = {"data": data, **parameters}, identity.pretraining_versions()
    own = _identity("pretrain", parameters, PRETRAIN_DEFAULTS, inputs, parts)
    return Cell(f"pretrain__{name}", "pretrain", name, "", parameters, inputs, parts, own)


def train_cell(name, entry, weights, **parameters):
    """The cell that fine-tunes a model into `name`.

    Arguments:
        weights: identity of the model that it starts from.
        parameters: defense, dataset, fault, `with` (the defence's own settings), and the fields of `TrainConfig`.
    """
    parameters = _canonical(parameters)
    parameters |= reading_of(parameters, parameters["dataset"])
    defaults = defenses.record(parameters["defense"]).settings
    inputs = {
        "model": weights,
        "dataset": identity.dataset(parameters["dataset"]),
        "candidates": identity.candidates(parameters["candidate_source"]),
        **identity.similarity_encoder(parameters["text_threat"]),
        **_own_files(parameters),
    }
    parts = identity.training_versions(parameters["defense"])
    told = {
        **parameters,
        **NO_FILES,
        "with": {key: value for key, value in parameters["with"].items() if value != defaults[key]},
    }
    own = _identity("train", told, {**TRAIN_DEFAULTS, "with": {}}, inputs, parts)
    return Cell(f"train__{name}", "train", name, entry, parameters, inputs, parts, own)


def evaluate_cell(name, entry, weights, dataset, point, resize="openclip"):
    """The cell that evaluates model `name`, whose weights have the identity `weights`, on one data set at one `Point`."""
    parameters = _canonical({"dataset": dataset, **point.settings, "resize": resize})
    parameters |= reading_of(parameters, dataset)
    check = parameters["check_dataset"]
    inputs = {
        "model": weights,
        "dataset": identity.dataset(dataset),
        "candidates": identity.candidates(parameters["candidate_source"]),
        **identity.similarity_encoder(*(parameters[key] for key in ("text_threat", "similarity_encoder", "min_similarity"))),
        **({"check_dataset": identity.dataset(check)} if check else {}),
        **({"craft_on": identity.model(craft)} if (craft := parameters["craft_on"]) else {}),
        **_own_files(parameters),
    }
    defense = parameters["defense_at_test"]
    parts = identity.evaluation_versions(parameters["attacks"], bool(check), defense)
    told = parameters | _at_test(parameters) | {"similarity_encoder": None, "craft_on": None, **NO_FILES}  # inputs, see above
    own = _identity("evaluate", told, {**EVALUATE_DEFAULTS, "resize": "openclip"}, inputs, parts)
    cell_id = "__".join(filter(None, (name, safe_name(dataset), point.suffix)))
    return Cell(cell_id, "evaluate", name, entry, parameters, inputs, parts, own, point.sweep, point.value)


def evaluate_cells(name, entry, weights, points, resize="openclip"):
    """All evaluate cells of a model: one a `Point` (sweeps.py) and data set."""
    return [evaluate_cell(name, entry, weights, dataset, point, resize) for point in points for dataset in point.datasets]
