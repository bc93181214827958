"""Checkpoints for others: transformers, interpolation."""

import json

import pytest
import torch
from transformers import AutoTokenizer, CLIPImageProcessor, CLIPModel

import mmcoa
from mmcoa.errors import UserError
from mmcoa.model.export import export, to_transformers
from mmcoa.model.interpolation import interpolate, interpolate_checkpoints
from mmcoa.model.loading import create_model, load_model
from mmcoa.model.saving import save_checkpoint


def test_transformers_gives_the_same_embeddings(embedded, birds, tmp_path):
    folder = export(embedded, tmp_path / "hf")
    model, tokenizer = CLIPModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    processor = CLIPImageProcessor.from_pretrained(folder)
    inputs = tokenizer(birds.prompts, return_tensors="pt", padding=True)
    pixels = processor(list(birds.images), return_tensors="pt").pixel_values
    with torch.no_grad():
        out = model(**inputs, pixel_values=pixels)
        assert torch.allclose(out.image_embeds, embedded.encode_image(birds.images.float() / 255), atol=1e-4)
        assert torch.allclose(out.text_embeds, embedded.encode_text(birds.prompts), atol=1e-4)
        logits = embedded.logits(birds.images.float() / 255, embedded.encode_text(birds.prompts))
    assert torch.allclose(out.logits_per_image, logits, atol=1e-2)  # scale 100
    with pytest.raises(UserError, match="not empty"):
        export(embedded, folder)


@pytest.mark.parametrize("quick_gelu", [False, True])
def test_both_activations_convert(tiny_folder, tmp_path, quick_gelu):
    model = create_model(tiny_folder, 0)
    model.config["model_cfg"]["quick_gelu"] = quick_gelu
    save_checkpoint(model, tmp_path / "tiny")
    model = load_model(str(tmp_path / "tiny"))
    images = torch.rand(2, 3, 16, 16)
    with torch.no_grad():
        theirs = to_transformers(model).get_image_features(pixel_values=(images - model.mean) / model.std)
        theirs = getattr(theirs, "pooler_output", theirs)
        assert torch.allclose(theirs, model.encode_image_raw(images), atol=1e-4)
    assert model.clip.transformer.resblocks[0].mlp.gelu.__class__.__name__ == ("QuickGELU" if quick_gelu else "GELU")


def test_other_architectures_are_refused(tiny):
    tiny.clip.text_pool_type = "last"
    with pytest.raises(UserError, match="only that converts"):
        to_transformers(tiny)


def test_interpolation_ends_at_both_models(tiny_folder, tmp_path):
    frozen, tuned = create_model(tiny_folder, 0), create_model(tiny_folder, 1)
    for alpha, model in ((0, frozen), (1, tuned)):
        state = interpolate(frozen, tuned, alpha)
        assert all(torch.equal(value, model.clip.state_dict()[key]) for key, value in state.items())
    half = interpolate(frozen, tuned, 0.5)
    assert torch.allclose(half["visual.proj"], (frozen.clip.visual.proj + tuned.clip.visual.proj) / 2)
    with pytest.raises(UserError, match="alpha must lie in"):
        interpolate(frozen, tuned, 1.5)
    with pytest.raises(UserError, match="different architectures"):
        interpolate(mmcoa.load_model("openmoji-clip"), tuned, 0.5)


def test_interpolated_checkpoints_load_and_say_what_they_are(tiny_folder, tmp_path):
    base = save_checkpoint(create_model(tiny_folder, 0), tmp_path / "base")
    tuned = save_checkpoint(
        create_model(tiny_folder, 1), tmp_path / "tuned", {"name": "tuned", "defense": "tecoa", "training": {"config": {}}}
    )
    with pytest.raises(UserError, match="give --base"):
        interpolate_checkpoints(str(tuned), tmp_path / "half", 0.5)
    folder = interpolate_checkpoints(str(tuned), tmp_path / "half", 0.5, str(base))
    assert load_model(str(folder)).name == "tuned-alpha0.5"
    info = json.loads((folder / "mmcoa.json").read_text())
    assert info["alpha"] == 0.5 and info["defense"] == "tecoa" and "training" not in info
