"""Bounded activations in place: values and gradients of torch's to the bit, without a copy, in towers of others too."""

import pytest
import torch
import torch.nn.functional as F

from mmcoa.model import bounded, others

EDGES = torch.tensor([float("nan"), -7.0, -1.0, -0.0, 0.0, 0.5, 1.0, 6.0, 7.0, float("inf")])


@pytest.mark.parametrize("bounds", [(0.0, 6.0), (-1.0, 1.0)])
def test_values_and_gradients_are_torch_s_at_every_edge(bounds):
    found = []
    for one in (bounded.hardtanh, F.hardtanh):
        x = EDGES.clone().requires_grad_()
        out = one(x * 1, *bounds, inplace=True)
        found.append((out, *torch.autograd.grad(out, x, torch.arange(1.0, len(x) + 1))))
    for ours, plain in zip(*found, strict=True):
        assert torch.equal(ours.nan_to_num(99), plain.nan_to_num(99))


def test_what_is_not_in_place_or_has_no_gradient_is_torch_s(monkeypatch):
    monkeypatch.setattr(bounded.Bounded, "apply", lambda *_: pytest.fail("called"))
    x = EDGES[1:].clone().requires_grad_()
    assert torch.equal(bounded.hardtanh(x), F.hardtanh(x)) and torch.equal(x, EDGES[1:])
    assert torch.equal(bounded.hardtanh(EDGES[1:].clone(), 0.0, 6.0, inplace=True), F.relu6(EDGES[1:]))
    with torch.no_grad():
        assert torch.equal(bounded.hardtanh(x * 1, 0.0, 6.0, True), F.relu6(EDGES[1:]))


def test_a_tower_of_timm_keeps_no_copies():
    """Under the mode, what autograd keeps shrinks by every ReLU6's input; outputs and gradients stay what they are."""
    import timm

    tower = timm.create_model("tf_efficientnet_lite0", num_classes=8).eval()
    x = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0)).requires_grad_()
    weights, found = {each.untyped_storage().data_ptr() for each in tower.state_dict().values()}, []
    for context in (torch.no_grad(), others.faster(torch.device("cpu"))):
        kept = {}

        def pack(tensor, kept=kept):
            kept[tensor.untyped_storage().data_ptr()] = tensor
            return tensor

        with context, torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            out = tower(x)
        wanted = [x, *tower.parameters()]
        size = sum(each.nbytes for place, each in kept.items() if place not in weights)
        found.append((size, out, torch.autograd.grad(out.square().sum(), wanted)))
    (more, plain, before), (less, ours, after) = found
    assert less < 0.85 * more and torch.allclose(ours, plain, atol=1e-5)
    for a, b in zip(before, after, strict=True):
        assert torch.allclose(a, b, rtol=1e-3, atol=1e-5 * max(1, a.abs().max()))
