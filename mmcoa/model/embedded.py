"""The models that come with the package: folders of mmcoa/assets. Torch-free, so that lists do not wait for it."""

import json
import math
import struct
from importlib.resources import files
from pathlib import Path

ASSETS = Path(str(files("mmcoa.assets")))


def embedded_names() -> list[str]:
    """Names of the embedded models, sorted."""
    return sorted(path.parent.name for path in ASSETS.glob("*/open_clip_config.json"))


def embedded_folder(name: str) -> Path:
    """Folder of an embedded model."""
    return ASSETS / name


def summary(name: str) -> str:
    """One line about an embedded model, from its files: `2.3 M parameters, 64 px, image tower: ViT`."""
    config = json.loads((embedded_folder(name) / "open_clip_config.json").read_text(encoding="utf8"))["model_cfg"]
    vision = config["vision_cfg"]
    tower = vision.get("timm_model_name") or ("ResNet" if isinstance(vision["layers"], list) else "ViT")
    millions = _numbers(embedded_folder(name) / "model.safetensors") / 1e6
    return f"{millions:.1f} M parameters, {vision['image_size']} px, image tower: {tower}"


def _numbers(path: Path) -> int:
    """How many numbers a safetensors file holds, from its header: eight bytes of length, then JSON."""
    with path.open("rb") as file:
        header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
    return sum(math.prod(entry["shape"]) for key, entry in header.items() if key != "__metadata__")
