"""An open_clip model from its configuration, with random weights."""

import json
from typing import Any

import open_clip
import torch


def build(model_cfg: dict[str, Any]) -> Any:
    """open_clip model of a `model_cfg`; nothing is fetched but, of a text tower of Hugging Face's, its configuration."""
    model_cfg = json.loads(json.dumps(model_cfg))
    if "hf_model_name" in model_cfg["text_cfg"]:
        model_cfg["text_cfg"]["hf_model_pretrained"] = False
    custom = model_cfg.pop("custom_text", False) or "hf_model_name" in model_cfg["text_cfg"]
    kind = open_clip.CoCa if "multimodal_cfg" in model_cfg else open_clip.CustomTextCLIP if custom else open_clip.CLIP
    clip = kind(**model_cfg)
    if "timm_model_name" in model_cfg["vision_cfg"]:  # convolutions are faster so, and carry the layout on from their weights
        clip.visual.to(memory_format=torch.channels_last)
    return clip
