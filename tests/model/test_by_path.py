"""Anyone's checkpoint by its path: equal to plain open_clip, or refused in one line."""

import json
import shutil
import subprocess
import sys

import open_clip
import pytest
import torch
from safetensors.torch import save_file

import mmcoa
from mmcoa.errors import UserError
from mmcoa.model import architectures, transformers_names
from mmcoa.model.export import export
from mmcoa.model.interpolation import interpolate_checkpoints
from mmcoa.model.loading import create_model, frozen_model
from mmcoa.model.saving import save_checkpoint
from mmcoa.threat import ThreatModel

# A ViT of two blocks under a name that open_clip knows; QuickGELU under the second one, as open_clip names such pairs.
SMALL = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "head_width": 32, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
}


@pytest.fixture(scope="module", autouse=True)
def small_architectures(tmp_path_factory):
    """`small-clip` and `small-clip-quickgelu` among open_clip's architectures."""
    folder = tmp_path_factory.mktemp("configs")
    (folder / "small-clip.json").write_text(json.dumps(SMALL))
    (folder / "small-clip-quickgelu.json").write_text(json.dumps({**SMALL, "quick_gelu": True}))
    from open_clip import factory

    before = dict(factory._MODEL_CONFIGS)
    open_clip.add_model_config(folder)
    yield
    factory._MODEL_CONFIG_PATHS.pop()
    factory._MODEL_CONFIGS.clear()
    factory._MODEL_CONFIGS.update(before)


@pytest.fixture(scope="module")
def plain():
    """open_clip's own model, random weights."""
    torch.manual_seed(0)
    return open_clip.create_model("small-clip").eval()


@pytest.fixture
def state(plain):
    return {name: value.clone() for name, value in plain.state_dict().items()}


def assert_equal(model, clip, prompts=("a photo of a cat", "dog")):
    """Outputs of ours are open_clip's own, on its own normalisation."""
    pixels = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    mean, std = (torch.tensor(clip.visual.preprocess_cfg[key]).view(1, 3, 1, 1) for key in ("mean", "std"))
    with torch.no_grad():
        ours, theirs = model.encode_image_raw(pixels), clip.encode_image((pixels - mean) / std)
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)
        tokens = open_clip.get_tokenizer("small-clip")(list(prompts))
        torch.testing.assert_close(model.encode_text_raw(prompts), clip.encode_text(tokens), atol=1e-5, rtol=0)
        torch.testing.assert_close(model.scale, clip.logit_scale.exp())


def written(state, path):
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save(state, path)
    return path


@pytest.mark.parametrize("ending", [".pt", ".pth", ".bin", ".safetensors"])
def test_a_state_dict_is_open_clips_own_model(plain, state, tmp_path, ending, caplog):
    path = written(state, tmp_path / f"mine{ending}")
    model = mmcoa.load_model(path)
    assert_equal(model, plain)
    assert_equal(mmcoa.load_model(path, arch="small-clip"), open_clip.create_model("small-clip", pretrained=str(path)).eval())
    assert model.name == "mine"
    assert "architecture small-clip, by the shapes" in caplog.text and "activation GELU" in caplog.text


@pytest.mark.parametrize(
    "wrapped",
    [
        lambda s: {f"module.{k}": v for k, v in s.items()},
        lambda s: {"epoch": 3, "state_dict": {f"module.{k}": v for k, v in s.items()}, "optimizer": {"state": {}}},
        lambda s: {"model": {f"module._orig_mod.{k}": v for k, v in s.items()}},
        lambda s: {k: v.half() if v.ndim > 1 else v for k, v in s.items()},
    ],
)
def test_wrappers_are_taken_off(plain, state, tmp_path, wrapped):
    torch.save(wrapped({k: v.half().float() for k, v in state.items()}), tmp_path / "model_best.pth.tar")
    model = mmcoa.load_model(str(tmp_path / "model_best.pth.tar"))
    half = open_clip.create_model("small-clip").eval()
    half.load_state_dict({k: v.half().float() for k, v in state.items()})
    assert_equal(model, half)
    assert model.name == f"{tmp_path.name}-model_best"


def test_the_activation_follows_the_weights_origin_and_counts(plain, state, tmp_path, caplog):
    """Trap E5: QuickGELU is not in the weights."""
    path = written(state, tmp_path / "mine.pt")
    assumed = mmcoa.load_model(path)
    assert "the file does not say" in caplog.text
    quick = mmcoa.load_model(path, arch="small-clip-quickgelu")
    own = written(
        state | {name: torch.tensor(7) for name in ("input_resolution", "context_length", "vocab_size")}, tmp_path / "own.pt"
    )
    caplog.clear()
    openai = mmcoa.load_model(own)
    assert "activation QuickGELU, as OpenAI's own files need it" in caplog.text
    theirs = open_clip.create_model("small-clip-quickgelu", pretrained=str(path)).eval()
    assert_equal(quick, theirs)
    assert_equal(openai, theirs)
    assert len({assumed.fingerprint(), quick.fingerprint()}) == 2 and quick.fingerprint() == openai.fingerprint()


def test_mean_and_std_are_those_of_the_published_weights():
    """Weights by ARCH/FILE had OpenAI's mean and std and never QuickGELU."""
    model_cfg, preprocess, _ = architectures.expected("ViT-B-32", "openai")
    assert model_cfg["quick_gelu"] and preprocess["mean"] == open_clip.OPENAI_DATASET_MEAN
    model_cfg, preprocess, notes = architectures.expected("ViT-B-16-SigLIP")
    assert preprocess["mean"] == (0.5, 0.5, 0.5) and not notes
    _, preprocess, notes = architectures.expected("ViT-L-14")
    assert preprocess["mean"] == open_clip.OPENAI_DATASET_MEAN and "ViT-L-14/TAG" in notes[0]
    assert architectures.expected("ViT-L-14", "laion2b_s32b_b82k")[1]["mean"] == (0.5, 0.5, 0.5)


def test_shapes_of_published_architectures_are_told_apart():
    for name in ("ViT-B-32", "ViT-B-16", "RN50"):
        shapes = architectures._shapes(open_clip.get_model_config(name))
        weights = mmcoa.model.weights_file.Weights({key: torch.empty(shape, device="meta") for key, shape in shapes.items()})
        assert architectures.guess(weights) == name


@pytest.mark.parametrize("form", ["fare", "tecoa", "whole names"])
def test_an_image_tower_alone_needs_the_rest(plain, state, tmp_path, form):
    torch.manual_seed(1)
    tuned = open_clip.create_model("small-clip").eval()
    tower = tuned.visual.state_dict()
    torch.save(
        {
            "fare": tower,
            "tecoa": {"epoch": 2, "state_dict": {"pad_up": torch.zeros(3)}, "vision_encoder_state_dict": tower},
            "whole names": {f"visual.{k}": v for k, v in tower.items()},
        }[form],
        tmp_path / "tower.pt",
    )
    with pytest.raises(
        UserError, match=r"holds the image tower alone \(it fits small-clip.*text tower would be random; say where"
    ):
        mmcoa.load_model(tmp_path / "tower.pt")
    with pytest.raises(UserError, match="'small-clip' names no weights"):
        mmcoa.load_model(tmp_path / "tower.pt", arch="small-clip")
    rest = written(state, tmp_path / "rest.pt")
    model = mmcoa.load_model(tmp_path / "tower.pt", arch=str(rest))
    tuned.load_state_dict(state | {f"visual.{k}": v for k, v in tower.items()})
    assert_equal(model, tuned)


def test_a_tower_with_another_embedding_is_refused(state, tmp_path):
    torch.manual_seed(1)
    rest = written(state, tmp_path / "rest.pt")
    tower = open_clip.create_model("small-clip").visual.state_dict()
    for change, message in (
        ({"proj": torch.zeros(64, 8)}, "1 of another shape .visual.proj"),
        ({"conv1.weight": None}, "1 missing .visual.conv1.weight"),
        ({"transformer.resblocks.2.ln_1.weight": torch.zeros(64)}, "1 unexpected .visual.transformer.resblocks.2"),
    ):
        torch.save({k: v for k, v in {**tower, **change}.items() if v is not None}, tmp_path / "tower.pt")
        with pytest.raises(UserError, match=message):
            mmcoa.load_model(tmp_path / "tower.pt", arch=str(rest))


def test_transformers_folders_are_the_same_model(plain, state, tiny, tmp_path, caplog):
    """Both activations; a vocabulary of its own; position ids of old versions; a file alone."""
    from transformers import CLIPModel

    path = written(state, tmp_path / "mine.pt")
    for arch, quick in (("small-clip", "GELU"), ("small-clip-quickgelu", "QuickGELU")):
        before = mmcoa.load_model(path, arch=arch)
        folder = export(before, tmp_path / f"hf-{arch}")
        caplog.clear()
        after = mmcoa.load_model(folder)
        assert f"activation {quick}, as its configuration says" in caplog.text
        assert_equal(after, open_clip.create_model(arch, pretrained=str(path)).eval())
        assert torch.equal(after.mean, before.mean)
    theirs = CLIPModel.from_pretrained(folder).state_dict() | {"text_model.embeddings.position_ids": torch.arange(77)}
    torch.save(theirs, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    assert mmcoa.load_model(folder).fingerprint() == after.fingerprint()
    back = transformers_names.to_open_clip(transformers_names.to_transformers(state))
    assert back.keys() == state.keys() and all(torch.equal(back[k], state[k]) for k in state)
    folder = export(tiny, tmp_path / "tiny")
    pixels = torch.rand(2, 3, 16, 16)
    with torch.no_grad():
        again = mmcoa.load_model(folder)
        torch.testing.assert_close(again.encode_image(pixels), tiny.encode_image(pixels), atol=1e-5, rtol=0)
        torch.testing.assert_close(again.encode_text(["a cat"]), tiny.encode_text(["a cat"]), atol=1e-5, rtol=0)


def test_folders_of_hubs(tiny, tmp_path):
    folder = save_checkpoint(tiny, tmp_path / "hub")
    torch.save(tiny.clip.state_dict(), folder / "open_clip_pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    (folder / "mmcoa.json").unlink()
    model = mmcoa.load_model(folder)
    pixels = torch.rand(2, 3, 16, 16)
    torch.testing.assert_close(model.encode_image(pixels), tiny.encode_image(pixels), atol=1e-5, rtol=0)
    assert torch.equal(model.mean, tiny.mean) and model.name == "hub"


def test_a_configuration_alone_serves_a_file(tiny, tiny_folder, tmp_path):
    path = written(tiny.clip.state_dict(), tmp_path / "mine.pt")
    model = mmcoa.load_model(f"{path}@{tiny_folder}")
    assert torch.equal(model.encode_text(["a cat"]), tiny.encode_text(["a cat"]))
    with pytest.raises(UserError, match="no architecture of open_clip has the shapes .*ViT of width 32, 1 blocks"):
        mmcoa.load_model(path)


def test_what_must_be_unpickled_is_refused_with_the_line_that_converts_it(plain, state, tmp_path):
    torch.save({"state_dict": state, "args": pytest.Mark}, tmp_path / "with args.pt")
    torch.jit.script(torch.nn.Linear(2, 2)).save(tmp_path / "program.pt")
    for name, message in (("with args.pt", "must be unpickled, which runs whatever"), ("program.pt", "TorchScript program")):
        with pytest.raises(UserError, match=message) as refused:
            mmcoa.load_model(tmp_path / name)
        assert "\n" not in str(refused.value)
    code = str(mmcoa_error(tmp_path / "with args.pt")).partition('python -c "')[2].partition('"')[0]
    converted = tmp_path / "converted.safetensors"
    subprocess.run([sys.executable, "-c", code, tmp_path / "with args.pt", converted], check=True)
    assert_equal(mmcoa.load_model(converted), plain)


def mmcoa_error(path, **options):
    with pytest.raises(UserError) as error:
        mmcoa.load_model(path, **options)
    return error.value


def test_bad_files_say_what_they_are(state, tmp_path):
    """Every bad local file used to end in 'is there a network?'."""
    whole = written(state, tmp_path / "whole.pt").read_bytes()
    bad = tmp_path / "ViT-B-32.pt"
    for content, message in (
        (b"", "is empty"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
        (b"<!DOCTYPE html><html>", "web page"),
        (whole[: len(whole) // 2], "half a download"),
        (b"\x00" * 100, "cannot read|must be unpickled"),
    ):
        bad.write_bytes(content)
        for name, arch in ((str(bad), "ViT-B-32"), (f"ViT-B-32/{bad}", None)):
            text = str(mmcoa_error(name, arch=arch))
            assert "network" not in text and str(bad) in text
            with pytest.raises(UserError, match=message):
                mmcoa.load_model(name, arch=arch)
    torch.save([1, 2], bad)
    assert "holds a list" in str(mmcoa_error(bad))
    torch.save({"epoch": 1}, bad)
    assert "no tensors" in str(mmcoa_error(bad))
    assert "no file" in str(mmcoa_error(tmp_path / "absent.pt"))
    assert "no file" in str(mmcoa_error(tmp_path / "absent.pt", arch="ViT-B-32"))
    assert "goes with a model by path" in str(mmcoa_error("openmoji-clip", arch="ViT-B-32"))
    assert "nearest" in str(mmcoa_error(written(state, bad), arch="small-clop"))
    assert "nearest" in str(mmcoa_error(bad, arch="ViT-B-32/opnai"))


def test_two_files_of_weights_are_not_chosen_between(state, tmp_path):
    for name in ("a.pt", "b.pt"):
        written(state, tmp_path / name)
    assert "holds 2 files of weights; name one" in str(mmcoa_error(tmp_path))


def test_what_is_left_out_is_listed(plain, state, tmp_path, caplog):
    assert_equal(mmcoa.load_model(written(state | {"prompter.pad": torch.zeros(2)}, tmp_path / "mine.pt")), plain)
    assert "1 tensors of" in caplog.text and "prompter.pad" in caplog.text
    larger = {**state, "visual.positional_embedding": torch.rand(10, 64)}
    mmcoa.load_model(written(larger, tmp_path / "large.pt"), arch="small-clip")
    assert "reshaped by interpolation: visual.positional_embedding (10, 64) to (5, 64)" in caplog.text


def test_fine_tuning_remembers_where_its_base_lies(tiny_folder, tmp_path, monkeypatch):
    """In any working directory: `neighbours` and `interpolate` need the base."""
    from mmcoa.training.finetune import fine_tune

    base = create_model(tiny_folder)
    written(base.clip.state_dict(), tmp_path / "base.pt")
    shutil.copytree(tiny_folder, tmp_path / "config")
    monkeypatch.chdir(tmp_path)
    config = mmcoa.TrainConfig(steps=1, batch_size=4, samples=8, held_out=0, warmup=0)
    fine_tune("clean", "base.pt@config", "openmoji/birds", "tuned", config, device="cpu")
    monkeypatch.chdir("/")
    tuned = mmcoa.load_model(str(tmp_path / "tuned"))
    assert torch.equal(frozen_model(tuned).encode_text(["a cat"]), base.encode_text(["a cat"]))
    interpolate_checkpoints(str(tmp_path / "tuned"), tmp_path / "half", 0.5)
    (tmp_path / "base.pt").unlink()
    with pytest.raises(
        UserError, match="the frozen base of 'tuned', .*base.pt@.*config', cannot be had: .*; put it there again"
    ):
        frozen_model(tuned)


def test_openais_format_says_its_own_sizes(tmp_path):
    """As open_clip builds OpenAI's models, for sizes that none of its architectures has."""
    from open_clip.openai import build_model_from_openai_state_dict

    torch.manual_seed(0)
    heads = {
        "vision_cfg": SMALL["vision_cfg"] | {"head_width": 64, "layers": 3},
        "text_cfg": SMALL["text_cfg"] | {"width": 64, "heads": 1},
    }
    state = {name: value.half() for name, value in open_clip.CLIP(**(SMALL | heads)).state_dict().items()}
    extra = {"input_resolution": torch.tensor(32), "context_length": torch.tensor(77), "vocab_size": torch.tensor(49408)}
    theirs = build_model_from_openai_state_dict(dict(state), cast_dtype=torch.float32).float().eval()
    theirs.visual.preprocess_cfg = architectures.expected("ViT-B-32", "openai")[1]
    assert_equal(mmcoa.load_model(written(state | extra, tmp_path / "small.pt")), theirs)


def test_a_base_that_is_a_checkpoint_folder_is_found_again_or_missed(tiny_folder, tmp_path, monkeypatch):
    """Never is the tuned model taken for its own base."""
    from mmcoa.training.finetune import fine_tune

    first, second = create_model(tiny_folder, seed=1), create_model(tiny_folder, seed=2)
    save_checkpoint(first, tmp_path / "work" / "base", {"name": "my-clip"})
    monkeypatch.chdir(tmp_path / "work")
    config = mmcoa.TrainConfig(steps=1, batch_size=4, samples=8, held_out=0, warmup=0, lr=0.1)
    fine_tune("clean", "base", "openmoji/birds", "runs/my-clip", config, device="cpu")  # called as the base is
    fine_tune("clean", "runs/my-clip", "openmoji/birds", "runs/later", config, device="cpu")
    monkeypatch.chdir("/")
    for name in ("my-clip", "later"):
        tuned = mmcoa.load_model(str(tmp_path / "work" / "runs" / name))
        assert tuned.fingerprint() != first.fingerprint() and frozen_model(tuned).fingerprint() == first.fingerprint()
    (tmp_path / "work").rename(tmp_path / "moved")  # all together
    tuned = mmcoa.load_model(str(tmp_path / "moved" / "runs" / "later"))
    assert frozen_model(tuned).fingerprint() == first.fingerprint() and frozen_model(first) is first
    save_checkpoint(second, tmp_path / "moved" / "base", {"name": "my-clip"})
    with pytest.raises(UserError, match="frozen base of 'later', 'my-clip', cannot be had: .*base_folder for a folder"):
        frozen_model(tuned)
    tuned.metadata = {"base_model": "hf-hub:nobody/nothing"}  # not in the cache, of an older version
    with pytest.raises(UserError, match="frozen base of 'later', 'hf-hub:nobody/nothing', cannot be had"):
        mmcoa.evaluate(
            tuned, mmcoa.load_dataset("openmoji/birds", samples=4), ["text"], ThreatModel(candidate_source="neighbours")
        )


def test_a_guess_is_doubted_where_the_model_knows_nothing(state, tmp_path, embedded):
    """Near chance after a guessed activation; nothing is said of a model that states how it is read, or knows the set."""
    from mmcoa.evaluation.notes import near_chance

    data = mmcoa.load_dataset("openmoji/birds", samples=42)
    notes = mmcoa.evaluate(mmcoa.load_model(written(state, tmp_path / "mine.pt"), arch="small-clip"), data, ["clean"]).notes
    (said,) = [note for note in notes if "near chance" in note]
    assert "chance 4.8 %" in said and "the file does not say" in said and "--arch ARCH/openai" in said
    assert not mmcoa.evaluate(embedded, data.prefix(21), ["clean"]).notes
    row = {"attack": "clean", "classes": 10, "n": 100, "ci_low": 9.0, "accuracy": 15.0, "dataset": "x"}
    guessed = mmcoa.load_model(str(tmp_path / "mine.pt"), arch="small-clip")
    assert near_chance(guessed, [row]) and not near_chance(guessed, [row | {"ci_low": 11.0}])
    assert not near_chance(guessed, [row | {"attack": "image"}]) and not near_chance(guessed, [row | {"n": 5}])
    guessed.assumed = []
    assert not near_chance(guessed, [row])
