"""Towers that are not computed here (timm's, Hugging Face's): their linear layers and attention go the same fast way as ours.

They call torch's functions, which a mode of torch answers with `onednn.linear`, `attention.attend`, `bounded.hardtanh` and
`strided.conv2d`, equal to rounding.
"""

import contextlib

import torch.nn.functional as F
from torch.overrides import TorchFunctionMode

from mmcoa.model.attention import attend
from mmcoa.model.bounded import hardtanh
from mmcoa.model.onednn import linear
from mmcoa.model.strided import conv2d


def faster(device):
    """Context in which calls of torch's functions for these layers, on that device, are answered here, on a CPU."""
    return _Mode() if device.type == "cpu" else contextlib.nullcontext()


class _Mode(TorchFunctionMode):
    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if function is F.linear:
            return linear(*args, **kwargs)
        if function is F.conv2d:
            return conv2d(*args, **kwargs)
        if function is F.hardtanh:
            return hardtanh(*args, **kwargs)
        if (
            function is F.scaled_dot_product_attention
            and len(args) == 3
            and not kwargs.keys() - USUAL
            and usual(*args, **kwargs)
        ):
            return attend(*args, kwargs.get("attn_mask"))
        return function(*args, **kwargs)


USUAL = {"attn_mask", "dropout_p", "is_causal", "scale"}  # arguments that `usual` looks at


def usual(query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None):
    """Whether a call is one of `attend`: nothing dropped, causal by its mask alone, the scale of the paper."""
    return not dropout_p and not is_causal and scale in (None, query.shape[-1] ** -0.5) and query.shape[1] == key.shape[1]
