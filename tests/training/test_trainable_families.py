"""Blocks and low-rank changes in towers of timm and of Hugging Face, with random weights at reduced size."""

import itertools
import json

import open_clip
import pytest
import torch
from transformers import BertConfig

from mmcoa.errors import UserError
from mmcoa.training.trainable import make_trainable, merge


class Model(torch.nn.Module):
    """What `make_trainable` reads of an `ImageTextModel`."""

    def __init__(self, clip):
        super().__init__()
        self.clip, self.name = clip, "drawn"


@pytest.fixture(params=["test_vit", "test_efficientnet", "test_resnet", "test_convnext"])
def drawn(request, tmp_path):
    size = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 64, "vocab_size": 50}
    (tmp_path / "config.json").write_text(json.dumps(BertConfig(**size).to_dict()))
    torch.manual_seed(0)
    vision = {"timm_model_name": request.param, "timm_model_pretrained": False, "timm_pool": "", "timm_proj": "linear"}
    text = {
        "context_length": 16, "hf_model_name": str(tmp_path), "hf_model_pretrained": False, "hf_proj_type": "linear",
        "hf_pooler_type": "mean_pooler",
    }  # fmt: skip
    model = Model(open_clip.CustomTextCLIP(24, {**vision, "image_size": 160, "timm_pool": "avg"}, text).eval())
    model.is_transformer = request.param == "test_vit"
    return model


def trained_names(model, **arguments):
    chosen = {id(p) for p in make_trainable(model, **arguments)}
    return {name for name, p in model.clip.named_parameters() if id(p) in chosen}


def test_first_and_last_blocks_are_disjoint_and_all_of_them_are_the_tower(drawn):
    for tower, prefix in (("image", "visual."), ("text", "text.")):
        whole = trained_names(drawn, towers=(tower,)) - {"logit_scale"}
        last = trained_names(drawn, towers=(tower,), last_blocks=1) - {"logit_scale"}
        first = trained_names(drawn, towers=(tower,), first_blocks=1) - {"logit_scale"}
        assert last and first and not last & first and last | first < whole
        assert all(name.startswith(prefix) for name in whole)
        counts = range(1, 9)
        grown = [last]
        for count in counts[1:]:
            try:
                grown.append(trained_names(drawn, towers=(tower,), last_blocks=count) - {"logit_scale"})
            except UserError:
                break
        assert all(small < large for small, large in itertools.pairwise(grown))
        assert grown[-1] | first == whole


def test_low_rank_changes_start_at_zero_learn_and_merge(drawn):
    towers = ("image", "text") if drawn.is_transformer else ("text",)
    tokens, pixels = torch.tensor([[2, 5, 6, 3]]), torch.rand(1, 3, 160, 160)

    def outputs():
        return torch.cat([drawn.clip.encode_image(pixels), drawn.clip.encode_text(tokens)])

    before = outputs().detach()
    parameters = make_trainable(drawn, towers, last_blocks=1, lora_rank=2)
    assert torch.allclose(outputs(), before, atol=1e-6)
    outputs().square().sum().backward()
    assert all(p.grad is not None for p in parameters) and sum(bool(p.grad.abs().sum() > 0) for p in parameters) > 0
    with torch.no_grad():
        for parameter in parameters:
            parameter.add_(0.1)
    changed = outputs().detach()
    assert not torch.allclose(changed, before, atol=1e-3)
    merge(drawn)
    assert torch.allclose(outputs(), changed, atol=1e-5)


def test_low_rank_changes_of_a_convolutional_tower_are_refused(drawn):
    if drawn.is_transformer:
        assert make_trainable(drawn, ("image",), lora_rank=2)
    else:
        with pytest.raises(UserError, match="LoRA needs transformer blocks"):
            make_trainable(drawn, ("image",), lora_rank=2)
