"""Linear layers by oneDNN: the values and gradients of the plain layer, used only where they should be, and by all towers."""

import pytest
import torch
import torch.nn.functional as F

from mmcoa.model import onednn, others, towers

pytestmark = pytest.mark.skipif(not onednn.is_there(), reason="this torch has no oneDNN")


@pytest.fixture
def elsewhere(monkeypatch):
    """As on a processor where it pays, with no product too small."""
    monkeypatch.setattr(onednn, "is_faster", lambda: True)
    monkeypatch.setattr(onednn, "ROWS", 1)


@pytest.mark.parametrize("shape", [(3, 5, 16), (15, 16), (0, 16)])
def test_values_and_gradients_are_those_of_a_linear_layer(elsewhere, shape):
    generator = torch.Generator().manual_seed(0)
    x, weight, bias = (torch.randn(*size, generator=generator, requires_grad=True) for size in (shape, (7, 16), (7,)))
    for offset in (bias, None):
        ours, plain = onednn.linear(x, weight, offset), F.linear(x, weight, offset)
        assert ours.shape == plain.shape and torch.allclose(ours, plain, atol=1e-5)
        assert "Linear" in ours.grad_fn.name() or not len(x)
        inputs = [x, weight, *([bias] if offset is not None else [])]
        for a, b in zip(
            torch.autograd.grad(ours.square().sum(), inputs), torch.autograd.grad(plain.square().sum(), inputs), strict=True
        ):
            assert torch.allclose(a, b, rtol=1e-4, atol=1e-4)


def test_rows_come_in_few_numbers(elsewhere, monkeypatch):
    """Each number of rows costs memory for good; what fills them up reaches neither values nor gradients."""
    seen = []
    monkeypatch.setattr(onednn, "product", lambda x, *more, kept=onednn.product: seen.append(x.shape) or kept(x, *more))
    weight = torch.rand(3, 8, generator=torch.Generator().manual_seed(0), requires_grad=True)
    for count in (1, onednn.GRAIN - 1, onednn.GRAIN, onednn.GRAIN + 1):
        x = torch.ones(count, 8, requires_grad=True)
        found = onednn.linear(x, weight, torch.ones(3))
        assert torch.allclose(found, F.linear(x, weight, torch.ones(3)), atol=1e-5)
        gradient = torch.autograd.grad(found.sum(), (x, weight))
        assert torch.allclose(gradient[0], weight.detach().sum(dim=0).expand(count, 8), atol=1e-5)
        assert torch.allclose(gradient[1], torch.full((3, 8), float(count)))
    assert {shape[0] for shape in seen} == {3, onednn.GRAIN, 2 * onednn.GRAIN}  # 3: of the weight's gradient


def test_turned_tensors_and_single_gradients(elsewhere):
    """What is not contiguous, and what nobody asks for: frozen weights, or weights alone."""
    generator = torch.Generator().manual_seed(0)
    x, weight = (torch.randn(*size, generator=generator) for size in ((16, 9), (16, 7)))
    for wanted in (x, weight):
        wanted.requires_grad_()
        losses = [one(x.T, weight.T).square().sum() for one in (onednn.linear, F.linear)]
        ours, plain = (torch.autograd.grad(loss, wanted)[0] for loss in losses)
        assert torch.allclose(ours, plain, rtol=1e-4, atol=1e-4)
        wanted.requires_grad_(False)


@pytest.mark.parametrize(
    ("maker", "capability", "expected"),
    [
        ("AuthenticAMD", "AVX512", True),
        ("AuthenticAMD", "AVX2", False),
        ("GenuineIntel", "AVX512", False),
        ("GenuineIntel", "AVX2", False),
    ],
)
def test_it_pays_with_avx_512_and_not_on_intel(monkeypatch, tmp_path, maker, capability, expected):
    (tmp_path / "cpuinfo").write_text(f"vendor_id : {maker}\n")
    monkeypatch.setattr(onednn, "Path", lambda _: tmp_path / "cpuinfo")
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    assert onednn.is_faster.__wrapped__() == expected


def test_only_many_rows_in_full_precision(monkeypatch):
    x, weight = torch.zeros(1, onednn.ROWS, 8), torch.zeros(4, 8)
    monkeypatch.setattr(onednn, "is_faster", lambda: False)
    assert not onednn.pays(x, weight)
    monkeypatch.setattr(onednn, "is_faster", lambda: True)
    assert onednn.pays(x, weight) and not onednn.pays(x[:, 1:], weight)
    assert not onednn.pays(x.bfloat16(), weight.bfloat16()) and not onednn.pays(x.to("meta"), weight.to("meta"))
    with torch.autocast("cpu", torch.bfloat16):
        assert not onednn.pays(x, weight)


def test_towers_of_others_are_answered_here(elsewhere, monkeypatch):
    """timm's ViT in an open_clip model: the same embeddings and gradients, and every linear layer through oneDNN."""
    import timm

    tower = timm.create_model("vit_tiny_patch16_224", img_size=32, num_classes=8).eval()
    images, calls = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)), []
    monkeypatch.setattr(onednn, "product", lambda *a, kept=onednn.product: calls.append(a) or kept(*a))
    plain = tower(images)
    with others.faster(images.device):
        ours = tower(images)
    assert len(calls) == sum(isinstance(module, torch.nn.Linear) for module in tower.modules())
    assert not torch.equal(ours, plain) and torch.allclose(ours, plain, atol=1e-5)
    wanted = list(tower.parameters())
    for a, b in zip(*(torch.autograd.grad(one.square().sum(), wanted) for one in (ours, plain)), strict=True):
        assert torch.allclose(a, b, rtol=1e-3, atol=1e-5 * max(1, b.abs().max()))


@pytest.mark.parametrize("more", [{}, {"scale": 8**-0.5}, {"is_causal": True}, {"scale": 0.5}, {"enable_gqa": True}])
def test_only_the_usual_attention_is_answered_here(monkeypatch, more):
    """The other calls reach torch, and none changes its result."""
    answered, generator = [], torch.Generator().manual_seed(0)
    monkeypatch.setattr(others, "attend", lambda *a, kept=others.attend: answered.append(a) or kept(*a))
    query, key, value = (torch.randn(2, 3, 5, 8, generator=generator) for _ in range(3))
    with others.faster(query.device):
        found = F.scaled_dot_product_attention(query, key, value, **more)
    assert torch.allclose(found, F.scaled_dot_product_attention(query, key, value, **more), atol=1e-6)
    assert bool(answered) == (more.get("scale", 8**-0.5) == 8**-0.5 and not more.keys() - {"scale"})


@pytest.mark.parametrize("trained", [False, True])
def test_towers_are_open_clip_s(embedded, small_birds, elsewhere, trained):
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
