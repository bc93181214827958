"""Unfinished training on disk: weights and optimiser as safetensors, the rest as JSON; nothing that unpickles."""

import json
import shutil
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from mmcoa.errors import UserError


class TrainingState:
    """The folder `output/state/` of one run, identified by `identity` (configuration, threat model, base weights)."""

    def __init__(self, output, identity):
        self.output, self.folder = Path(output), Path(output) / "state"
        self.identity = identity
        self.threads = torch.get_num_threads()
        for path in (self.output / "mmcoa.json", self.folder / "identity.json"):
            if path.is_file():
                stored = json.loads(path.read_text())
                stored = stored.get("training", {}) if path.name == "mmcoa.json" else stored
                if stored != identity:
                    raise UserError(f"{self.output} holds another training run; name another --output or remove it")

    def finished(self):
        return (self.output / "mmcoa.json").is_file()

    def save(self, model, optimizer, step, seconds):
        """Write a checkpoint after `step` steps; the one before it stays as a reserve."""
        self.folder.mkdir(parents=True, exist_ok=True)
        tensors = {f"model.{key}": value.detach().cpu().contiguous() for key, value in model.clip.state_dict().items()}
        for index, entry in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{key}": value.cpu().contiguous() for key, value in entry.items()}
        temporary = self.folder / "writing"
        info = {"step": str(step), "seconds": str(seconds), "threads": str(self.threads)}
        save_file({key: value.clone() for key, value in tensors.items()}, temporary, metadata=info)
        (self.folder / "identity.json").write_text(json.dumps(self.identity))
        temporary.replace(self.folder / f"step-{step:07d}.safetensors")
        for old in self._checkpoints()[2:]:
            old.unlink()

    def restore(self, model, optimizer):
        """Load the newest readable checkpoint into model and optimiser; (steps done, seconds spent) or (0, 0.0)."""
        for path in self._checkpoints():
            try:
                with safe_open(path, framework="pt") as file:
                    info = file.metadata()
                tensors = load_file(path)
            except Exception:  # damaged (killed disk, half a copy): the one before it serves
                continue
            if int(info["threads"]) != self.threads:
                print(f"note: checkpoint made with {info['threads']} threads, now {self.threads}: same run, not the same bits")
            prefix = "model."
            model.clip.load_state_dict({k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)})
            entries = {}
            for key, value in tensors.items():
                if key.startswith("optimizer."):
                    _, index, name = key.split(".")
                    entries.setdefault(int(index), {})[name] = value
            groups = optimizer.state_dict()["param_groups"]
            optimizer.load_state_dict({"state": entries, "param_groups": groups})
            return int(info["step"]), float(info["seconds"])
        return 0, 0.0

    def discard(self):
        shutil.rmtree(self.folder, ignore_errors=True)

    def _checkpoints(self):
        return sorted(self.folder.glob("step-*.safetensors"), reverse=True)
