"""Adversarial robustness of vision-language models, both modalities: attacks, defences, evaluation.

import mmcoa
model = mmcoa.load_model("openmoji-clip")
dataset = mmcoa.load_dataset("openmoji/birds", samples=100)
rows = mmcoa.evaluate(model, dataset, attacks=["clean", "image", "text", "multimodal"])
"""

import importlib

__version__ = "0.1.0"

# Loaded at first use: `mmcoa status` and the lists must not wait for torch.
_EXPORTS = {
    "load_model": "mmcoa.model.loading",
    "save_checkpoint": "mmcoa.model.loading",
    "ImageTextModel": "mmcoa.model.clip",
    "load_dataset": "mmcoa.datasets",
    "Dataset": "mmcoa.datasets",
    "ThreatModel": "mmcoa.threat",
    "parse_epsilon": "mmcoa.threat",
    "evaluate": "mmcoa.evaluation.loop",
    "train": "mmcoa.training.loop",
    "TrainConfig": "mmcoa.training.config",
    "UserError": "mmcoa.errors",
}
__all__ = list(_EXPORTS)


def __getattr__(name):
    if name not in _EXPORTS:
        raise AttributeError(f"module 'mmcoa' has no attribute '{name}'")
    return getattr(importlib.import_module(_EXPORTS[name]), name)


def __dir__():
    return sorted([*globals(), *__all__])
