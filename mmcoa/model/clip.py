"""CLIP as a differentiable map from pixels in [0,1] and strings to unit embeddings.

Resize and normalisation live inside the model, so that an attack's epsilon is in pixel units of [0,1] whatever the model.
Architectures and weights come from open_clip; a checkpoint written here loads there (`local-dir:DIR`) without our code.
"""

import contextlib
import functools
import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import nn

from mmcoa.errors import UserError, unknown
from mmcoa.model import hf_text, others, towers
from mmcoa.model.folded import folded, learning

# Anti-aliased or not. `openclip` agrees with open_clip's own PIL transform; `reference` is what the paper's public code does.
RESIZE = {"openclip": True, "reference": False}
RESIZE_MODES = ("shortest", "longest", "squash")  # shorter side, then crop; longer side, then fill; both sides
DTYPES = {"fp32": None, "bf16": torch.bfloat16}  # None: that of the weights
PRECISIONS = tuple(DTYPES)


def check_pixels(images: torch.Tensor) -> None:
    """Raise `UserError` unless `images` is a float tensor [N, 3, H, W] with values in [0, 1]."""
    if images.ndim != 4 or images.shape[1] != 3 or not images.is_floating_point():
        raise UserError(f"images must be float [N, 3, H, W], got {images.dtype} {tuple(images.shape)}")
    if len(images) and not (images.min() >= 0 and images.max() <= 1):
        low, high = images.min().item(), images.max().item()
        raise UserError(f"images must lie in [0, 1], got values from {low:.3g} to {high:.3g}; divide 8-bit pixels by 255")


class ImageTextModel(nn.Module):
    """An open_clip model behind two functions: pixels -> embedding, strings -> embedding.

    Arguments:
        clip: open_clip model with `encode_image`, `encode_text`, `logit_scale`.
        tokenizer: open_clip tokenizer, list of strings -> int64 [C, L].
        name: what the results call this model.
        config: {"model_cfg": open_clip's architecture, "preprocess_cfg": its `size`, `mean`, `std`, `interpolation` (default:
            bicubic), `resize_mode` of pictures that are not square (default: shortest)}.
        resize: `openclip` (anti-aliased, with the configuration's interpolation) or `reference` (plain bicubic).
        metadata: what a checkpoint's mmcoa.json says (defence, training, defaults).
        precision: `bf16` computes the image tower in bf16 (training: both towers), open_clip's own transformers with a copy of
            their weights, others under autocast; outputs are float32; never float16, whose small gradients vanish.
    """

    folder: Path | None
    assumed: list[str]
    mean: torch.Tensor
    std: torch.Tensor

    def __init__(
        self,
        clip: Any,
        tokenizer: Any,
        name: str,
        config: dict[str, Any],
        resize: str = "openclip",
        metadata: dict[str, Any] | None = None,
        precision: str = "fp32",
    ) -> None:
        super().__init__()
        if resize not in RESIZE:
            raise unknown("resize preset", resize, RESIZE)
        if precision not in PRECISIONS:
            raise unknown("precision", precision, PRECISIONS)
        self.clip, self.tokenizer, self.name, self.resize, self.precision = clip, tokenizer, name, resize, precision
        self.precision_note = ""  # why this precision, where `auto` chose it
        self.fixed_towers = None  # {precision: image encoder} within `fixed`
        self.text_precision = "fp32"  # training in bf16 sets it; an evaluation keeps its prompts exact
        self.config, self.metadata = config, metadata or {}
        self.folder = None  # of a checkpoint: where it lies, an absolute path
        self.assumed = []  # of a model by path: what of its reading was guessed, as sentences
        self.source, self.read_as = "", {}  # of a model by path (by_path.py): where it lies, and the configuration chosen
        preprocess = config["preprocess_cfg"]
        size = preprocess["size"]
        self.image_size = (size, size) if isinstance(size, int) else tuple(size)[-2:]
        self.interpolation = "bilinear" if preprocess.get("interpolation") == "bilinear" else "bicubic"  # `random`: in training
        self.resize_mode = preprocess.get("resize_mode") or "shortest"
        if self.resize_mode not in RESIZE_MODES:
            raise unknown("resize_mode in the model's preprocess_cfg", self.resize_mode, RESIZE_MODES)
        self.fill_color = preprocess.get("fill_color") or 0
        for key in ("mean", "std"):
            self.register_buffer(key, torch.tensor(preprocess[key]).view(1, 3, 1, 1), persistent=False)

    @property
    def device(self) -> torch.device:
        """Where its weights are."""
        return self.mean.device

    @property
    def scale(self) -> torch.Tensor:
        """exp(logit_scale), a scalar tensor."""
        return self.clip.logit_scale.exp()

    @property
    def bias(self) -> torch.Tensor | None:
        """SigLIP's logit bias, a scalar tensor; None of a model without one."""
        return getattr(self.clip, "logit_bias", None)

    def resized(self, pixels: torch.Tensor) -> torch.Tensor:
        """Pixels [N, 3, H, W] at the model's input size, still in [0, 1] (bicubic overshoot is cut)."""
        if tuple(pixels.shape[-2:]) == self.image_size:
            return pixels
        antialias = RESIZE[self.resize]
        mode = self.interpolation if self.resize == "openclip" else "bicubic"
        size = inner_size((pixels.shape[-2], pixels.shape[-1]), self.image_size, self.resize_mode)
        resized = F.interpolate(pixels, size=size, mode=mode, align_corners=False, antialias=antialias).clamp(0, 1)
        return resized if size == self.image_size else fitted(resized, self.image_size, self.fill_color / 255)

    @property
    def picture_input(self) -> dict[str, Any]:
        """Keyword arguments of `load_dataset` for what the preset `openclip` brings pictures to."""
        return {"image_size": self.image_size[0], "interpolation": self.interpolation, "resize_mode": self.resize_mode}

    def encode_image(self, pixels: torch.Tensor) -> torch.Tensor:
        """Pixels float [N, 3, H, W] in [0, 1] -> unit embeddings [N, D], differentiable. Raises `UserError` off range."""
        if not pixels.requires_grad:  # inside an attack the projection guarantees the range; do not check 10 times
            check_pixels(pixels)
        return F.normalize(self.encode_image_raw(pixels), dim=-1)

    def encode_image_raw(self, pixels: torch.Tensor) -> torch.Tensor:
        """Embeddings [N, D] before normalisation (what FARE compares)."""
        pixels = (self.resized(pixels) - self.mean) / self.std
        encode = self._image_encoder()
        if self.precision == "fp32":
            with others.faster(self.device):
                return encode(pixels)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=not towers.image_is_plain(self.clip.visual)):
            return encode(pixels).float()

    def _image_encoder(self):
        """Normalised pixels -> embeddings before normalisation, the fastest way that loses no gradient that is wanted."""
        visual = self.clip.visual
        if self.fixed_towers is not None:
            if self.precision not in self.fixed_towers:
                self.fixed_towers[self.precision] = self._fixed_encoder()
            return self.fixed_towers[self.precision]
        if towers.image_is_plain(visual):
            return functools.partial(towers.encode_image, visual, dtype=DTYPES[self.precision])
        wanted = torch.is_grad_enabled() and any(p.requires_grad for p in visual.parameters())
        return (learning(visual) if wanted else folded(visual)) or self.clip.encode_image

    @torch.no_grad()
    def _fixed_encoder(self):
        """The same for weights that stand still: they are read, cast and folded once."""
        visual = self.clip.visual
        if towers.image_is_plain(visual):
            return towers.ImageTower(visual, DTYPES[self.precision], detached=True)
        return folded(visual) or self.clip.encode_image

    @contextlib.contextmanager
    def fixed(self) -> Iterator[Self]:
        """Within: the image tower's weights stand still, and nobody asks for their gradients, as in an attack on pictures."""
        kept = self.fixed_towers
        if kept is None:
            self.fixed_towers = {}
        try:
            yield self
        finally:
            self.fixed_towers = kept

    @contextlib.contextmanager
    def exactly(self) -> Iterator[Self]:
        """Within: fp32, whatever the model's precision. What counts as broken is decided there."""
        kept, self.precision = self.precision, "fp32"
        try:
            yield self
        finally:
            self.precision = kept

    def encode_text(self, prompts: Sequence[str]) -> torch.Tensor:
        """List of C strings -> unit embeddings [C, D], differentiable in the weights."""
        if not len(prompts):
            raise UserError("empty list of prompts: a data set needs at least one class")
        return self.encode_tokens(self.tokenizer(list(prompts)).to(self.device))

    def encode_text_raw(self, prompts: Sequence[str]) -> torch.Tensor:
        """Embeddings [C, D] before normalisation (what LEAF compares)."""
        return self._embed(self.tokenizer(list(prompts)).to(self.device))

    def encode_tokens(self, tokens: torch.Tensor) -> torch.Tensor:
        """Token ids int64 [C, L] -> unit embeddings [C, D]."""
        return F.normalize(self._embed(tokens), dim=-1)

    def _embed(self, tokens: torch.Tensor) -> torch.Tensor:
        """Token ids int64 [C, L] -> embeddings [C, D] in the text tower's precision."""
        if hf_text.is_hf(self.clip):
            tokens = hf_text.without_padding(self.clip, tokens)
        plain = towers.text_is_plain(self.clip)
        encode = functools.partial(towers.encode_text, self.clip, dtype=DTYPES[self.text_precision])
        encode = encode if plain else self.clip.encode_text
        if self.text_precision == "fp32":
            with others.faster(self.device):
                return encode(tokens)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=not plain):
            return encode(tokens).float()

    def logits(self, pixels: torch.Tensor, text_features: torch.Tensor) -> torch.Tensor:
        """Pixels [N, 3, H, W], unit text embeddings [C, D] -> logits [N, C] = s <f(x), g(t)> + b; b: 0 without a logit bias."""
        return self.compare(self.encode_image(pixels), text_features)

    def compare(self, image_features: torch.Tensor, text_features: torch.Tensor) -> torch.Tensor:
        """The same from unit image embeddings [N, D]."""
        logits = self.scale * image_features @ text_features.T
        return logits if self.bias is None else logits + self.bias

    @torch.no_grad()
    def fingerprint(self) -> str:
        """First 16 hex digits of a hash over the weights: equal weights, equal fingerprint.

        Of a model by path also over what was chosen to read them: activation, mean and std are not in the weights.
        """
        digest = hashlib.sha256(json.dumps(self.read_as, sort_keys=True, default=str).encode() if self.read_as else b"")
        for key, value in sorted(plain_state(self.clip).items()):
            digest.update(key.encode())
            digest.update(value.detach().float().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]


def inner_size(shape: tuple[int, int], wanted: tuple[int, int], mode: str) -> tuple[int, int]:
    """Height and width that a picture of `shape` is resized to before it is cut or filled to `wanted`."""
    if mode == "squash":
        return wanted
    choose = max if mode == "shortest" else min
    scale = choose(want / have for want, have in zip(wanted, shape, strict=True))
    height, width = (max(1, round(scale * have)) for have in shape)
    return height, width


def fitted(pixels: torch.Tensor, wanted: tuple[int, int], fill: float) -> torch.Tensor:
    """The middle of pixels [N, 3, H, W] at another size: cut where it is larger, with a border of `fill` where smaller."""
    for dim, want in ((-2, wanted[0]), (-1, wanted[1])):
        have = pixels.shape[dim]
        if have > want:
            pixels = pixels.narrow(dim, round((have - want) / 2), want)
        elif have < want:
            before = (want - have) // 2
            sides = (before, want - have - before)
            pixels = F.pad(pixels, sides if dim == -1 else (0, 0, *sides), value=fill)
    return pixels


def image_parameters(model: ImageTextModel) -> list[nn.Parameter]:
    """Parameters of the image tower."""
    return list(model.clip.visual.parameters())


def text_parameters(model: ImageTextModel) -> list[nn.Parameter]:
    """Parameters of the text tower, logit scale left out."""
    visual = {id(p) for p in model.clip.visual.parameters()}
    return [p for name, p in model.clip.named_parameters() if id(p) not in visual and name not in ("logit_scale", "logit_bias")]


@torch.no_grad()
def plain_state(clip: nn.Module) -> dict[str, torch.Tensor]:
    """State dict of the plain model: low-rank changes (trainable.py) added to their matrices."""
    state = {}
    for key, value in clip.state_dict().items():
        path, parametrized, rest = key.partition(".parametrizations.")
        if not parametrized:
            state[key] = value.detach()
        elif rest.endswith(".original"):
            name = rest.removesuffix(".original")
            state[f"{path}.{name}"] = getattr(clip.get_submodule(path), name).detach()
    return state


def check_prompts(model: ImageTextModel, prompts: Sequence[str]) -> None:
    """`UserError` where a prompt does not fit the model's context: the tokenizer would cut it, and its end would not count.

    Whatever the tokenizer: with more room a prompt that was not cut gets the same tokens, and padding behind them.
    """
    tokens = model.tokenizer(list(prompts))
    length = tokens.shape[1]
    padding = model.tokenizer(["a"], context_length=4 * length)[0, -1]
    full = (tokens[:, -2:] != padding).any(dim=1)  # two: where padding is the end token, this one always stands last
    for index in full.nonzero()[:, 0].tolist():
        roomy = model.tokenizer([prompts[index]], context_length=4 * length)[0]
        if not torch.equal(roomy[:length], tokens[index]) or (roomy[length:] != padding).any():
            needed = max(int((roomy != padding).nonzero().max()) + 1, length + 1)
            raise UserError(
                f"prompt of {needed} tokens, more than the {length} of '{model.name}': '{prompts[index][:60]}...'; shorten it"
            )


def token_counts(model: "ImageTextModel", tokens: torch.Tensor) -> torch.Tensor:
    """Tokens of each prompt, the end token counted, int64 [C]: CLIP's end token has the largest id."""
    if hf_text.is_hf(model.clip):
        return (tokens != model.clip.text.config.pad_token_id).sum(dim=1)
    return tokens.argmax(dim=1) + 1
