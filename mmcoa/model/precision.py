"""Which precision a search is faster in: measured once for a processor and an image tower, kept in the user's cache.

bf16 is several times faster where matrix products of bf16 have units of their own (AMX, a GPU's tensor cores), and slower where
they are emulated. Small towers stay in fp32: there is little to gain, and their numbers are the same on every machine.
"""

import platform
import re
import time
from pathlib import Path

import torch

from mmcoa.cache import cached

LARGE = 20_000_000  # weights of an image tower from which bf16 is tried
GAINS = 1.5  # times faster, from which it is taken
BATCH, TURNS = 8, 3


def automatic(model):
    """(`fp32` or `bf16`, why in words) for the image tower of an `ImageTextModel` in fp32."""
    weights = sum(parameter.numel() for parameter in model.clip.visual.parameters())
    if weights < LARGE:
        return "fp32", f"image tower of {weights / 1e6:.0f} million weights, tried in bf16 from {LARGE / 1e6:.0f} on"
    config = model.config["model_cfg"]
    key = {"processor": processor(model.device), "torch": torch.__version__, "threads": torch.get_num_threads()}
    key |= {
        "tower": config.get("vision_cfg"),
        "quick_gelu": config.get("quick_gelu"),
        "rule": [BATCH, TURNS, "fp32 by onednn.py with AVX-512"],
    }
    ratio = cached("precision", key, lambda: round(gain(model), 2))
    return "bf16" if ratio >= GAINS else "fp32", f"bf16 is {ratio:.1f} times as fast as fp32 here, taken from {GAINS} on"


def gain(model):
    """Seconds of a search step in fp32 over those in bf16, the shortest of some in turn; leaves the model as it was."""
    pixels = torch.rand(BATCH, 3, *model.image_size, generator=torch.Generator().manual_seed(0)).to(model.device)
    times, kept = {"fp32": [], "bf16": []}, model.precision
    try:
        with model.fixed(), torch.enable_grad():
            for turn in range(TURNS + 1):  # the first reads and casts the weights
                for model.precision in times:
                    seconds = _timed(model, pixels)
                    times[model.precision] += [seconds] if turn else []
    finally:
        model.precision = kept
    return min(times["fp32"]) / min(times["bf16"])


def _timed(model, pixels):
    """Seconds of one gradient with respect to pixels."""
    pixels = pixels.clone().requires_grad_()
    began = time.perf_counter()
    (gradient,) = torch.autograd.grad(model.encode_image(pixels).square().sum(), pixels)
    gradient.sum().item()  # waits for a GPU
    return time.perf_counter() - began


def processor(device):
    """Name of what computes."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    cpuinfo = Path("/proc/cpuinfo")
    text = cpuinfo.read_text() if cpuinfo.is_file() else ""
    named = [found[1] for what in ("model name", "flags") if (found := re.search(rf"^{what}\s*:\s*(.+)$", text, re.M))]
    return " ".join(named) or platform.processor() or platform.machine()
