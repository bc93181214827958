"""A model as a checkpoint folder that open_clip loads."""

import json
import tempfile
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from mmcoa.model import hf_text
from mmcoa.model.clip import ImageTextModel, plain_state


def save_checkpoint(
    model: ImageTextModel,
    folder: str | Path,
    metadata: dict[str, Any] | None = None,
    dtype: torch.dtype = torch.float32,
    final: Path | None = None,
) -> Path:
    """Write `folder` so that `open_clip.create_model("local-dir:FOLDER")` loads it; whole or not at all.

    Writes model.safetensors (in `dtype`), open_clip_config.json, the tokenizer's files and our own mmcoa.json. A text tower of
    Hugging Face's has its config.json there too; final: where the folder will lie in the end, if elsewhere (see hf_text.py).
    """
    folder = Path(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    weights = {key: value.to("cpu", dtype).contiguous().clone() for key, value in plain_state(model.clip).items()}
    save_file(weights, temporary / "model.safetensors")
    hf_text.write_config(model.clip, temporary)
    config = hf_text.located(model.config, temporary, final or folder)
    (temporary / "open_clip_config.json").write_text(json.dumps(config, indent=2))
    if hasattr(model.tokenizer, "save_pretrained"):
        model.tokenizer.save_pretrained(temporary)
    (temporary / "mmcoa.json").write_text(json.dumps(metadata or model.metadata, indent=2))
    temporary.chmod(0o755)  # temporary files are private: a checkpoint is for everyone whom the umask lets
    (temporary / "model.safetensors").chmod(0o644)
    if not folder.exists():
        temporary.rename(folder)
        return folder
    # Other files of the folder (logs, training state) stay. mmcoa.json comes last: it says that the checkpoint is whole.
    for path in sorted(temporary.iterdir(), key=lambda path: path.name == "mmcoa.json"):
        path.replace(folder / path.name)
    temporary.rmdir()
    return folder
