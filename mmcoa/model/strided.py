"""1x1 convolutions with strides as convolutions of every second pixel: the same numbers, and no crash on CPUs.

oneDNN's gradient of such a layer's weights writes past its workspace where the pictures are `channels_last` and have fewer
channels than a vector has numbers (github.com/uxlfoundation/oneDNN/issues/6035; seen on AVX2): the process dies, or the
gradient is wrong. FastViT, the tower of MobileCLIP, begins with one on three colours.
"""

import torch

NARROW = 16  # input channels of a layer that can be struck: numbers in the widest vector


def conv2d(x, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
    """`F.conv2d`, images [N, C, H, W]."""
    down, right = (stride, stride) if isinstance(stride, int) else stride
    if max(down, right) > 1 and is_struck(weight, padding, groups) and x.dim() == 4:
        x, stride = x[:, :, ::down, ::right], 1
    return torch.conv2d(x, weight, bias, stride, padding, dilation, groups)


def is_struck(weight, padding, groups):
    """Whether the fault reaches a layer with weight [M, C, h, w] that strides: one pixel, few channels, no border."""
    narrow = weight.shape[1] < NARROW and tuple(weight.shape[2:]) == (1, 1)
    return narrow and groups == 1 and padding in (0, (0, 0))
