"""What a gallery is made of, and the file that carries it. Imports no torch: a command that has nothing to do is quick."""

import json
from pathlib import Path

from mmcoa import identity, versions
from mmcoa.errors import UserError
from mmcoa.store.files import digest, file_digest
from mmcoa.study.settings import AT_TEST, EVALUATE_DEFAULTS, OWN_FILES

SCHEMA_VERSION = 2
ATTACKS = ("clean", "image", "text", "sequential")  # that the gallery shows
# Of an evaluation, those that shape one of the attacks that are shown; searches run in fp32, on the models themselves.
NOT_SHOWN = (
    "target",
    "apgd_steps",
    "queries",
    "precision",
    "check_dataset",
    "check_samples",
    "defense_at_test",
    "craft_on",
    *AT_TEST,
)
SETTINGS = {name: value for name, value in EVALUATE_DEFAULTS.items() if name not in NOT_SHOWN}


def gallery_identity(models, asked):
    """Identity of a gallery. `models`: {id: name or folder}; `asked`: all parameters but the device and the folder.

    A setting at its default is no part of it, so that a new one makes no gallery stale.
    """
    inputs = {"models": {name: identity.model(path) for name, path in models.items()}}
    inputs["datasets"] = {name: identity.dataset(name) for name in asked["datasets"]}
    files = {key: asked[key] for key in OWN_FILES if asked.get(key)}
    inputs |= {key: identity.content(path) for key, path in files.items() if isinstance(path, str)}
    inputs |= {key: [identity.content(one) for one in path.values()] for key, path in files.items() if isinstance(path, dict)}
    inputs["candidates"] = identity.candidates(asked["candidate_source"])
    parts = identity.evaluation_versions(ATTACKS) | {"gallery": versions.GALLERY}
    told = {name: value for name, value in asked.items() if name not in SETTINGS or value != SETTINGS[name]}
    return digest([SCHEMA_VERSION, list(models), told, inputs, parts])


def path_of(folder):
    """Where the gallery of results/PROFILE lies."""
    return Path(folder) / "gallery" / "gallery.json"


def read(folder):
    """The gallery of results/PROFILE.

    Raises `UserError` where it is missing, damaged, or a sheet is not the one that was written.
    """
    path, again = path_of(folder), "make it again with: mmcoa gallery PROFILE"
    try:
        content = json.loads(path.read_text(encoding="utf8"))
        for sheet in content["sheets"].values():
            found = file_digest(path.parent / sheet["file"])
            if found != sheet["sha256"]:
                raise UserError(f"{path.parent / sheet['file']} is not the sheet that {path.name} speaks of; {again}")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"no readable gallery {path} ({type(error).__name__}: {error}); {again}") from error
    if content.get("schema_version") != SCHEMA_VERSION:
        raise UserError(f"{path} has another layout than this version reads; {again}")
    return content


def is_current(folder, made_of):
    """Whether the gallery of results/PROFILE is there, whole, and made of exactly this."""
    try:
        return read(folder)["identity"] == made_of
    except UserError:
        return False
