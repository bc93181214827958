"""Anyone's checkpoint: a model from a file or folder, whatever program wrote it.

    PATH            architecture from the folder's configuration, or the one of open_clip whose shapes the file has
    PATH@ARCH       of that architecture (`ViT-B-32`)
    PATH@ARCH/TAG   and with what the published weights TAG expect; they also give the tower that the file lacks
    PATH@OTHER      the same of another model: a path, an embedded one, a hub name

One string, so that profiles, notebooks and a checkpoint's `base_model` can say it; `--arch` is its second part. The activation
(GELU or QuickGELU) is not in the weights: it is decided by where they come from, and said.
"""

import json
import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import open_clip
from open_clip.transform import PreprocessCfg, merge_preprocess_dict

from mmcoa.errors import UserError, is_network, reason
from mmcoa.model import architectures, transformers_folder
from mmcoa.model.build import build
from mmcoa.model.clip import ImageTextModel
from mmcoa.model.fitting import fit
from mmcoa.model.paths import called, folder_files, parted
from mmcoa.model.weights_file import Weights, read_all

messages = logging.getLogger(__name__)
CONFIG = "open_clip_config.json"
GUESSED = "the file does not say"


@dataclass
class Design:
    """What a model is besides its weights. `rest`: the model that gives what the file lacks; None where nobody does."""

    model_cfg: dict
    preprocess_cfg: dict
    tokenizer: Any
    rest: Callable[[], ImageTextModel] | None = None
    notes: list = field(default_factory=list)


def load_path(name: str, load: Callable[[str], ImageTextModel], resize: str, precision: str) -> ImageTextModel:
    """`ImageTextModel` of `PATH` or `PATH@ARCH` on the CPU; `load`: name -> model, for the rest that ARCH may name."""
    path, arch = parted(name)
    home = path if path.is_dir() else path.parent
    weights = read_all(folder_files(path) if path.is_dir() else [path])
    design = _design(path, home, weights, arch, load)
    if _halved(weights) and design.rest is None:
        raise _one_tower(path, weights, arch)
    clip = build(design.model_cfg)
    rest = design.rest().clip.state_dict() if _halved(weights) else None
    notes = [*design.notes, *fit(clip, weights.state, str(path), rest)]
    config = {"model_cfg": design.model_cfg, "preprocess_cfg": {**design.preprocess_cfg, "size": clip.visual.image_size}}
    notes.append(f"activation {'QuickGELU' if design.model_cfg.get('quick_gelu') else 'GELU'}{_why(weights, design, arch)}")
    for note in notes:
        messages.warning("%s: %s", path.name, note)
    metadata = json.loads((home / "mmcoa.json").read_text()) if path.is_dir() and (home / "mmcoa.json").is_file() else {}
    model = ImageTextModel(clip, design.tokenizer, metadata.get("name") or called(path), config, resize, metadata, precision)
    model.source, model.read_as = _absolute(path, arch), config
    model.assumed = [note for note in notes if GUESSED in note or "mean and std are taken" in note]
    return model.eval()


def _design(path, home, weights, arch, load):
    """The `Design` that ARCH names, or that of the weights' own configuration, or of the architecture with their shapes."""
    if arch is None:
        if _halved(weights):
            raise _one_tower(path, weights, arch)
        if path.is_dir() and (home / CONFIG).is_file():
            return _of_config(home)
        if (path.is_dir() or weights.transformers) and (home / "config.json").is_file():
            return Design(*transformers_folder.design(home))
        try:
            name = architectures.guess(weights)
        except UserError:
            if (model_cfg := architectures.of_openai(weights)) is None:
                raise
            preprocess = architectures.expected("ViT-B-32", "openai")[1]
            tokenizer = open_clip.tokenizer.SimpleTokenizer(context_length=model_cfg["text_cfg"]["context_length"])
            return Design(model_cfg, preprocess, tokenizer, None, ["sizes as OpenAI's format has them, with heads of 64"])
        design = _of_registry(name, None, weights)
        design.notes.insert(0, f"architecture {name}, by the shapes of its tensors")
        return design
    if known := architectures.registered(arch):
        design = _of_registry(*known, weights)
        if known[1] is not None:
            design.rest = lambda: load(arch)
        return design
    folder = Path(arch)
    if folder.is_dir() and (folder / CONFIG).is_file() and not folder_files(folder):
        return _of_config(folder)
    other = load(arch)
    return Design(other.config["model_cfg"], other.config["preprocess_cfg"], other.tokenizer, lambda: other)


def _of_registry(architecture, tag, weights):
    model_cfg, preprocess, notes = architectures.expected(architecture, tag)
    if weights.openai:
        model_cfg["quick_gelu"] = True
    try:
        tokenizer = open_clip.get_tokenizer(architecture)
    except Exception as error:
        asked = "; is there a network?" if is_network(error) else ""
        raise UserError(f"the tokenizer of {architecture} is not on this machine: {reason(error)}{asked}") from error
    return Design(model_cfg, preprocess, tokenizer, None, notes)


def _of_config(folder):
    """Of a folder with open_clip's configuration, as hubs keep it."""
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf8"))
        preprocess = merge_preprocess_dict(asdict(PreprocessCfg()), config.get("preprocess_cfg", {}))
        return Design(config["model_cfg"], preprocess, open_clip.get_tokenizer(f"local-dir:{folder}"))
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{folder / CONFIG} is no configuration of open_clip: {error}") from error


def _halved(weights: Weights):
    """Whether a file holds one tower alone."""
    image = [name for name in weights.state if name.startswith("visual.")]
    return not image or all(name.startswith(("visual.", "logit_")) for name in weights.state)


def _one_tower(path, weights, arch):
    """The `UserError` for a file of one tower, where nothing gives the other."""
    image = any(name.startswith("visual.") for name in weights.state)
    like = architectures.towers_like({name: tuple(value.shape) for name, value in weights.state.items()}) if image else []
    fits = f" (it fits {', '.join(like[:4])})" if like else ""
    has, lacks = ("the image tower", "text") if image else ("no image tower", "image")
    given = f"'{arch}' names no weights; say" if arch else "say where it comes from:"
    return UserError(
        f"{path} holds {has}{' alone' if image else ''}{fits}, and the {lacks} tower would be random; {given} --arch ARCH/TAG "
        f"of open_clip, such as {like[0] if like else 'ViT-B-32'}/openai, or the path of a whole model"
    )


def _why(weights, design, arch):
    """Where the activation comes from, in words."""
    if weights.openai:
        return ", as OpenAI's own files need it"
    known = architectures.registered(arch) if arch else None
    if known and known[1]:
        return f", that of {arch}"
    if arch and not known:
        return f", that of {arch}"
    if arch is None and not any("by the shapes" in note for note in design.notes):
        return ", as its configuration says"
    if design.model_cfg.get("quick_gelu"):
        return ", that of this architecture"
    return (
        f", open_clip's for this architecture: {GUESSED}. Weights that go back to OpenAI's need QuickGELU: then say "
        "--arch ARCH/openai"
    )


def _absolute(path, arch):
    """`PATH@ARCH` that holds in any working directory."""
    if arch is None:
        return str(path.resolve())
    return f"{path.resolve()}@{Path(arch).resolve() if Path(arch).exists() else arch}"
