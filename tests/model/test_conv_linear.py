"""Wide layers as convolutions: the values and gradients of the plain layer, and used only where they should be."""

import pytest
import torch
import torch.nn.functional as F

from mmcoa.model import conv_linear as linear
from mmcoa.model import towers


def test_values_and_gradients_are_those_of_a_linear_layer():
    generator = torch.Generator().manual_seed(0)
    x, weight, bias = (torch.randn(*shape, generator=generator, requires_grad=True) for shape in ((3, 5, 16), (7, 16), (7,)))
    for offset in (bias, None):
        ours, plain = linear.linear(x, weight, offset), F.linear(x, weight, offset)
        assert ours.shape == plain.shape and torch.allclose(ours, plain, atol=1e-5)
        inputs = [x, weight, *([bias] if offset is not None else [])]
        for a, b in zip(
            torch.autograd.grad(ours.square().sum(), inputs), torch.autograd.grad(plain.square().sum(), inputs), strict=True
        ):
            assert torch.allclose(a, b, rtol=1e-4, atol=1e-4)


def test_only_wide_layers_in_full_precision(monkeypatch):
    monkeypatch.setattr(linear, "is_intel", lambda: True)
    assert not linear.pays(torch.zeros(1, 2, linear.WIDE))
    monkeypatch.setattr(linear, "is_intel", lambda: False)
    assert linear.pays(torch.zeros(1, 2, linear.WIDE)) and not linear.pays(torch.zeros(1, 2, linear.WIDE - 1))
    assert not linear.pays(torch.zeros(1, 2, linear.WIDE, dtype=torch.bfloat16))
    with torch.autocast("cpu", torch.bfloat16):
        assert not linear.pays(torch.zeros(1, 2, linear.WIDE))


@pytest.mark.parametrize("trained", [False, True])
def test_towers_are_open_clip_s(embedded, small_birds, monkeypatch, trained):
    """The embedded model's layers are narrow: here they count as wide."""
    monkeypatch.setattr(linear, "WIDE", 1)
    monkeypatch.setattr(linear, "is_intel", lambda: False)
    pixels = (small_birds.images.float() / 255)[:4].requires_grad_(True)
    pixels = (embedded.resized(pixels) - embedded.mean) / embedded.std
    clip, tokens = embedded.clip, embedded.tokenizer(small_birds.prompts[:4])
    weights = [clip.visual.transformer.resblocks[0].attn.in_proj_weight, clip.transformer.resblocks[0].mlp[0].weight]
    for weight in weights:
        weight.requires_grad_(trained)
    try:
        ours = [towers.encode_image(clip.visual, pixels), towers.encode_text(clip, tokens)]
        plain = [clip.encode_image(pixels), clip.encode_text(tokens)]
        for a, b in zip(ours, plain, strict=True):
            assert torch.allclose(a, b, atol=1e-4)
        wanted = [pixels, *weights] if trained else [pixels]
        losses = [(one[0] * one[1]).sum() if trained else one[0].square().sum() for one in (ours, plain)]
        for a, b in zip(*(torch.autograd.grad(loss, wanted) for loss in losses), strict=True):
            assert torch.allclose(a, b, rtol=1e-3, atol=1e-3 * b.abs().max().item())
    finally:
        for weight in weights:
            weight.requires_grad_(False)
