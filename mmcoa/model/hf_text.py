"""Text towers of Hugging Face inside an open_clip model: where their configuration lies, and their padding.

open_clip reads such a tower's architecture from the path `text_cfg.hf_model_name`, which a checkpoint folder cannot state
relative to itself. So the configuration lies in the folder (config.json), its path is written as it is, and whoever loads the
folder here is led to the file wherever the folder has been moved; open_clip alone needs the path mended after a move.
"""

import copy
import json
from pathlib import Path

from open_clip.hf_model import HFTextEncoder


def is_hf(clip):
    """Whether the text tower is one of Hugging Face's."""
    return isinstance(getattr(clip, "text", None), HFTextEncoder)


def located(config, folder, final=None):
    """A copy of an open_clip configuration whose text tower, if it is one of Hugging Face's, has its configuration in `folder`.

    final: where that folder will lie in the end, if elsewhere.
    """
    text = config["model_cfg"]["text_cfg"]
    if "hf_model_name" not in text or not (Path(folder) / "config.json").is_file():
        return config
    config = copy.deepcopy(config)
    config["model_cfg"]["text_cfg"]["hf_model_name"] = str(Path(final or folder).resolve())
    return config


def write_config(clip, folder):
    """Write the text tower's configuration, config.json, if it is one of Hugging Face's."""
    if is_hf(clip):
        (Path(folder) / "config.json").write_text(json.dumps(clip.text.config.to_dict(), indent=2), encoding="utf8")


def without_padding(clip, tokens):
    """Token ids int64 [C, L] without the columns at the end that are padding in all rows: the tower masks them anyway."""
    filled = (tokens != clip.text.config.pad_token_id).any(dim=0).nonzero()
    return tokens[:, : int(filled.max()) + 1] if len(filled) else tokens[:, :1]


def token_embedding(clip):
    """The text tower's token embedding, an `nn.Embedding`; None where it has none."""
    if is_hf(clip):
        return clip.text.transformer.get_input_embeddings()
    tower = clip if hasattr(clip, "token_embedding") else clip.text
    return getattr(tower, "token_embedding", None)
