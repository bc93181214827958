"""A linear layer as a 1x1 convolution, where that is faster: on CPUs, wide layers, fp32.

torch computes `F.linear` with its BLAS and `F.conv2d` with oneDNN, whose kernels use more of a CPU's vector units than MKL does
on AMD's: 1.1 to 1.2 times faster for layers of 512 and more, equal to rounding (benchmarks/speed.py). Narrow layers
gain nothing.
"""

import torch
import torch.nn.functional as F

WIDE = 512


def pays(x):
    """Whether activations [..., K] should go through `linear`."""
    return (
        x.device.type == "cpu"
        and x.dtype == torch.float32
        and x.shape[-1] >= WIDE
        and torch.backends.mkldnn.is_available()
        and not torch.is_autocast_enabled("cpu")
    )


def linear(x, weight, bias):
    """x [N, L, K], weight [M, K], bias [M] or None -> x W^T + b, [N, L, M]. Rows: the pixels of one picture, K its channels."""
    n, length, width = x.shape
    pixels = x.reshape(1, n * length, 1, width).permute(0, 3, 1, 2)  # a view: already channels last
    return F.conv2d(pixels, weight[:, :, None, None], bias).permute(0, 2, 3, 1).reshape(n, length, -1)
