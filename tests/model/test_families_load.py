"""What does not load says why. What does: test_families.py."""

import pytest
import torch
from open_clip.tokenizer import SimpleTokenizer
from safetensors.torch import load_file, save_file

import mmcoa
from mmcoa.errors import UserError
from mmcoa.model.build import build
from mmcoa.model.clip import ImageTextModel
from mmcoa.model.saving import save_checkpoint

VISION = {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16}
TEXT = {"context_length": 20, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1}
COCA = {
    "embed_dim": 32,
    "vision_cfg": VISION | {"attentional_pool": True, "attn_pooler_heads": 2, "attn_pooler_queries": 8, "output_tokens": True},
    "text_cfg": TEXT | {"context_length": 19, "embed_cls": True, "output_tokens": True},
    "multimodal_cfg": {"context_length": 19, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
    "custom_text": True,
}


def drawn():
    """A small CoCa with random weights."""
    torch.manual_seed(0)
    preprocess = {"size": 32, "mean": [0.5] * 3, "std": [0.5] * 3}
    tokenizer = SimpleTokenizer(context_length=19)
    return ImageTextModel(build(COCA).eval(), tokenizer, "coca", {"model_cfg": COCA, "preprocess_cfg": preprocess})


def test_the_cause_is_told_whole(tmp_path):
    """Not its first line, cut off, and a question about the network."""
    save_checkpoint(drawn(), tmp_path / "base")
    path = tmp_path / "base" / "model.safetensors"
    weights = load_file(path)
    del weights["visual.conv1.weight"]
    save_file(weights, path)
    with pytest.raises(UserError, match=r"damaged checkpoint .*Missing key\(s\) in state_dict: .visual.conv1.weight") as told:
        mmcoa.load_model(str(tmp_path / "base"))
    assert "network" not in str(told.value) and "\n" not in str(told.value)
    with pytest.raises(UserError, match="cannot load weights of 'hf-hub:nobody/nothing': .*; is there a network") as told:
        mmcoa.load_model("hf-hub:nobody/nothing")
    assert "\n" not in str(told.value)
