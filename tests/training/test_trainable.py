"""Towers, last blocks, low-rank changes."""

import open_clip
import pytest
import torch

from mmcoa.attacks.prefix import encode_texts
from mmcoa.datasets.batches import ShuffledDataset
from mmcoa.errors import UserError
from mmcoa.model.clip import plain_state
from mmcoa.model.loading import create_model, load_model
from mmcoa.threat import ThreatModel
from mmcoa.training.config import TrainConfig
from mmcoa.training.loop import train
from mmcoa.training.trainable import add_low_rank, first, last, make_trainable, merge

THREAT = ThreatModel(epsilon="4/255", steps=2, candidate_source="table:train")


def trained_names(model, **arguments):
    chosen = {id(p) for p in make_trainable(model, **arguments)}
    names = {name for name, p in model.clip.named_parameters() if id(p) in chosen}
    assert names == {name for name, p in model.clip.named_parameters() if p.requires_grad}
    return names


def test_towers_are_disjoint_and_complete(tiny):
    image, text = trained_names(tiny, towers=("image",)), trained_names(tiny, towers=("text",))
    everything = {name for name, _ in tiny.clip.named_parameters()}
    assert image | text == everything and not image & text
    assert "logit_scale" in text and trained_names(tiny, towers=("image", "text")) == everything


def test_last_blocks(embedded):
    model = load_model("openmoji-clip")
    names = trained_names(model, towers=("image",), last_blocks=1)
    assert {name.split(".")[3] for name in names if "resblocks" in name} == {"3"}
    assert {name for name in names if "resblocks" not in name} == {
        "visual.ln_post.weight",
        "visual.ln_post.bias",
        "visual.proj",
    }
    names = trained_names(model, towers=("text",), last_blocks=1)
    assert "text_projection" in names and "token_embedding.weight" not in names and "logit_scale" in names
    assert trained_names(model, towers=("image", "text"), last_blocks=2) > names
    with pytest.raises(UserError, match=r"last_blocks must lie in 1\.\.2, the blocks of the text tower"):
        make_trainable(model, ("image", "text"), last_blocks=3)


def test_first_blocks(embedded):
    model = load_model("openmoji-clip")
    names = trained_names(model, towers=("image",), first_blocks=1)
    assert {name.split(".")[3] for name in names if "resblocks" in name} == {"0"}
    before = {"class_embedding", "positional_embedding", "conv1.weight", "ln_pre.weight", "ln_pre.bias"}
    assert {name for name in names if "resblocks" not in name} == {f"visual.{name}" for name in before}
    names = trained_names(model, towers=("text",), first_blocks=1)
    assert {"token_embedding.weight", "positional_embedding", "logit_scale"} < names and "text_projection" not in names
    both = trained_names(model, towers=("image",), first_blocks=1, last_blocks=2)
    assert {name.split(".")[3] for name in both if "resblocks" in name} == {"0", "2", "3"}
    everything = trained_names(model, towers=("image",), first_blocks=3, last_blocks=3)  # block 2 is in both
    assert everything == trained_names(model, towers=("image",))
    assert len(make_trainable(model, ("image",), first_blocks=3, last_blocks=3)) == len(everything)
    with pytest.raises(UserError, match=r"first_blocks must lie in 1\.\.2, the blocks of the text tower"):
        make_trainable(model, ("image", "text"), first_blocks=3)


def test_low_rank_changes_of_the_first_blocks(embedded):
    model = load_model("openmoji-clip")
    assert len(make_trainable(model, ("image",), lora_rank=2, first_blocks=1)) == 2 * 4
    changed = {name.split(".")[3] for name, p in model.clip.named_parameters() if p.requires_grad}
    assert changed == {"0"}


def test_stages_of_a_resnet():
    torch.manual_seed(0)
    config = {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8, "head_width": 16, "patch_size": None},
        "text_cfg": {"context_length": 16, "vocab_size": 64, "width": 16, "heads": 2, "layers": 1},
    }
    model = type("Model", (), {"clip": open_clip.CLIP(**config), "name": "resnet"})()
    blocks, after = last(model, "image", 1)
    assert blocks == [model.clip.visual.layer4] and after == [model.clip.visual.attnpool]
    blocks, before = first(model, "image", 2)
    stem = {"conv1", "bn1", "conv2", "bn2", "conv3", "bn3"}
    assert blocks == [model.clip.visual.layer1, model.clip.visual.layer2]
    assert {name for name, module in model.clip.visual.named_children() if any(module is one for one in before)} == stem
    with pytest.raises(UserError, match="LoRA needs transformer blocks"):
        add_low_rank(model, blocks, 2, 0)


def test_low_rank_changes_start_at_zero_and_merge(tiny, small_birds):
    images = small_birds.images.float() / 255
    prompts = small_birds.prompts
    with torch.no_grad():
        before = tiny.logits(images, tiny.encode_text(prompts))
    keys, fingerprint = set(tiny.clip.state_dict()), tiny.fingerprint()
    weights = {key: value.clone() for key, value in tiny.clip.state_dict().items()}
    parameters = make_trainable(tiny, ("image", "text"), lora_rank=2, seed=1)
    assert len(parameters) == 2 * 2 * 4 and sum(p.numel() for p in parameters) < 0.25 * sum(
        p.numel() for p in tiny.clip.parameters()
    )
    with torch.no_grad():
        # the same weights to the bit; products of them may differ with where they lie in memory
        assert all(torch.equal(value, weights[key]) for key, value in plain_state(tiny.clip).items())
        assert torch.allclose(tiny.logits(images, tiny.encode_text(prompts)), before, atol=1e-4)
        for parameter in parameters:
            parameter.add_(0.1)
        changed = tiny.logits(images, tiny.encode_text(prompts))
        shared = tiny.logits(images, encode_texts(tiny, prompts))  # the shared-prefix encoder sees the changes too
    assert not torch.allclose(changed, before, atol=1e-2) and torch.allclose(shared, changed, atol=1e-4)
    assert set(plain_state(tiny.clip)) == keys and tiny.fingerprint() != fingerprint
    merge(tiny)
    assert set(tiny.clip.state_dict()) == keys
    with torch.no_grad():
        assert torch.allclose(tiny.logits(images, tiny.encode_text(prompts)), changed, atol=1e-4)


@pytest.mark.parametrize("settings", [{"lora_rank": 2}, {"last_blocks": 1}, {"trains": "text"}, {"first_blocks": 1}])
def test_training_a_part_loads_in_plain_open_clip(tiny_folder, small_birds, tmp_path, settings):
    model = create_model(tiny_folder, 0, name="tiny-clip")
    before = {key: value.clone() for key, value in model.clip.state_dict().items()}
    config = TrainConfig(steps=5, batch_size=8, lr=1e-2, warmup=10, evaluate_every=1, **settings)
    held_out = small_birds.prefix(4)
    folder = train(
        model, ShuffledDataset(small_birds, 8, 0), "mmcoa", config, tmp_path / "run", threat=THREAT, held_out=held_out
    )
    moved = {key for key, value in model.clip.state_dict().items() if not torch.equal(value, before[key])}
    if settings == {"lora_rank": 2}:
        assert moved and all(key.rpartition(".")[2] in ("weight", "in_proj_weight") and "resblocks" in key for key in moved)
    if settings == {"trains": "text"}:
        assert moved and not any(key.startswith("visual") for key in moved)
    plain = open_clip.create_model(f"local-dir:{folder}").eval()
    images = small_birds.images.float() / 255
    with torch.no_grad():
        ours = model.encode_image_raw(images)
        theirs = plain.encode_image((images - model.mean) / model.std)
    assert torch.allclose(ours, theirs, atol=1e-5)
    if (folder / "best").is_dir():
        open_clip.create_model(f"local-dir:{folder / 'best'}")


def test_a_killed_run_of_low_rank_changes_goes_on(tiny_folder, small_birds, tmp_path):
    source = ShuffledDataset(small_birds, 8, 0)
    config = TrainConfig(steps=4, batch_size=8, lr=1e-2, warmup=10, lora_rank=2, checkpoint_every=2)
    whole = create_model(tiny_folder, 0)
    train(whole, source, "tecoa", config, tmp_path / "whole", threat=THREAT)

    def dying(step):
        if step == 3:
            raise InterruptedError
        return source(step)

    dying.identity = source.identity
    with pytest.raises(InterruptedError):
        train(create_model(tiny_folder, 0), dying, "tecoa", config, tmp_path / "killed", threat=THREAT)
    again = create_model(tiny_folder, 0)
    train(again, source, "tecoa", config, tmp_path / "killed", threat=THREAT)
    assert all(torch.equal(value, again.clip.state_dict()[key]) for key, value in whole.clip.state_dict().items())
