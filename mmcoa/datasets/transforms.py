"""From a decoded picture to uint8 pixels of one size: the presets `reference` and `openclip`.

A data set whose pictures have one native size keeps it under both: the resize to the model's input lies inside the model, and
an attack's epsilon counts in native pixels. Where sizes vary, `reference` is what the paper's public code does, Resize(256) and
CenterCrop(224); `openclip` is the model's own transform: a resize straight to its input, as its configuration says (CLIP's:
bicubic, and a centre crop).
"""

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as F

from mmcoa.errors import UserError, unknown

PRESETS = ("reference", "openclip")
_INTERPOLATION = {"bilinear": InterpolationMode.BILINEAR, "bicubic": InterpolationMode.BICUBIC}


@dataclass(frozen=True)
class Transform:
    """Shorter side to `resize` pixels, then the central `crop` x `crop`; pictures that have this size stay as they are.

    mode: open_clip's `resize_mode`: `shortest` as above; `longest`: the longer side, and a black border; `squash`: both sides.
    """

    resize: int
    crop: int
    interpolation: str = "bicubic"
    mode: str = "shortest"

    def __str__(self):
        if self.mode != "shortest":
            return f"{self.mode} to {self.crop} {self.interpolation}"
        return f"resize {self.resize} {self.interpolation}, crop {self.crop}"

    def __call__(self, picture):
        """PIL picture -> uint8 [crop, crop, 3]."""
        picture = to_rgb(picture)
        if picture.size != (self.crop, self.crop) or self.resize != self.crop:
            picture = F.resize(picture, self._size(picture), _INTERPOLATION[self.interpolation])
            picture = F.center_crop(picture, self.crop)  # fills with black where it is smaller
        return np.asarray(picture)

    def _size(self, picture):
        if self.mode == "shortest":
            return self.resize
        scale = self.resize / max(picture.size)
        width, height = (self.resize if self.mode == "squash" else max(1, round(scale * side)) for side in picture.size)
        return [height, width]


def to_rgb(picture):
    """RGB as PIL converts grey, palette and CMYK pictures; an alpha channel is dropped, 16-bit grey is scaled to 8 bits."""
    if picture.mode.startswith("I;16") or picture.mode == "I":
        picture = Image.fromarray((np.asarray(picture).astype(np.uint32) >> 8).clip(0, 255).astype(np.uint8))
    return picture if picture.mode == "RGB" else picture.convert("RGB")


def choose(preset, native, image_size=None, interpolation="bicubic", resize_mode="shortest"):
    """The `Transform` of a preset for pictures of `native` size (None: it varies).

    image_size, interpolation, resize_mode: of the model's input, which `openclip` resizes to. Raises `UserError` for an unknown
    preset or a missing size.
    """
    if preset not in PRESETS:
        raise unknown("transform preset", preset, PRESETS)
    if native is not None:
        return Transform(native, native)
    if preset == "reference":
        return Transform(256, 224, "bilinear")  # torchvision's Resize interpolates bilinearly
    if image_size is None:
        raise UserError("the transform preset 'openclip' resizes to the model's input: its size is needed")
    return Transform(image_size, image_size, interpolation, resize_mode)


def as_tensor(pixels):
    """uint8 [N, H, W, 3] -> uint8 [N, 3, H, W]."""
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()
