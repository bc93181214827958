"""A residual attention block of open_clip, computed from its weights as plain tensors.

`read` takes the weights out of the block's modules: as they are, so that gradients reach them, or cast, or detached. `whole`
and `at` then compute the block with each matrix applied once, to contiguous rows: nn.MultiheadAttention hands its projection a
transposed tensor, for which torch copies the weight for every picture. Values and gradients are open_clip's, to rounding.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from open_clip.transformer import QuickGELU, ResidualAttentionBlock
from torch import nn
from torch.nn.utils.parametrize import type_before_parametrizations

from mmcoa.model import onednn
from mmcoa.model.attention import attend


def is_plain(block):
    """Whether a block is open_clip's usual one: attention and MLP behind layer norms, no dropout."""
    attention = getattr(block, "attn", nn.Identity())
    return (
        type(block) is ResidualAttentionBlock
        and not hasattr(block, "ln_1_kv")
        and type_before_parametrizations(attention) is nn.MultiheadAttention  # LoRA parametrizes its matrices
        and attention.in_proj_weight is not None
        and attention.batch_first
        and attention.bias_k is None
        and not attention.add_zero_attn
        and (attention.dropout == 0 or not block.training)
        and len(block.mlp) == 3
    )


@dataclass(frozen=True)
class Norm:
    """A layer norm."""

    weight: torch.Tensor
    bias: torch.Tensor
    eps: float

    def __call__(self, x):
        return F.layer_norm(x, self.weight.shape, self.weight, self.bias, self.eps)


@dataclass(frozen=True)
class Linear:
    """x W^T + b, weight [M, K]."""

    weight: torch.Tensor
    bias: torch.Tensor | None

    def __call__(self, x):
        return onednn.linear(x, self.weight, self.bias)

    def part(self, start, stop=None):
        """Some of its outputs."""
        return Linear(self.weight[start:stop], None if self.bias is None else self.bias[start:stop])


@dataclass(frozen=True)
class Block:
    """The weights of one block; `inward` is queries, keys and values one below the other, [3 W, W]."""

    heads: int
    norm_1: Norm
    inward: Linear
    outward: Linear
    scale_1: torch.Tensor | None
    norm_2: Norm
    hidden: Linear
    activation: Callable
    output: Linear
    scale_2: torch.Tensor | None

    def whole(self, x, mask=None):
        """Tokens [N, L, W] -> [N, L, W]; mask [L, L] is added to the scores."""
        n, length, width = x.shape
        query, key, value = self.inward(self.norm_1(x)).view(n, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        return self.behind(x, attend(query, key, value, mask).transpose(1, 2).reshape(n, length, width))

    def at(self, x, places=None, hidden=None):
        """Output [N, W] at one token of each sequence [N, L, W].

        places: int64 [N], None for the first token; hidden: bool [N, L], tokens that it must not see.
        """
        n, length, width = x.shape
        seen, rows = self.norm_1(x), torch.arange(n, device=x.device)
        pick = (lambda y: y[:, 0]) if places is None else lambda y: y[rows, places]
        key, value = self.inward.part(width)(seen).view(n, length, 2, self.heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        query = self.inward.part(0, width)(pick(seen)).view(n, self.heads, 1, -1)
        mask = None
        if hidden is not None:
            mask = torch.zeros(hidden.shape, dtype=x.dtype, device=x.device).masked_fill(hidden, -torch.inf)[:, None, None]
        return self.behind(pick(x), attend(query, key, value, mask).reshape(n, width))

    def behind(self, x, attended):
        """What follows the attention, for each token by itself: [..., W] of both -> [..., W]."""
        x = x + _scaled(self.outward(attended), self.scale_1)
        return x + _scaled(self.output(self.activation(self.hidden(self.norm_2(x)))), self.scale_2)


def read(block, take):
    """`Block` of a plain block; `take` is applied to each weight: see `taker`."""
    attention, (hidden, activation, output) = block.attn, block.mlp
    return Block(
        heads=attention.num_heads,
        norm_1=norm(block.ln_1, take),
        inward=Linear(take(attention.in_proj_weight), take(attention.in_proj_bias)),
        outward=linear(attention.out_proj, take),
        scale_1=take(getattr(block.ls_1, "gamma", None)),
        norm_2=norm(block.ln_2, take),
        hidden=linear(hidden, take),
        activation=_quick_gelu if isinstance(activation, QuickGELU) else activation,
        output=linear(output, take),
        scale_2=take(getattr(block.ls_2, "gamma", None)),
    )


def taker(dtype=None, detached=False):
    """Function tensor or None -> the same, cast to `dtype` and cut off from gradients as asked."""

    def take(tensor):
        if tensor is None:
            return None
        tensor = tensor.detach() if detached else tensor
        return tensor if dtype is None else tensor.to(dtype)

    return take


def norm(module, take):
    """`Norm` of a layer norm."""
    return Norm(take(module.weight), take(module.bias), module.eps)


def linear(module, take):
    """`Linear` of a linear layer."""
    return Linear(take(module.weight), take(module.bias))


def _scaled(x, scale):
    return x if scale is None else x * scale


def _quick_gelu(x):
    """x sigmoid(1.702 x), with the one kernel that torch has for x sigmoid(x)."""
    return F.silu(1.702 * x) / 1.702
