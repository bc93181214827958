"""Adversarial robustness of vision-language models, both modalities: attacks, defences, evaluation.

import mmcoa
model = mmcoa.load_model("openmoji-clip")
dataset = mmcoa.load_dataset("openmoji/birds", samples=100)
rows = mmcoa.evaluate(model, dataset, attacks=["clean", "image", "text", "multimodal"])
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # what type checkers and editors see
    from mmcoa.datasets import load_dataset
    from mmcoa.datasets.dataset import Dataset
    from mmcoa.errors import UserError
    from mmcoa.evaluation.loop import evaluate
    from mmcoa.model.clip import ImageTextModel
    from mmcoa.model.loading import load_model
    from mmcoa.model.saving import save_checkpoint
    from mmcoa.threat import ThreatModel, parse_epsilon
    from mmcoa.training.loop import TrainConfig, train

__version__ = "0.2.0"

# Loaded at first use: `mmcoa status` and the lists must not wait for torch.
_EXPORTS = {
    "load_model": "mmcoa.model.loading",
    "save_checkpoint": "mmcoa.model.saving",
    "ImageTextModel": "mmcoa.model.clip",
    "load_dataset": "mmcoa.datasets",
    "Dataset": "mmcoa.datasets.dataset",
    "ThreatModel": "mmcoa.threat",
    "parse_epsilon": "mmcoa.threat",
    "evaluate": "mmcoa.evaluation.loop",
    "train": "mmcoa.training.loop",
    "TrainConfig": "mmcoa.training.config",
    "UserError": "mmcoa.errors",
}
__all__ = [
    "Dataset",
    "ImageTextModel",
    "ThreatModel",
    "TrainConfig",
    "UserError",
    "evaluate",
    "load_dataset",
    "load_model",
    "parse_epsilon",
    "save_checkpoint",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module 'mmcoa' has no attribute '{name}'")
    return getattr(importlib.import_module(_EXPORTS[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
