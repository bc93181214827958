"""Linear layers by oneDNN where torch's BLAS is slower: with AVX-512 on CPUs other than Intel's, in fp32.

torch hands `F.linear` and its gradients to MKL, which keeps to AVX2 on AMD's processors; oneDNN, which torch carries for
convolutions, uses AVX-512 where it is: 2.2 times as fast from 32 rows on, forward and backward, equal to rounding
(benchmarks/speed.py, part `precision`). On Intel's own processors there is nothing to gain; on an AMD without AVX-512 the
products are as fast, and with their gradients take up to 1.4 times as long.
"""

import functools
import platform
from pathlib import Path

import torch
import torch.nn.functional as F
from torch.autograd.function import once_differentiable

ROWS = 32  # below, calling it from Python costs what it saves
GRAIN = 64  # rows come in multiples: for each other number oneDNN makes, and keeps, programs of half a megabyte


def linear(x, weight, bias=None):
    """x [..., K], weight [M, K], bias [M] or None -> x W^T + b, [..., M], the faster way."""
    return Linear.apply(x, weight, bias) if pays(x, weight) else F.linear(x, weight, bias)


def pays(x, weight):
    """Whether activations [..., K] should go through `Linear`."""
    return (
        x.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and x.numel() >= ROWS * x.shape[-1]
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
        and is_there()
        and is_faster()
    )


@functools.cache
def is_faster():
    """Whether the processor is one where oneDNN beats torch's BLAS: AVX-512, and not Intel's."""
    cpuinfo = Path("/proc/cpuinfo")
    maker = cpuinfo.read_text() if cpuinfo.is_file() else platform.processor()
    return torch.backends.cpu.get_cpu_capability() == "AVX512" and "GenuineIntel" not in maker


@functools.cache
def is_there():
    """Whether this torch has oneDNN, and its product as an operator of its own, as compiled models use it."""
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def product(x, weight, bias=None):
    """x [N, K], weight [M, K], bias [M] or None -> x W^T + b, [N, M]; without gradient."""
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")


def rows(x):
    """x [..., K] as rows [N, K], filled up with zeros to a multiple of `GRAIN`."""
    flat = x.reshape(-1, x.shape[-1])
    missing = -len(flat) % GRAIN
    return F.pad(flat, (0, 0, 0, missing)) if missing else flat


def unfilled(filled, like):
    """The rows of `filled` [N, M] that belong to a tensor [..., K], as [..., M]."""
    return filled[: like.shape[:-1].numel()].view(*like.shape[:-1], -1)


class Linear(torch.autograd.Function):
    """`linear` by oneDNN; each gradient is a product of the same kind."""

    @staticmethod
    def forward(ctx, x, weight, bias):
        ctx.save_for_backward(x, weight)
        return unfilled(product(rows(x), weight, bias), like=x)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        x, weight = ctx.saved_tensors
        filled, wanted = rows(gradient), ctx.needs_input_grad
        return (
            unfilled(product(filled, weight.T), like=x) if wanted[0] else None,
            product(filled.T, rows(x).T) if wanted[1] else None,
            filled.sum(dim=0) if wanted[2] else None,
        )
