"""A folder of transformers' `CLIPModel`: its configuration as open_clip's, its preprocessing and its tokenizer."""

import json
from dataclasses import asdict

import open_clip
from open_clip.transform import PreprocessCfg, merge_preprocess_dict

from mmcoa.errors import UserError

ACTIVATIONS = {"quick_gelu": True, "gelu": False}


def design(folder):
    """(model_cfg, preprocess_cfg, tokenizer) of a folder with config.json; `UserError` where that is no plain CLIP's."""
    from transformers import CLIPConfig  # takes a second, which other models need not wait for

    path = folder / "config.json"
    try:
        stated = json.loads(path.read_text(encoding="utf8"))
        kind = stated.get("model_type")
        if kind != "clip":
            raise UserError(f"{path} is of a model of type '{kind}'; of transformers' models CLIPModel loads here")
        config = CLIPConfig.from_dict(stated)
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{path} is no configuration of a CLIPModel: {error}") from error
    vision, text = config.vision_config, config.text_config
    if vision.hidden_act != text.hidden_act or vision.hidden_act not in ACTIVATIONS:
        raise UserError(f"{path}: activations {vision.hidden_act} and {text.hidden_act}; open_clip knows gelu or quick_gelu")
    model_cfg = {
        "embed_dim": config.projection_dim,
        "quick_gelu": ACTIVATIONS[vision.hidden_act],
        "vision_cfg": {
            "image_size": vision.image_size, "patch_size": vision.patch_size, "layers": vision.num_hidden_layers,
            "width": vision.hidden_size, "head_width": vision.hidden_size // vision.num_attention_heads,
            "mlp_ratio": vision.intermediate_size / vision.hidden_size,
        },
        "text_cfg": {
            "context_length": text.max_position_embeddings, "vocab_size": text.vocab_size, "width": text.hidden_size,
            "heads": text.num_attention_heads, "layers": text.num_hidden_layers,
            "mlp_ratio": text.intermediate_size / text.hidden_size,
        },
    }  # fmt: skip
    return model_cfg, _preprocess(folder), _tokenizer(folder, text)


def _preprocess(folder):
    """Mean, std and resize of the folder's image processor; CLIP's own where it has none."""
    preprocess = asdict(PreprocessCfg())
    for name in ("preprocessor_config.json", "processor_config.json"):
        if (folder / name).is_file():
            stated = json.loads((folder / name).read_text(encoding="utf8"))
            stated = stated.get("image_processor", stated)
            if "image_mean" in stated:
                own = {"mean": tuple(stated["image_mean"]), "std": tuple(stated["image_std"])}
                if stated.get("resample") == 2:  # PIL's number for bilinear
                    own["interpolation"] = "bilinear"
                if stated.get("do_center_crop") is False and "shortest_edge" not in str(stated.get("size", "")):
                    own["resize_mode"] = "squash"
                return merge_preprocess_dict(preprocess, own)
    return preprocess


def _tokenizer(folder, text):
    """CLIP's own where the vocabulary has its size, else the folder's."""
    length = text.max_position_embeddings
    if text.vocab_size == open_clip.tokenizer.SimpleTokenizer().vocab_size:
        return open_clip.tokenizer.SimpleTokenizer(context_length=length)
    try:
        return open_clip.tokenizer.HFTokenizer(str(folder), context_length=length)
    except Exception as error:
        raise UserError(
            f"{folder} has no tokenizer for its vocabulary of {text.vocab_size:,}: copy tokenizer.json there"
        ) from error
