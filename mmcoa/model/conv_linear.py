"""A linear layer as a 1x1 convolution, where that is faster: on CPUs other than Intel's, wide layers, fp32.

torch computes `F.linear` with its BLAS and `F.conv2d` with oneDNN, whose kernels use more of a CPU's vector units than MKL does
on AMD's: 1.1 to 1.2 times faster for layers of 512 and more, equal to rounding (benchmarks/speed.py). Narrow layers
gain nothing, and on Intel's own processors MKL is the faster one.
"""

import functools
import platform
from pathlib import Path

import torch
import torch.nn.functional as F

WIDE = 512


def project(x, weight, bias):
    """x [..., K], weight [M, K], bias [M] or None -> x W^T + b, [..., M], the faster way."""
    return linear(x, weight, bias) if pays(x) else F.linear(x, weight, bias)


def pays(x):
    """Whether activations [..., K] should go through `linear`."""
    return (
        x.device.type == "cpu"
        and x.dtype == torch.float32
        and x.shape[-1] >= WIDE
        and torch.backends.mkldnn.is_available()
        and not torch.is_autocast_enabled("cpu")
        and not is_intel()
    )


@functools.cache
def is_intel():
    """Whether the processor is Intel's."""
    cpuinfo = Path("/proc/cpuinfo")
    return "GenuineIntel" in (cpuinfo.read_text() if cpuinfo.is_file() else platform.processor())


def linear(x, weight, bias):
    """x [..., K], weight [M, K], bias [M] or None -> x W^T + b, [..., M]: rows as pixels of one picture, K as its channels."""
    pixels = x.reshape(1, -1, 1, x.shape[-1]).permute(0, 3, 1, 2)  # a view: already channels last
    return F.conv2d(pixels, weight[:, :, None, None], bias).permute(0, 2, 3, 1).reshape(*x.shape[:-1], -1)
