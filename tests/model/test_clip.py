import copy
import json
import warnings

import open_clip
import pytest
import torch
from PIL import Image

import mmcoa
from mmcoa.errors import UserError
from mmcoa.model import attention, precision, towers
from mmcoa.model.loading import embedded_folder
from mmcoa.model.saving import save_checkpoint


def test_embeddings_are_unit_vectors_and_differentiable(tiny):
    pixels = torch.rand(3, 3, 24, 24, requires_grad=True)
    features = tiny.encode_image(pixels)
    torch.testing.assert_close(features.norm(dim=1), torch.ones(3))
    features[:, 0].sum().backward()
    assert pixels.grad.abs().sum() > 0
    torch.testing.assert_close(tiny.encode_text(["a", "b c"]).norm(dim=1), torch.ones(2))


def test_trimmed_text_encoding_equals_open_clips(embedded):
    prompts = ["a", "This is a photo of a parrot", "A photo of a very long name " * 6]
    with torch.no_grad():
        expected = torch.nn.functional.normalize(embedded.clip.encode_text(embedded.tokenizer(prompts)), dim=-1)
        torch.testing.assert_close(embedded.encode_text(prompts), expected, atol=1e-5, rtol=0)


def test_trimmed_text_encoding_with_openais_tokenizer():
    """77 places, padding 0, QuickGELU: another branch of the same code."""
    config = open_clip.get_model_config("ViT-B-32-quickgelu")
    config["vision_cfg"] |= {"layers": 1, "width": 64, "head_width": 32}
    config["text_cfg"] |= {"layers": 1, "width": 64, "heads": 2}
    clip = open_clip.CLIP(**config).eval()
    cfg = {"model_cfg": config, "preprocess_cfg": {"size": 224, "mean": (0.5,) * 3, "std": (0.5,) * 3}}
    model = mmcoa.ImageTextModel(clip, open_clip.get_tokenizer("ViT-B-32"), "x", cfg)
    prompts = ["a photo of a cat", "dog"]
    with torch.no_grad():
        expected = torch.nn.functional.normalize(clip.encode_text(model.tokenizer(prompts)), dim=-1)
        torch.testing.assert_close(model.encode_text(prompts), expected, atol=1e-5, rtol=0)


def test_logits_are_scaled_cosines(tiny):
    pixels = torch.rand(2, 3, 16, 16)
    text = tiny.encode_text(["a", "b"])
    expected = tiny.clip.logit_scale.exp() * tiny.encode_image(pixels) @ text.T
    torch.testing.assert_close(tiny.logits(pixels, text), expected, atol=1e-4, rtol=0)  # scale 14


def test_resize_agrees_with_pil(tiny):
    generator = torch.Generator().manual_seed(0)
    pixels = (torch.rand(1, 3, 48, 48, generator=generator) * 255).round()
    picture = Image.fromarray(pixels[0].permute(1, 2, 0).byte().numpy()).resize((16, 16), Image.Resampling.BICUBIC)
    expected = torch.tensor(list(picture.getdata())).T.reshape(3, 16, 16) / 255
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ours = tiny.resized(pixels / 255)[0]
    assert (ours - expected).abs().max() < 1.5 / 255


def test_a_checkpoint_loads_in_open_clip_and_in_ours(tiny, tmp_path):
    folder = save_checkpoint(tiny, tmp_path / "ck", {"name": "mine", "defense": "clean"})
    plain = open_clip.create_model(f"local-dir:{folder}").eval()
    tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")
    ours = mmcoa.load_model(str(folder))
    assert ours.name == "mine" and ours.metadata["defense"] == "clean" and ours.fingerprint() == tiny.fingerprint()
    pixels = torch.rand(2, 3, 16, 16)
    with torch.no_grad():
        theirs = plain.encode_image((pixels - 0.5) / 0.25)
        torch.testing.assert_close(theirs, tiny.encode_image_raw(pixels), atol=1e-4, rtol=1e-4)
        text = torch.nn.functional.normalize(plain.encode_text(tokenizer(["a photo"])), dim=-1)
        torch.testing.assert_close(text, ours.encode_text(["a photo"]), atol=1e-5, rtol=0)
    assert [p.name for p in tmp_path.iterdir()] == ["ck"]  # nothing temporary left
    save_checkpoint(tiny, folder, {"name": "again"})
    assert mmcoa.load_model(str(folder)).name == "again"


def test_damaged_and_missing_files_are_named(tiny, tmp_path):
    folder = save_checkpoint(tiny, tmp_path / "ck")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(UserError, match="damaged checkpoint .*ck"):
        mmcoa.load_model(str(folder))
    weights.unlink()
    with pytest.raises(UserError, match="model.safetensors is missing"):
        mmcoa.load_model(str(folder))


@pytest.mark.parametrize(
    "name,message",
    [
        ("openmoji-clop", "nearest: openmoji-clip"),
        ("ViT-B-32/opnai", "openai"),
        ("runs/no/such/model", "unknown model|no checkpoint folder"),
        ("ViT-B-32/openai", "cannot load weights.*network"),  # tests run offline
    ],
)
def test_names_that_do_not_load(name, message):
    with pytest.raises(UserError, match=message):
        mmcoa.load_model(name)


def test_openai_weights_are_built_with_quickgelu(monkeypatch):
    """Trap E5: the same weights with GELU lose accuracy without a word."""
    seen = {}

    def create(architecture, **options):
        seen.update(options, architecture=architecture)
        raise RuntimeError("stop here")

    monkeypatch.setattr(open_clip, "create_model", create)
    for name, quick in (("ViT-B-32/openai", True), ("ViT-B-32/laion2b_s34b_b79k", False)):
        with pytest.raises(UserError):
            mmcoa.load_model(name)
        assert seen["force_quick_gelu"] is quick and seen["require_pretrained"] is True


def test_devices():
    with pytest.raises(UserError, match="unknown device"):
        mmcoa.load_model("openmoji-clip", device="gpu0")
    if not torch.cuda.is_available():
        with pytest.raises(UserError, match="no GPU"):
            mmcoa.load_model("openmoji-clip", device="cuda")


def test_the_embedded_model_is_the_published_one(embedded):
    """Guards weights, tokenizer, resize and normalisation at once; tolerance for other processors."""
    card = json.loads((embedded_folder("openmoji-clip") / "mmcoa.json").read_text())
    assert embedded.fingerprint() == card["fingerprint"]
    pixels = (torch.arange(3 * 64 * 64) % 251 / 250).reshape(1, 3, 64, 64)
    with torch.no_grad():
        logits = embedded.logits(pixels, embedded.encode_text(card["logit_fingerprint"]["prompts"]))
    torch.testing.assert_close(logits[0], torch.tensor(card["logit_fingerprint"]["logits"]), atol=2e-2, rtol=0)
    assert sum(f.stat().st_size for f in embedded_folder("openmoji-clip").iterdir()) < 10e6


@pytest.mark.parametrize("architecture", ["openmoji-clip", "ViT-B-32-quickgelu"])
def test_towers_give_the_values_and_gradients_of_open_clip(architecture):
    """Of the last block only one row is computed: nothing that is read changes."""
    if architecture == "openmoji-clip":
        model = mmcoa.load_model(architecture)
        clip, tokenizer, size = model.clip, model.tokenizer, 64
    else:
        torch.manual_seed(0)
        config = open_clip.get_model_config(architecture)
        config["vision_cfg"]["layers"] = config["text_cfg"]["layers"] = 3
        clip, tokenizer, size = open_clip.CLIP(**config).eval(), open_clip.get_tokenizer("ViT-B-32"), 224
    pixels = torch.rand(3, 3, size, size, generator=torch.Generator().manual_seed(0))
    tokens = tokenizer(["a cat", "This is a photo of a very long name of a thing", ""])
    assert towers.image_is_plain(clip.visual) and towers.text_is_plain(clip)
    for ours, theirs, given in (
        (towers.encode_image, clip.encode_image, pixels),
        (towers.encode_text, clip.encode_text, tokens),
    ):
        found = []
        for function in (lambda x: ours(clip.visual if ours is towers.encode_image else clip, x), theirs):
            clip.zero_grad(set_to_none=True)
            x = given.clone().requires_grad_() if given.is_floating_point() else given
            out = function(x)
            out.square().sum().backward()
            gradients = [p.grad.flatten() for p in clip.parameters() if p.grad is not None]
            found.append((out.detach(), torch.cat(gradients + ([x.grad.flatten()] if given.is_floating_point() else []))))
        (a, first), (b, second) = found
        assert torch.allclose(a, b, rtol=0, atol=1e-5 * float(b.abs().max()))
        assert torch.allclose(first, second, rtol=0, atol=1e-5 * float(second.abs().max()))


@pytest.mark.parametrize("size,padding", [(64, 0), (72, 0), (64, 4)])
def test_patches_are_those_of_the_convolution(embedded, size, padding):
    """As rows of a product where they do not overlap, as a convolution where pixels are left over or added."""
    tower = towers.ImageTower(embedded.clip.visual)
    tower.visual = copy.deepcopy(embedded.clip.visual)
    tower.visual.conv1.padding = (padding, padding)
    pixels = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        wanted = tower.visual.conv1(pixels).flatten(2).transpose(1, 2)
        assert torch.allclose(tower.patches(pixels), wanted, atol=1e-5)


def test_weights_that_stand_still_are_read_once(embedded, small_birds):
    """Within `fixed`, in fp32 and as a copy in bf16: the same embeddings, no gradient to weights, none of the copy left."""
    images = small_birds.images[:6].float() / 255
    weight = embedded.clip.visual.transformer.resblocks[0].mlp[0].weight
    weight.requires_grad_(True)
    try:
        plain = embedded.encode_image(images)
        with embedded.fixed():
            kept, exact = embedded.precision, embedded.encode_image(images)
            embedded.precision = "bf16"
            pixels = images.clone().requires_grad_()
            rough = embedded.encode_image(pixels)
            (gradient,) = torch.autograd.grad(rough.sum(), pixels)
            first = embedded._image_encoder()
            assert first is embedded._image_encoder() and first.kernel.dtype == torch.bfloat16
            embedded.precision = kept
            assert first is not embedded._image_encoder()
        assert embedded.fixed_towers is None and not exact.requires_grad and plain.requires_grad
        assert torch.equal(exact, plain.detach()) and rough.dtype == torch.float32 and gradient.abs().max() > 0
        assert (rough * plain).sum(dim=1).min() > 0.999
        embedded.precision = "bf16"  # in training: from the weights themselves
        embedded.encode_image(images).sum().backward()
        assert weight.grad.dtype == torch.float32 and weight.grad.abs().max() > 0
    finally:
        embedded.precision, weight.grad = "fp32", None
        weight.requires_grad_(False)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("masked", [None, "float", "bool"])
def test_attention_in_steps_is_torch_s(dtype, masked):
    generator = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(2, 3, 5, 8, generator=generator).to(dtype).requires_grad_() for _ in range(3))
    seen = torch.ones(2, 1, 5, 5, dtype=torch.bool).tril()
    mask = {None: None, "bool": seen, "float": torch.zeros(seen.shape).masked_fill(~seen, -torch.inf)}[masked]
    assert attention.in_steps(query, key)
    found = attention.attend(query, key, value, mask)
    exact = torch.nn.functional.scaled_dot_product_attention(query.float(), key.float(), value.float(), attn_mask=mask)
    near, nearer = (0.05, 0.2) if dtype == torch.bfloat16 else (1e-5, 1e-4)
    assert torch.allclose(found.float(), exact, atol=near)
    ours, wanted = (torch.autograd.grad(one.float().square().sum(), (query, key, value)) for one in (found, exact))
    assert all(torch.allclose(a.float(), b.float(), atol=nearer) for a, b in zip(ours, wanted, strict=True))


def test_attention_is_in_steps_where_that_is_faster():
    """Short in fp32; in bf16 where gradients are to come."""
    query, long = torch.zeros(1, 1, 2, 8), torch.zeros(1, 1, attention.SHORT + 1, 8)
    assert attention.in_steps(query, query) and not attention.in_steps(query, long)
    assert not attention.in_steps(query.to("meta"), query.to("meta"))
    assert attention.in_steps(query.bfloat16().requires_grad_(), long.bfloat16()) and not attention.in_steps(
        query.bfloat16(), query.bfloat16()
    )


def test_the_precision_is_measured_once(embedded, monkeypatch, tmp_path):
    """A small tower is not tried; of a large one the measured ratio decides, and is kept for its processor and shape."""
    monkeypatch.setenv("MMCOA_CACHE", str(tmp_path))
    assert precision.automatic(embedded)[0] == "fp32" and not list(tmp_path.iterdir())
    monkeypatch.setattr(precision, "LARGE", 0)
    monkeypatch.setattr(precision, "_timed", lambda model, pixels: {"fp32": 3.0, "bf16": 1.0}[model.precision])
    chosen = mmcoa.load_model("openmoji-clip", precision="auto")
    assert chosen.precision == "bf16" and "3.0 times" in chosen.precision_note and embedded.precision == "fp32"
    monkeypatch.setattr(precision, "_timed", None)  # not measured again
    assert precision.automatic(embedded) == ("bf16", chosen.precision_note)
    monkeypatch.setattr(precision, "cached", lambda kind, key, compute: 1.4)
    assert precision.automatic(embedded)[0] == "fp32"


def test_a_step_in_either_precision_can_be_timed(embedded):
    assert precision.gain(embedded) > 0 and embedded.precision == "fp32" and embedded.fixed_towers is None
