"""Weights from a file of any origin: a state dict of tensors, read without running anything that the file says.

    weights = read("model_best.pth.tar")

.safetensors, and what torch.save wrote (.pt, .pth, .bin, .tar) as far as it holds tensors and plain values. The names that
wrappers put before all others are taken off; a training checkpoint's weights are found in it.
"""

import zipfile
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from mmcoa.errors import UserError
from mmcoa.model import transformers_names
from mmcoa.model.paths import stem

WRAPPERS = ("vision_encoder_state_dict", "state_dict", "model_state_dict", "model", "net", "module")  # the first: TeCoA's
PREFIXES = ("module.", "_orig_mod.", "model.", "clip_model.", "clip.", "net.")
OPENAI = ("input_resolution", "context_length", "vocab_size")  # numbers that OpenAI's own files carry beside the weights
CONVERT = (
    "import sys, torch; from safetensors.torch import save_file; "
    "s = torch.{load}; s = s if isinstance(s, dict) else s.state_dict(); "
    "s = s.get('vision_encoder_state_dict', s.get('state_dict', s)); "
    "save_file({{k: v.contiguous().clone() for k, v in s.items() if hasattr(v, 'clone')}}, sys.argv[2])"
)
LOAD = {
    "pickle": "load(sys.argv[1], map_location='cpu', weights_only=False)",
    "program": "jit.load(sys.argv[1], map_location='cpu')",
}


@dataclass(frozen=True)
class Weights:
    """A state dict by open_clip's names; `openai`: whether the file is OpenAI's own; `transformers`: whose names it had."""

    state: dict
    openai: bool = False
    transformers: bool = False


def read(path):
    """`Weights` of a file; `UserError` for one that is damaged, no weights, or can only be unpickled."""
    path = Path(path)
    _check_kind(path)
    found = _tensors(path)
    wrapped = next((found[name] for name in WRAPPERS if isinstance(found.get(name), dict) and _has_tensors(found[name])), found)
    state = {name: value for name, value in wrapped.items() if isinstance(value, torch.Tensor)}
    openai = all(name in wrapped for name in OPENAI)
    state = _unprefixed({name: value for name, value in state.items() if name not in OPENAI})
    if not state:
        raise UserError(f"{path} holds no tensors by name; a state dict is expected")
    transformers = transformers_names.is_transformers(state)
    if transformers:
        state = transformers_names.to_open_clip(state)
    return Weights(_named(state), openai, transformers)


def read_all(paths):
    """`Weights` of a file, or of one in several parts."""
    parts = [read(path) for path in paths]
    state = {name: value for part in parts for name, value in part.state.items()}
    return Weights(state, parts[0].openai, any(part.transformers for part in parts))


def _check_kind(path):
    """`UserError` for what is no file of weights at all, by its first bytes."""
    with path.open("rb") as file:
        head = file.read(200)
    what = (
        "is empty"
        if not head
        else "is a Git LFS pointer, not the weights (git lfs pull fetches them)"
        if head.startswith(b"version https://git-lfs")
        else "is a web page, not weights"
        if head.lstrip().lower().startswith((b"<!doctype", b"<html"))
        else ""
    )
    if what:
        raise UserError(f"{path} {what}; fetch the file again")


def _tensors(path):
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except (SafetensorError, OSError) as error:
            raise UserError(f"cannot read {path}: {_reason(error)}; half a download? Fetch the file again") from error
    if _is_program(path):
        raise _refusal(path, "is a TorchScript program, not plain weights", "program")
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        text = str(error)
        if "Unsupported" in text or "WeightsUnpickler" in text or "GLOBAL" in text:
            raise _refusal(path, f"must be unpickled, which runs whatever the file says ({_global(text)})", "pickle") from error
        raise UserError(f"cannot read {path}: {_reason(error)}; half a download? Fetch the file again") from error
    if not isinstance(found, dict):
        raise UserError(f"{path} holds a {type(found).__name__}, not a state dict")
    return found


def _is_program(path):
    """Whether torch.jit.save wrote the file, as OpenAI did."""
    if not zipfile.is_zipfile(path):
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith("/constants.pkl") for name in archive.namelist())
    except zipfile.BadZipFile:  # what torch says of it is told
        return False


def _refusal(path, what, kind):
    line = CONVERT.format(load=LOAD[kind])
    output = path.with_name(f"{stem(path)}.safetensors")
    return UserError(f'{path} {what}; if you trust it, convert it: python -c "{line}" {path} {output}')


def _global(text):
    """What a pickle asks for, from torch's message."""
    _, found, rest = text.partition("GLOBAL ")
    return rest.split(" ")[0] if found else "it holds more than tensors"


def _reason(error):
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]


def _has_tensors(value):
    return any(isinstance(one, torch.Tensor) for one in value.values())


def _unprefixed(state):
    """Without what stands before every name."""
    while prefix := next((one for one in PREFIXES if state and all(name.startswith(one) for name in state)), None):
        state = {name.removeprefix(prefix): value for name, value in state.items()}
    return state


def _named(state):
    """An image tower alone, as FARE and TeCoA publish it, gets the name that it has in the whole model."""
    bare = not any(name.startswith(("visual.", "text.", "token_embedding.", "text_projection")) for name in state)
    if bare and any(name.startswith(("conv1.", "class_embedding", "trunk.", "stem.")) for name in state):
        return {f"visual.{name}": value for name, value in state.items()}
    return state
