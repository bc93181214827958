"""A checkpoint as a folder for transformers: `CLIPModel.from_pretrained(FOLDER)` gives the same embeddings.

For the standard architecture: open_clip's plain ViT image tower and causal text tower. (For open_clip itself nothing needs to
be converted: a checkpoint folder is `open_clip.create_model("local-dir:FOLDER")`.) A text tower of Hugging Face's, as that of
`lite-clip`, would be a `VisionTextDualEncoder`; that class has one matrix behind the first token of each tower, and no place
for a mean over tokens or for heads of two layers.
"""

from pathlib import Path

import open_clip
import torch
from open_clip.transformer import ResidualAttentionBlock, VisionTransformer
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel

from mmcoa.errors import UserError
from mmcoa.model import hf_text, transformers_names
from mmcoa.model.clip import plain_state


def to_transformers(model):
    """`ImageTextModel` -> transformers `CLIPModel` with the same weights. Raises `UserError` for other architectures."""
    clip = model.clip
    if hf_text.is_hf(clip):
        raise UserError(
            f"'{model.name}' does not convert: transformers' VisionTextDualEncoder has neither the mean over tokens nor the "
            "heads of its towers; open_clip loads a checkpoint folder as it is: local-dir:FOLDER"
        )
    plain = isinstance(clip, open_clip.CLIP) and isinstance(clip.visual, VisionTransformer) and clip.text_pool_type == "argmax"
    blocks = [*clip.visual.transformer.resblocks, *clip.transformer.resblocks] if plain else []
    if not plain or clip.visual.pool_type != "tok" or not all(type(block) is ResidualAttentionBlock for block in blocks):
        raise UserError(
            f"'{model.name}' is no CLIP with a plain ViT and a causal text tower; only that converts to transformers"
        )
    config = model.config["model_cfg"]
    vision, text = config["vision_cfg"], config["text_cfg"]
    activation = "quick_gelu" if config.get("quick_gelu") else "gelu"
    width, patch = clip.visual.conv1.out_channels, clip.visual.conv1.kernel_size[0]
    end = int(model.tokenizer([""]).max())  # the end token has the largest id
    layers = {"image": clip.visual.transformer.resblocks[0], "text": clip.transformer.resblocks[0]}
    shared = {"hidden_act": activation, "layer_norm_eps": 1e-5, "attention_dropout": 0.0}
    converted = CLIPModel(
        CLIPConfig(
            projection_dim=config["embed_dim"],
            vision_config={
                "hidden_size": width, "intermediate_size": layers["image"].mlp.c_fc.out_features,
                "num_hidden_layers": vision["layers"], "num_attention_heads": layers["image"].attn.num_heads,
                "image_size": vision["image_size"], "patch_size": patch, "projection_dim": config["embed_dim"], **shared,
            },
            text_config={
                "hidden_size": text["width"], "intermediate_size": layers["text"].mlp.c_fc.out_features,
                "num_hidden_layers": text["layers"], "num_attention_heads": text["heads"], "vocab_size": text["vocab_size"],
                "max_position_embeddings": text["context_length"], "projection_dim": config["embed_dim"],
                "eos_token_id": end, "bos_token_id": end - 1, "pad_token_id": 0, **shared,
            },
        )
    ).eval()  # fmt: skip
    state = {name: value.float().cpu() for name, value in plain_state(clip).items()}
    missing = converted.load_state_dict(transformers_names.to_transformers(state), strict=False).missing_keys
    missing = [name for name in missing if not name.endswith("position_ids")]
    if missing:
        raise UserError(f"'{model.name}' has no weights for {missing[0]}; it does not convert to transformers")
    return converted


@torch.no_grad()
def export(model, folder):
    """Write model, image processor and tokenizer of an `ImageTextModel` as a transformers folder; returns it."""
    folder = Path(folder)
    if folder.exists() and any(folder.iterdir()):
        raise UserError(f"{folder} is not empty; name another folder")
    converted = to_transformers(model)
    size = max(model.image_size)
    preprocess = model.config["preprocess_cfg"]
    processor = CLIPImageProcessor(
        size={"shortest_edge": size}, crop_size={"height": size, "width": size}, image_mean=list(preprocess["mean"]),
        image_std=list(preprocess["std"]),
    )  # fmt: skip
    converted.save_pretrained(folder, safe_serialization=True)
    processor.save_pretrained(folder)
    if hasattr(model.tokenizer, "save_pretrained"):
        model.tokenizer.save_pretrained(folder)
    return folder
