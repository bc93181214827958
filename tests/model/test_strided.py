"""1x1 convolutions with strides: values and gradients of the plain layer, in the layout where oneDNN's own would crash."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mmcoa.model import others, strided


@pytest.mark.parametrize(("stride", "size"), [(2, (8, 8)), ((2, 2), (7, 5)), ((1, 3), (8, 8))])
@pytest.mark.parametrize("bias", [True, False])
def test_values_and_gradients_are_those_of_the_layer(stride, size, bias, monkeypatch):
    """Under the mode of foreign towers, `channels_last`; beside it the layer itself on pictures row by row."""
    seen = []
    monkeypatch.setattr(torch, "conv2d", lambda *given, kept=torch.conv2d: seen.append(given[3]) or kept(*given))
    layer = nn.Conv2d(3, 8, 1, stride=stride, bias=bias)
    plain = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0)).requires_grad_()
    turned = plain.detach().contiguous(memory_format=torch.channels_last).requires_grad_()
    with others.faster(torch.device("cpu")):
        ours = layer(turned)
    assert seen == [1]
    theirs = layer(plain)
    assert torch.allclose(ours, theirs, atol=1e-6)
    wanted = list(layer.parameters())
    for a, b in zip(
        torch.autograd.grad(ours.square().sum(), [turned, *wanted]),
        torch.autograd.grad(theirs.square().sum(), [plain, *wanted]),
        strict=True,
    ):
        assert torch.allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("weight", "more"),
    [
        ((8, 3, 1, 1), {}),
        ((8, 3, 3, 3), {"stride": (2, 2)}),
        ((8, 3, 1, 1), {"stride": (2, 2), "padding": (1, 1)}),
        ((8, 3, 1, 1), {"stride": (2, 2), "padding": "valid"}),
        ((8, 16, 1, 1), {"stride": (2, 2)}),
        ((6, 1, 1, 1), {"stride": (2, 2), "groups": 3}),
    ],
)
def test_other_layers_are_left_to_torch(weight, more, monkeypatch):
    called = []
    monkeypatch.setattr(torch, "conv2d", lambda x, *given, kept=torch.conv2d: called.append(x.shape) or kept(x, *given))
    x = torch.rand(2, weight[1] * more.get("groups", 1), 6, 6)
    assert torch.equal(strided.conv2d(x, torch.ones(weight), **more), F.conv2d(x, torch.ones(weight), **more))
    assert called == [x.shape]
