"""Unfinished training on disk: weights, optimiser and random state as safetensors, the rest as JSON; nothing that unpickles.

A checkpoint is two files, `step-0000100.safetensors` and, written last, `step-0000100.json` with its digest: without the
second, or with a digest that does not fit, it was cut short or damaged, and the one before it serves.
"""

import json
import logging
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from mmcoa.errors import UserError
from mmcoa.store.files import file_digest, write_atomic, write_json

KEPT = 2  # checkpoints
log = logging.getLogger(__name__)


class TrainingState:
    """The folder `output/state/` of one run, identified by `identity`: all that goes into it, as JSON (loop.identify).

    defaults: a nested dict of what an entry is that an older run's identity does not have: a setting that came later.
    Raises `UserError` where `output` holds a run of another identity, and names what differs.
    """

    def __init__(self, output, identity, defaults=None):
        self.output, self.folder = Path(output), Path(output) / "state"
        self.identity = identity
        self.threads = torch.get_num_threads()
        for path in (self.output / "mmcoa.json", self.folder / "identity.json"):
            if path.is_file():
                stored = json.loads(path.read_text())
                stored = stored.get("training", {}) if path.name == "mmcoa.json" else stored
                changed = "; ".join(differences(filled(stored, defaults or {}), identity))
                if changed or not stored:
                    reason = changed if stored else "nothing is known of it"
                    raise UserError(f"{self.output} holds another training run ({reason}); name another --output or remove it")

    def finished(self):
        return (self.output / "mmcoa.json").is_file()

    def save(self, model, optimizer, step, **info):
        """Write a checkpoint after `step` steps; the one before it stays as a reserve. `info`: what JSON can hold.

        Raises `UserError` where it cannot be written; earlier checkpoints are as they were.
        """
        tensors = {f"model.{key}": value.detach().cpu().contiguous() for key, value in model.clip.state_dict().items()}
        for index, entry in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{key}": value.cpu().contiguous() for key, value in entry.items()}
        tensors["random.cpu"] = torch.get_rng_state()
        if torch.cuda.is_available():
            tensors["random.cuda"] = torch.cuda.get_rng_state()
        tensors = {key: value.clone() for key, value in tensors.items()}
        path = self.folder / f"step-{step:07d}.safetensors"
        try:
            for left in self.folder.glob(".step-*"):  # of a run that was killed while it wrote
                left.unlink()
            write_json(self.folder / "identity.json", self.identity)
            write_atomic(path, lambda temporary: save_file(tensors, temporary))
            write_json(path.with_suffix(".json"), {**info, "step": step, "threads": self.threads, "sha256": file_digest(path)})
        except Exception as error:  # safetensors has its own classes for a full disk
            raise UserError(
                f"cannot write a checkpoint into {self.folder} ({error}); earlier ones are intact, the same command goes on"
            ) from error
        for old in self._checkpoints()[KEPT:]:
            old.with_suffix(".json").unlink(missing_ok=True)
            old.unlink()

    def restore(self, model, optimizer):
        """Load the newest whole checkpoint into model and optimiser; its `info`, or {"step": 0} where there is none."""
        for path in self._checkpoints():
            try:
                info = json.loads(path.with_suffix(".json").read_text())
                if info["sha256"] != file_digest(path):
                    raise ValueError("digest")
                tensors = load_file(path)
            except Exception:  # damaged (killed disk, half a copy): the one before it serves
                log.warning("note: checkpoint %s is damaged; going on from the one before it", path.name)
                continue
            if info["threads"] != self.threads:
                text = "note: checkpoint made with %d threads, now %d: same run, not the same bits"
                log.warning(text, info["threads"], self.threads)
            prefix = "model."
            model.clip.load_state_dict({k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)})
            entries = {}
            for key, value in tensors.items():
                if key.startswith("optimizer."):
                    _, index, name = key.split(".")
                    entries.setdefault(int(index), {})[name] = value
            groups = optimizer.state_dict()["param_groups"]
            optimizer.load_state_dict({"state": entries, "param_groups": groups})
            torch.set_rng_state(tensors["random.cpu"])
            if "random.cuda" in tensors and torch.cuda.is_available():
                torch.cuda.set_rng_state(tensors["random.cuda"])
            return info
        return {"step": 0}

    def discard(self):
        shutil.rmtree(self.folder, ignore_errors=True)

    def _checkpoints(self):
        return sorted(self.folder.glob("step-*.safetensors"), reverse=True)


def filled(stored, defaults):
    """A nested dict with the entries of `defaults` that its mappings lack; mappings that it does not have stay absent."""
    both = {key: filled(value, defaults[key]) for key, value in stored.items() if isinstance(value, dict) and key in defaults}
    return {key: value for key, value in defaults.items() if not isinstance(value, dict)} | stored | both


def differences(stored, wanted, place=""):
    """What differs between two nested dicts: ["config.lr 0.001, now 0.0003", ...]."""
    found = []
    for key in dict.fromkeys([*stored, *wanted]):
        old, new = stored.get(key), wanted.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            found += differences(old, new, f"{place}{key}.")
        elif old != new:
            found.append(f"{place}{key} {old}, now {new}")
    return found
