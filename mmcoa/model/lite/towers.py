"""The open_clip model of `lite-clip` from the packages' weights and an `Alignment`."""

import json

import open_clip
import torch

from mmcoa.model.lite import NAME, packages
from mmcoa.model.lite.names import CLASSES

IMAGE_MODEL = "tf_efficientnet_lite0"
CONTEXT = 77  # tokens, as CLIP; padding costs nothing


def configuration(recipe, text_folder):
    """open_clip's configuration; `text_folder` holds the text tower's config.json."""
    side = [recipe.image_size, recipe.image_size]
    vision = {
        "image_size": recipe.image_size, "timm_model_name": IMAGE_MODEL, "timm_model_pretrained": False, "timm_pool": "avg",
        "timm_proj": "mlp", "timm_proj_bias": True,
    }  # fmt: skip
    text = {
        "context_length": CONTEXT, "hf_model_name": str(text_folder), "hf_tokenizer_name": NAME, "hf_model_pretrained": False,
        "hf_pooler_type": "mean_pooler", "hf_proj_type": "mlp",
    }  # fmt: skip
    half = [0.5, 0.5, 0.5]
    return {
        "model_cfg": {"embed_dim": CLASSES, "vision_cfg": vision, "text_cfg": text},
        "preprocess_cfg": {
            "size": side, "mode": "RGB", "mean": half, "std": half, "interpolation": "bicubic", "resize_mode": "shortest",
        },
    }  # fmt: skip


def text_config():
    """MiniLM's configuration without dropout: adversarial fine-tuning compares embeddings, which must not be random."""
    config = json.loads(packages.text_file("config.json"))
    return config | {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


def assemble(config):
    """(open_clip model with the packages' weights, its heads as open_clip draws them; the classifier's weight and bias)."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        clip = open_clip.CustomTextCLIP(**json.loads(json.dumps(config["model_cfg"])))
    names = list(clip.visual.trunk.state_dict())
    *trunk, weight, bias = packages.image_weights()
    clip.visual.trunk.load_state_dict(dict(zip(names, trunk, strict=True)))
    missing, unexpected = clip.text.transformer.load_state_dict(packages.text_weights(), strict=False)
    assert not [name for name in [*missing, *unexpected] if not name.endswith("position_ids")]
    assert weight.shape == (CLASSES, clip.visual.trunk.num_features)
    return clip.eval().requires_grad_(False), weight, bias


@torch.no_grad()
def insert(clip, alignment):
    """Write an `Alignment` into the heads, in place. What the text side subtracts goes into its last layer norm."""
    mlp = clip.visual.head.mlp  # open_clip gives it twice as many hidden units as classes: the second half stays at zero
    for parameter in mlp.parameters():
        parameter.zero_()
    mlp.fc1.weight[:CLASSES] = alignment.image_weight
    mlp.fc1.bias[:CLASSES] = alignment.image_bias
    mlp.fc2.weight.fill_diagonal_(1)
    clip.text.transformer.encoder.layer[-1].output.LayerNorm.bias.sub_(alignment.centre)
    clip.text.proj[0].weight.copy_(alignment.text_hidden)
    clip.text.proj[-1].weight.copy_(alignment.text_weight)
    clip.logit_scale.fill_(torch.tensor(alignment.scale).log())
