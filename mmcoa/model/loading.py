"""CLIP models by name, and checkpoints on disk.

Architectures and weights come from open_clip; a checkpoint written here loads there (`local-dir:DIR`) without our code.
"""

import json
import os
import tempfile
from pathlib import Path

import open_clip
import torch
from safetensors.torch import load_file, save_file

from mmcoa.errors import UserError, unknown
from mmcoa.model import hf_text, lite
from mmcoa.model.clip import ImageTextModel, plain_state
from mmcoa.model.embedded import embedded_folder, embedded_names


def load_model(name, device="cpu", resize="openclip", precision="fp32"):
    """Load a model by name.

    Arguments:
        name: an embedded model, such as `openmoji-clip`; `lite-clip` (extra `lite`; built at first use); a checkpoint folder;
            `ARCH/PRETRAINED` of open_clip, such as `ViT-B-32/openai`; or `hf-hub:OWNER/NAME`.
        device: `cpu`, `cuda`, ... or `auto`.
        resize, precision: see `ImageTextModel`.

    Returns an `ImageTextModel` in evaluation mode. Raises `UserError` for an unknown name, a missing or damaged file, or
    when open_clip would go on with random weights.
    """
    device = resolve_device(device)
    if name in embedded_names():
        return _load_folder(embedded_folder(name), name, device, resize, precision)
    if name == lite.NAME:
        return _load_folder(_lite_folder(), name, device, resize, precision)
    if Path(name).is_dir():
        return _load_folder(Path(name), None, device, resize, precision)
    architecture, _, pretrained = name.rpartition("/")
    if name.startswith("hf-hub:"):
        architecture, pretrained = name, None
    elif architecture not in open_clip.list_models():
        known = [*embedded_names(), lite.NAME, *(f"{a}/{t}" for a, t in open_clip.list_pretrained())]
        if "/" in name and Path(name).parent.is_dir():
            raise UserError(f"no checkpoint folder '{name}' (expected model.safetensors and open_clip_config.json in it)")
        raise unknown("model", name, known)
    elif not Path(pretrained).is_file() and pretrained not in open_clip.list_pretrained_tags_by_model(architecture):
        raise unknown("model", name, [f"{architecture}/{t}" for t in open_clip.list_pretrained_tags_by_model(architecture)])
    tag = open_clip.get_pretrained_cfg(architecture, pretrained) if pretrained else {}
    quick_gelu = bool(tag and tag.get("quick_gelu"))  # OpenAI's weights need QuickGELU (trap E5)
    try:
        clip = open_clip.create_model(
            architecture,
            pretrained=pretrained,
            require_pretrained=True,  # open_clip goes on with random weights and a warning otherwise (trap E6)
            force_quick_gelu=quick_gelu,
        )
        tokenizer = open_clip.get_tokenizer(architecture)
    except Exception as error:
        raise UserError(f"cannot load weights of '{name}' ({str(error).splitlines()[0][:120]}); is there a network?") from error
    model_cfg = open_clip.get_model_config(architecture)
    model_cfg |= {"quick_gelu": True} if quick_gelu else {}
    config = {"model_cfg": model_cfg, "preprocess_cfg": clip.visual.preprocess_cfg}
    return ImageTextModel(clip, tokenizer, name, config, resize, precision=precision).to(device).eval()


def _lite_folder():
    """Folder of `lite-clip`, built at first use."""
    from mmcoa.console import progress_bar
    from mmcoa.model.lite.build import lite_folder

    with progress_bar(f"building {lite.NAME} (once, some minutes), percent", 100) as advance:
        return lite_folder(progress=lambda done, total: advance(100 * done // total))


def frozen_model(model):
    """The model before fine-tuning, whose token embedding gives `neighbours`; the model itself where it has no base."""
    base = model.metadata.get("base_model")
    if not base or base == model.name:
        return model
    try:
        return load_model(base, model.device)
    except UserError:
        return model


def resolve_device(device):
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


def _load_folder(folder, name, device, resize, precision):
    for file in ("model.safetensors", "open_clip_config.json"):
        if not (folder / file).is_file():
            raise UserError(
                f"{folder / file} is missing; a checkpoint folder holds model.safetensors and open_clip_config.json"
            )
    try:
        config = hf_text.located(json.loads((folder / "open_clip_config.json").read_text()), folder)
        weights = load_file(folder / "model.safetensors")
        clip = _build(config["model_cfg"])
        clip.load_state_dict({key: value.float() for key, value in weights.items()})
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:120]
        raise UserError(f"damaged checkpoint {folder}: {reason}; write it again or fetch it again") from error
    metadata = json.loads((folder / "mmcoa.json").read_text()) if (folder / "mmcoa.json").is_file() else {}
    tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")
    name = name or metadata.get("name") or folder.name
    return ImageTextModel(clip, tokenizer, name, config, resize, metadata, precision).to(device).eval()


def _build(model_cfg):
    """open_clip model of a `model_cfg`, random weights."""
    model_cfg = json.loads(json.dumps(model_cfg))
    custom = model_cfg.pop("custom_text", False) or "hf_model_name" in model_cfg["text_cfg"]
    clip = (open_clip.CustomTextCLIP if custom else open_clip.CLIP)(**model_cfg)
    if "timm_model_name" in model_cfg["vision_cfg"]:  # convolutions are faster so, and carry the layout on from their weights
        clip.visual.to(memory_format=torch.channels_last)
    return clip


def create_model(folder, seed=0, name=None):
    """An untrained model of the configuration and tokenizer in `folder`, weights drawn with `seed`."""
    folder = Path(folder)
    config = hf_text.located(json.loads((folder / "open_clip_config.json").read_text()), folder)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        clip = _build(config["model_cfg"])
    tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")
    return ImageTextModel(clip, tokenizer, name or folder.name, config)


def save_checkpoint(model, folder, metadata=None, dtype=torch.float32, final=None):
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
