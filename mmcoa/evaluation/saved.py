"""Attacked pictures as they were judged, for other programs: `mmcoa evaluate --save DIR`.

    DIR/pictures.json                             what was evaluated, prompts, the threat model of each attack
    DIR/ATTACK/000000000-000000064.safetensors    some samples, in the data set's order:
        images        float32 [n, 3, H, W] in [0,1], not rounded: before the model's resize and normalisation
        labels, sample_ids, predictions           int64 [n]; a prediction is of the evaluated model, in fp32
        prompts       int64 [n], the item of `prompts` in pictures.json that the prediction was made with

Item of `prompts`: lists of C prompts, one a class; where there are several, their normalised mean embedding counts.
Of a worst case a sample has the picture and the prompts of the part that broke it, and those without an attack where none did.
"""

import json
from pathlib import Path

import torch
from safetensors.torch import save

from mmcoa.attacks.catalog import find
from mmcoa.errors import UserError
from mmcoa.store.files import write_atomic, write_json

INDEX = "pictures.json"


class Saved:
    """The folder, while an evaluation fills it. One of the same evaluation is filled again, another one refused.

    Arguments:
        folder: where; about: JSON value, what is evaluated.
        prompts: {"clean" or attack on prompts: lists of C prompts}.
        names: {name of an outcome: (adversary, `Attack`)}; parts: {attack: names of its parts}.
        journal: `Journal` of the evaluation; begun anew where pictures of its finished samples are gone.
    """

    def __init__(self, folder, about, prompts, names, parts, journal):
        self.folder, self.kinds, self.names, self.parts = Path(folder), list(prompts), names, parts
        about = json.loads(json.dumps(about | {"prompts": list(prompts.values())}))
        index = self.folder / INDEX
        if self.folder.exists() and not self.folder.is_dir():
            raise UserError(f"{self.folder} is a file; pictures are saved in a folder")
        if not index.is_file() and self.folder.is_dir() and any(self.folder.iterdir()):
            raise UserError(f"{self.folder} holds other files than attacked pictures; choose another folder")
        if index.is_file() and _read(index) != about:
            raise UserError(f"{self.folder} holds the pictures of another evaluation; choose another folder")
        if not all(self._holds(name, journal.done) for name in names):
            journal.restart()
        for path in self._files():
            if _span(path)[1] > journal.done:
                path.unlink()
        write_json(index, about, indent=1)

    def add(self, start, batches):
        """The pictures of one batch, {adversary: `AttackedBatch`}, whose first sample is number `start`."""
        for name, (side, attack) in self.names.items():
            batch = batches[side]
            outcome = batch.run(attack, self.parts.get(attack.name))
            images = batch.images if outcome.images is None else outcome.images
            prompts = [attack.judged] * len(images)
            if outcome.broken_by is not None:
                prompts = [find(part).judged if part else "clean" for part in outcome.broken_by]
            tensors = {
                "images": images.detach().float(),
                "labels": batch.labels,
                "sample_ids": batch.ids,
                "predictions": outcome.prediction,
                "prompts": torch.tensor([self.kinds.index(kind) for kind in prompts]),
            }
            content = save({key: tensor.cpu().contiguous() for key, tensor in tensors.items()})
            path = self.folder / name / f"{start:09d}-{start + len(images):09d}.safetensors"
            write_atomic(path, lambda temporary, content=content: temporary.write_bytes(content))

    def _files(self, name="*"):
        return sorted(self.folder.glob(f"{name}/[0-9]*-[0-9]*.safetensors"))

    def _holds(self, name, done):
        """Whether the pictures of the first `done` samples are there."""
        spans = [span for span in map(_span, self._files(name)) if span[1] <= done]
        return [0, *(stop for _, stop in spans)] == [*(start for start, _ in spans), done]


def about(model, dataset, threat, attacks, parts, evaluated):
    """What pictures.json says beside the prompts; evaluated: identity of the evaluation, {attack: its parts}."""
    settings = {
        attack.name: {
            "threat": attack.settings(threat, parts.get(attack.name), len(dataset.class_names)),
            "threat_text": attack.describe(threat, parts.get(attack.name), len(dataset.class_names)),
            "parts": list(parts.get(attack.name, ())),
        }
        for attack in attacks
    }
    size, mean, std = list(model.image_size), model.mean.flatten().tolist(), model.std.flatten().tolist()
    return {
        "model": {"name": model.name, "image_size": size, "mean": mean, "std": std, "resize": model.resize},
        "dataset": {"name": dataset.name, "split": dataset.split, "samples": len(dataset), "class_names": dataset.class_names},
        "attacks": settings,
        "identity": evaluated,
    }


def _span(path):
    """(first sample, the one after the last) of a part."""
    start, stop = path.stem.split("-")
    return int(start), int(stop)


def _read(path):
    try:
        return json.loads(path.read_text(encoding="utf8"))
    except ValueError:
        return None
