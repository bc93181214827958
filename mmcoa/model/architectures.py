"""What open_clip knows of architectures: configuration, what published weights expect, and which one has a file's shapes."""

import copy
from dataclasses import asdict

import open_clip
import torch
from open_clip.transform import PreprocessCfg, merge_preprocess_dict

from mmcoa.errors import UserError, unknown
from mmcoa.model.build import build

SHOWN = 6  # names that a message lists


def registered(name):
    """(architecture, tag) of `ARCH` or `ARCH/TAG` of open_clip, tag None for the former; None for anything else.

    Raises `UserError` for an architecture's tag that does not exist.
    """
    architecture, _, tag = name.partition("/")
    if architecture not in open_clip.list_models():
        return None
    tags = open_clip.list_pretrained_tags_by_model(architecture)
    if tag and tag not in tags:
        raise unknown("model", name, [f"{architecture}/{one}" for one in tags])
    return architecture, tag or None


def expected(architecture, tag=None):
    """(model_cfg, preprocess_cfg, notes) of an architecture, or of its published weights `tag`.

    Without a tag mean and std are those of all its published weights; where these differ, OpenAI's, and a note says so.
    """
    model_cfg, preprocess, notes = open_clip.get_model_config(architecture), asdict(PreprocessCfg()), []
    if tag is not None:
        stated = open_clip.get_pretrained_cfg(architecture, tag)
        if stated.get("quick_gelu"):
            model_cfg["quick_gelu"] = True
        return model_cfg, merge_preprocess_dict(preprocess, stated), notes
    tags = open_clip.list_pretrained_tags_by_model(architecture)
    found = [merge_preprocess_dict(preprocess, open_clip.get_pretrained_cfg(architecture, one)) for one in tags]
    if len({(tuple(one["mean"]), tuple(one["std"])) for one in found}) == 1:
        preprocess = found[0]
    elif found:
        notes.append(
            f"mean and std are taken to be OpenAI's; published weights of {architecture} differ in them: for others say "
            f"--arch {architecture}/TAG"
        )
    return model_cfg, preprocess, notes


def guess(weights):
    """The architecture of open_clip that has just these shapes; `UserError` where there is none or more than one.

    Variants that differ in the activation alone count as one, named without `-quickgelu`: shapes do not tell them apart.
    """
    shapes = {name: tuple(value.shape) for name, value in plain_names(weights.state).items()}
    found = [name for name in open_clip.list_models() if _fits(open_clip.get_model_config(name), shapes)]
    told = {}
    for name in found:
        model_cfg = open_clip.get_model_config(name)
        told.setdefault(str(sorted((key, value) for key, value in model_cfg.items() if key != "quick_gelu")), []).append(name)
    if len(told) == 1:
        (names,) = told.values()
        return min(names, key=len)
    if not told:
        raise UserError(f"no architecture of open_clip has the shapes of these weights ({described(shapes)}); say --arch")
    raise UserError(f"these weights fit more than one architecture; say --arch with one of: {', '.join(found[:SHOWN])}")


def of_openai(weights):
    """model_cfg of a file in OpenAI's own format, whose shapes say all where the image tower is a ViT; None for another.

    All of its towers have heads of 64 (Radford et al. 2021), which shapes do not tell.
    """
    shapes = {name: tuple(value.shape) for name, value in plain_names(weights.state).items()}
    if not weights.openai or "visual.class_embedding" not in shapes:
        return None
    width, _, patch, _ = shapes["visual.conv1.weight"]
    side = round((shapes["visual.positional_embedding"][0] - 1) ** 0.5) * patch
    vision = {"image_size": side, "layers": _blocks(shapes, "visual."), "width": width, "head_width": 64, "patch_size": patch}
    vocabulary, words = shapes["token_embedding.weight"]
    text = {"context_length": shapes["positional_embedding"][0], "vocab_size": vocabulary}
    text |= {"width": words, "heads": words // 64, "layers": _blocks(shapes, "")}
    return {"embed_dim": shapes["text_projection"][1], "quick_gelu": True, "vision_cfg": vision, "text_cfg": text}


def towers_like(shapes):
    """Names of architectures whose image tower has just these shapes, to advise with."""
    found = []
    for name in open_clip.list_models():
        model_cfg = open_clip.get_model_config(name)
        if _cheap(model_cfg, shapes, text=False) and _visual(_shapes(model_cfg)) == _visual(shapes):
            found.append(name)
    return found


def plain_names(state):
    """Names of open_clip's `CLIP`: a text tower that stands apart (`text.`) is named as one that does not."""
    return {name.removeprefix("text."): value for name, value in state.items()}


def described(shapes):
    """The sizes of an image tower in words, as far as they can be read from {name: shape}."""
    if "visual.conv1.weight" in shapes and "visual.class_embedding" in shapes:
        width, _, patch, _ = shapes["visual.conv1.weight"]
        return f"a ViT of width {width}, {_blocks(shapes, 'visual.')} blocks, patches of {patch} px"
    return f"{len(shapes)} tensors, the first {next(iter(shapes), 'none')}"


def _fits(model_cfg, shapes):
    """Whether a model of this configuration has tensors of just these names and shapes, further ones of the file left out."""
    if not _cheap(model_cfg, shapes):
        return False
    own = _shapes(model_cfg)
    return bool(own) and all(shapes.get(name) == shape for name, shape in own.items() if name != "logit_bias")


def _cheap(model_cfg, shapes, text=True):
    """What is seen without building: kind and sizes of the towers."""
    vision, words = model_cfg["vision_cfg"], model_cfg["text_cfg"]
    if "hf_model_name" in words or ("timm_model_name" in vision) != any(name.startswith("visual.trunk.") for name in shapes):
        return False
    if "timm_model_name" not in vision:
        first = shapes.get("visual.conv1.weight", (0, 0, 0))
        resnet, layers = not isinstance(vision["layers"], int), vision["layers"]
        if resnet != ("visual.layer1.0.conv1.weight" in shapes):
            return False
        if not resnet and ((vision["width"], vision["patch_size"]) != first[::2] or layers != _blocks(shapes, "visual.")):
            return False
    if not text:
        return True
    embedding, layers = shapes.get("token_embedding.weight"), words.get("layers", 12)
    width, vocabulary = words.get("width", 512), words.get("vocab_size", 49408)
    return embedding == (vocabulary, width) and layers == _blocks(shapes, "")


def _blocks(shapes, tower):
    start = f"{tower}transformer.resblocks."
    return len({name[len(start) :].partition(".")[0] for name in shapes if name.startswith(start)})


def _shapes(model_cfg):
    """{name: shape} of a model of this configuration; empty where it cannot be built here."""
    try:
        with torch.device("meta"):
            clip = build(copy.deepcopy(model_cfg))
    except Exception:  # a tower that this version of timm lacks, or whose configuration lies on the hub
        return {}
    return {name: tuple(value.shape) for name, value in plain_names(clip.state_dict()).items()}


def _visual(shapes):
    return {name: shape for name, shape in shapes.items() if name.startswith("visual.")}
