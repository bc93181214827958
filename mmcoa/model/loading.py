"""CLIP models by name, and checkpoints on disk.

Architectures and weights come from open_clip; a checkpoint written here loads there (`local-dir:DIR`) without our code.
"""

import json
import os
from pathlib import Path
from typing import Any

import open_clip
import torch
from safetensors.torch import load_file

from mmcoa.errors import UserError, is_network, reason, unknown
from mmcoa.model import hf_text, lite, paths
from mmcoa.model.build import build
from mmcoa.model.by_path import load_path
from mmcoa.model.clip import ImageTextModel
from mmcoa.model.embedded import embedded_folder, embedded_names
from mmcoa.model.precision import automatic


def load_model(
    name: str,
    device: str | torch.device = "cpu",
    resize: str = "openclip",
    precision: str = "fp32",
    *,
    arch: str | None = None,
) -> ImageTextModel:
    """Load a model by name or by path.

    Arguments:
        name: an embedded model, such as `openmoji-clip`; `lite-clip` (extra `lite`; built at first use); a checkpoint folder;
            `ARCH/PRETRAINED` of open_clip, such as `ViT-B-32/openai`; `hf-hub:OWNER/NAME`; or a file or folder of anyone's
            weights, see by_path.py.
        device: `cpu`, `cuda`, ... or `auto`.
        resize, precision: see `ImageTextModel`; precision `auto`: the faster one for this processor, see precision.py.
        arch: of a path: `ARCH`, `ARCH/TAG`, or another model, which also give the tower that the file lacks; `PATH@ARCH` says
            the same in one string. None: as the folder's configuration says, or by the shapes.

    Returns an `ImageTextModel` in evaluation mode. Raises `UserError` for an unknown name, a missing or damaged file, or
    when open_clip would go on with random weights.
    """
    if precision == "auto":
        model = load_model(name, device, resize, arch=arch)
        model.precision, model.precision_note = automatic(model)
        return model
    name = paths.joined(str(name), arch)
    device = resolve_device(device)
    if name in embedded_names():
        return _load_folder(embedded_folder(name), name, device, resize, precision)
    if name == lite.NAME:
        from mmcoa.model.lite.build import lite_folder  # for those who ask for it

        return _load_folder(lite_folder(), name, device, resize, precision)
    if Path(name).is_dir() and not _is_foreign(Path(name)):
        return _load_folder(Path(name), None, device, resize, precision)
    if paths.parted(name):
        return load_path(name, load_model, resize, precision).to(device)
    if paths.is_path(name):
        raise UserError(f"no file '{name}'")
    architecture, _, pretrained = name.rpartition("/")
    if name.startswith("hf-hub:"):
        architecture, pretrained = name, None
    elif architecture not in open_clip.list_models():
        known = [*embedded_names(), lite.NAME, *(f"{a}/{t}" for a, t in open_clip.list_pretrained())]
        if "/" in name and Path(name).parent.is_dir():
            raise UserError(f"no checkpoint folder '{name}' (expected model.safetensors and open_clip_config.json in it)")
        raise unknown("model", name, known)
    elif pretrained not in open_clip.list_pretrained_tags_by_model(architecture):
        raise unknown("model", name, [f"{architecture}/{t}" for t in open_clip.list_pretrained_tags_by_model(architecture)])
    tag = open_clip.get_pretrained_cfg(architecture, pretrained) if pretrained else {}
    quick_gelu = bool(tag and tag.get("quick_gelu"))  # OpenAI's weights need QuickGELU (trap E5)
    try:
        clip: Any = open_clip.create_model(
            architecture,
            pretrained=pretrained,
            require_pretrained=True,  # open_clip goes on with random weights and a warning otherwise (trap E6)
            force_quick_gelu=quick_gelu,
        )
        tokenizer = open_clip.get_tokenizer(architecture)
    except Exception as error:
        asked = "; is there a network?" if is_network(error) else ""
        raise UserError(f"cannot load weights of '{name}': {reason(error)}{asked}") from error
    model_cfg = {**(open_clip.get_model_config(architecture) or {}), **({"quick_gelu": True} if quick_gelu else {})}
    config = {"model_cfg": model_cfg, "preprocess_cfg": clip.visual.preprocess_cfg}
    return ImageTextModel(clip, tokenizer, name, config, resize, precision=precision).to(device).eval()


def frozen_model(model: ImageTextModel) -> ImageTextModel:
    """The model before fine-tuning, whose token embedding gives `neighbours`; the model itself where it was not fine-tuned.

    Raises `UserError` where the base that its mmcoa.json names does not load, or has other weights than it had then: the tuned
    model in its place would measure itself.
    """
    places, why = paths.base_places(model.metadata, model.folder), []
    if not places:
        return model
    weights = model.metadata.get("base_weights")
    for place in places:
        try:
            base = load_model(place, model.device)
        except UserError as error:
            why.append(str(error))
            continue
        if weights is None or base.fingerprint() == weights:
            return base
        why.append(f"'{place}' has other weights now")
    raise UserError(
        f"the frozen base of '{model.name}', '{model.metadata['base_model']}', cannot be had: {why[0]}; put it there again, or "
        "name in the checkpoint's mmcoa.json where it is (base_model, or base_folder for a folder)"
    )


def resolve_device(device: str | torch.device) -> torch.device:
    """`auto` -> `cuda` where there is a GPU, else `cpu`; anything torch does not know is a `UserError`.

    On a GPU fp32 then means fp32: torch lets convolutions, such as the patch embedding, run in TF32 unless it is told not to.
    """
    if device == "auto":
        if not torch.cuda.is_available():
            return torch.device("cpu")
        device = f"cuda:{int(os.environ.get('LOCAL_RANK', 0)) % torch.cuda.device_count()}"  # of several processes, one each
    try:
        resolved = torch.device(device)
    except RuntimeError as error:
        raise UserError(f"unknown device '{device}'; use auto, cpu or cuda") from error
    if resolved.type == "cuda":
        if not torch.cuda.is_available():
            raise UserError("device 'cuda' asked for, but no GPU is visible; use --device cpu or auto")
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    return resolved


def _load_folder(folder: Path, name: str | None, device: torch.device, resize: str, precision: str) -> ImageTextModel:
    for file in ("model.safetensors", "open_clip_config.json"):
        if not (folder / file).is_file():
            raise UserError(
                f"{folder / file} is missing; a checkpoint folder holds model.safetensors and open_clip_config.json"
            )
    try:
        config = hf_text.located(json.loads((folder / "open_clip_config.json").read_text()), folder)
        weights = load_file(folder / "model.safetensors")
        clip = build(config["model_cfg"])
        clip.load_state_dict({key: value.float() for key, value in weights.items()})
    except Exception as error:
        raise UserError(f"damaged checkpoint {folder}: {reason(error)}; write it again or fetch it again") from error
    metadata = json.loads((folder / "mmcoa.json").read_text()) if (folder / "mmcoa.json").is_file() else {}
    tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")
    called: str = name or metadata.get("name") or folder.name
    model = ImageTextModel(clip, tokenizer, called, config, resize, metadata, precision)
    model.folder = None if name else folder.resolve()
    return model.to(device).eval()


def _is_foreign(folder: Path) -> bool:
    """Whether a folder holds weights, but is none of our checkpoints."""
    ours = all((folder / file).is_file() for file in ("model.safetensors", "open_clip_config.json"))
    return not ours and bool(paths.folder_files(folder))


def create_model(folder: str | Path, seed: int = 0, name: str | None = None) -> ImageTextModel:
    """An untrained model of the configuration and tokenizer in `folder`, weights drawn with `seed`."""
    folder = Path(folder)
    config = hf_text.located(json.loads((folder / "open_clip_config.json").read_text()), folder)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        clip = build(config["model_cfg"])
    tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")
    return ImageTextModel(clip, tokenizer, name or folder.name, config)
