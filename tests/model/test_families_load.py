"""What was saved loads again without the network and the weights it was made from: CoCa, towers of Hugging Face."""

import json
import shutil

import pytest
import torch
from open_clip.tokenizer import SimpleTokenizer
from safetensors.torch import load_file, save_file
from transformers import BertConfig

import mmcoa
from mmcoa.errors import UserError
from mmcoa.model.build import build
from mmcoa.model.clip import ImageTextModel
from mmcoa.model.saving import save_checkpoint
from mmcoa.threat import ThreatModel
from mmcoa.training.finetune import fine_tune

VISION = {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16}
TEXT = {"context_length": 20, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1}
COCA = {
    "embed_dim": 32,
    "vision_cfg": VISION | {"attentional_pool": True, "attn_pooler_heads": 2, "attn_pooler_queries": 8, "output_tokens": True},
    "text_cfg": TEXT | {"context_length": 19, "embed_cls": True, "output_tokens": True},
    "multimodal_cfg": {"context_length": 19, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
    "custom_text": True,
}


def drawn(folder, kind):
    """A small model with random weights."""
    torch.manual_seed(0)
    config, length = COCA, 19
    if kind == "bert":
        size = {
            "hidden_size": 32,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "intermediate_size": 64,
            "vocab_size": 49408,
        }
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps(BertConfig(**size).to_dict()))
        text = {"context_length": 20, "hf_model_name": str(folder), "hf_proj_type": "linear", "hf_pooler_type": "mean_pooler"}
        config, length = {"embed_dim": 32, "vision_cfg": VISION, "text_cfg": text}, 20
    preprocess = {"size": 32, "mean": [0.5] * 3, "std": [0.5] * 3}
    tokenizer = SimpleTokenizer(context_length=length)
    return ImageTextModel(build(config).eval(), tokenizer, kind, {"model_cfg": config, "preprocess_cfg": preprocess})


@pytest.mark.parametrize("kind", ["coca", "bert"])
def test_what_was_trained_loads_and_is_attacked(tmp_path, kind, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    model = drawn(tmp_path / "origin", kind)
    save_checkpoint(model, tmp_path / "base", {"name": kind})
    shutil.rmtree(tmp_path / "origin", ignore_errors=True)
    config = mmcoa.TrainConfig(steps=1, batch_size=4, samples=8, held_out=0, warmup=0, lr=1e-3, inner_steps=1)
    fine_tune("tecoa", str(tmp_path / "base"), "openmoji/birds", tmp_path / "tuned", config, device="cpu")
    tuned = mmcoa.load_model(str(tmp_path / "tuned"))
    pixels = torch.rand(2, 3, 32, 32)
    assert tuned.fingerprint() != model.fingerprint() and torch.isfinite(tuned.encode_image(pixels)).all()
    assert torch.equal(tuned.encode_text(["a cat"]), model.encode_text(["a cat"]))  # the defence trains the image tower
    data = mmcoa.load_dataset("openmoji/birds", samples=4)
    rows = mmcoa.evaluate(tuned, data, ["clean", "image", "text"], ThreatModel(steps=1), check=data)
    assert [row["n"] for row in rows] == [4, 4, 4] and rows[2]["share_changed"] > 50


def test_the_cause_is_told_whole(tmp_path):
    """Not its first line, cut off, and a question about the network."""
    save_checkpoint(drawn(tmp_path / "origin", "coca"), tmp_path / "base")
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
