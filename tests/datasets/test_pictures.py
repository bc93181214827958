"""The cache of decoded pictures, the transforms, and the split by path."""

from collections import Counter

import numpy as np
import pytest
import torch
from open_clip.transform import image_transform
from PIL import Image
from torchvision.transforms import v2

from mmcoa.cache import cache_folder
from mmcoa.datasets import pictures
from mmcoa.datasets.order import is_test, split_by_path
from mmcoa.datasets.pictures import Pictures
from mmcoa.datasets.source import Source
from mmcoa.datasets.transforms import Transform, choose
from mmcoa.errors import UserError

SMALL = Transform(8, 8)
SIZES = [(20, 12), (9, 30), (8, 8), (64, 64), (11, 11), (300, 8)]


@pytest.fixture
def source(tmp_path, monkeypatch):
    """Six pictures of noise; `source.decode.calls` counts what is decoded. The cache is its own."""
    monkeypatch.setenv("MMCOA_CACHE", str(tmp_path / "cache"))
    rng, files = np.random.default_rng(0), []
    for i, (width, height) in enumerate(SIZES):
        files.append(tmp_path / f"{i}.png")
        Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8)).save(files[-1])

    def decode(i):
        decode.calls[i] += 1
        return Image.open(files[i])

    decode.calls = Counter()
    return Source(torch.arange(6), [path.name for path in files], tmp_path, None, decode, files=files)


def cache_files(suffix):
    return sorted((cache_folder() / "pictures").glob(f"*.{suffix}"))


def test_the_second_read_equals_the_first_and_decodes_nothing(source):
    order = torch.tensor([4, 0, 5, 1, 3, 2])
    first = Pictures(source, SMALL)(order)
    assert first.shape == (6, 3, 8, 8) and first.dtype == torch.uint8 and source.decode.calls.total() == 6
    again = Pictures(source, SMALL)
    assert torch.equal(again(order), first) and torch.equal(again(order.sort().values)[order], first)
    assert source.decode.calls.total() == 6
    expected = [SMALL(Image.open(source.files[i])) for i in order.tolist()]
    assert np.array_equal(first.permute(0, 2, 3, 1).numpy(), np.stack(expected))


def test_a_part_leaves_the_rest_for_later(source):
    Pictures(source, SMALL)(torch.tensor([1, 1, 4]))
    whole = Pictures(source, SMALL)(torch.arange(6))
    assert source.decode.calls == Counter({1: 2, 0: 1, 2: 1, 3: 1, 4: 1, 5: 1})  # asked for twice in one call: decoded twice
    assert torch.equal(whole[4], Pictures(source, SMALL)(torch.tensor([4]))[0])


@pytest.mark.parametrize("suffix", ["pixels", "crc"])
@pytest.mark.parametrize("harm", ["flip", "cut", "empty"])
def test_a_damaged_cache_is_noticed(source, suffix, harm):
    first = Pictures(source, SMALL)(torch.arange(6))
    [path] = cache_files(suffix)
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle] ^= 1
    path.write_bytes({"flip": content, "cut": content[:middle], "empty": b""}[harm])
    assert torch.equal(Pictures(source, SMALL)(torch.arange(6)), first)
    assert source.decode.calls.total() > 6
    calls = source.decode.calls.total()
    assert torch.equal(Pictures(source, SMALL)(torch.arange(6)), first) and source.decode.calls.total() == calls  # mended


@pytest.mark.parametrize("whole", [0, 1e9])
def test_a_changed_file_and_another_transform_have_their_own(source, whole, monkeypatch):
    monkeypatch.setattr(pictures, "HASHED_WHOLE", whole)
    Pictures(source, SMALL)(torch.arange(6))
    Image.new("RGB", (8, 8), (1, 2, 3)).save(source.files[2])
    assert Pictures(source, SMALL)(torch.tensor([2]))[0, :, 0, 0].tolist() == [1, 2, 3]
    assert len(cache_files("pixels")) == 2
    for other in (Transform(6, 6), Transform(10, 8), Transform(8, 8, "bilinear")):
        assert Pictures(source, other)(torch.arange(6)).shape[-1] == other.crop
    assert len(cache_files("pixels")) == 5
    Pictures(source.part(torch.tensor([0, 1])), SMALL)(torch.arange(2))
    assert len(cache_files("pixels")) == 6


def test_an_unwritable_folder_costs_time_only(source, tmp_path, monkeypatch):
    expected = Pictures(source, SMALL)(torch.arange(6))
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("MMCOA_CACHE", str(tmp_path / "file"))
    assert torch.equal(Pictures(source, SMALL)(torch.arange(6)), expected)


def test_a_full_disk_and_large_sets_are_not_cached(source, monkeypatch):
    monkeypatch.setattr(pictures, "LARGEST", 6 * 3 * 8 * 8 - 1)
    expected = Pictures(source, SMALL)(torch.arange(6))
    monkeypatch.undo()
    monkeypatch.setenv("MMCOA_CACHE", str(source.folder / "other"))

    class Usage:
        free = 10

    monkeypatch.setattr(pictures.shutil, "disk_usage", lambda folder: Usage)
    assert torch.equal(Pictures(source, SMALL)(torch.arange(6)), expected)
    assert not cache_files("pixels") and not list((source.folder / "cache").rglob("*.pixels"))


def test_threads_do_not_matter(source, tmp_path, monkeypatch):
    found = []
    for threads in (1, 4):
        monkeypatch.setattr(pictures, "THREADS", threads)
        monkeypatch.setenv("MMCOA_CACHE", str(tmp_path / f"cache{threads}"))
        found.append(Pictures(source, SMALL)(torch.arange(6).repeat(5)))
    assert torch.equal(*found)


def test_what_cannot_be_read(source):
    source.files[3].write_bytes(source.files[3].read_bytes()[:200])
    source.files[5].unlink()
    read = Pictures(source, SMALL)
    with pytest.raises(UserError, match=r"unreadable picture 3\.png"):
        read(torch.tensor([0, 3]))
    kept, lost = read.readable(torch.arange(6))
    assert kept.tolist() == [0, 1, 2, 4] and lost == ["3.png", "5.png"]
    assert Pictures(source, SMALL).readable(torch.arange(6))[1] == ["3.png", "5.png"]


# Transforms


@pytest.mark.parametrize("size", [(300, 400), (500, 375), (100, 40), (224, 224), (256, 256), (257, 1000)])
def test_transforms_are_those_of_torchvision_and_open_clip(size):
    picture = Image.fromarray(np.random.default_rng(1).integers(0, 256, (*size[::-1], 3), np.uint8))
    reference = v2.Compose([v2.Resize(256), v2.CenterCrop(224)])
    assert np.array_equal(choose("reference", None)(picture), np.asarray(reference(picture)))
    for side in (64, 224):
        tensor = image_transform(side, is_train=False, mean=(0, 0, 0), std=(1, 1, 1))(picture)
        pixels = (tensor * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
        assert np.array_equal(choose("openclip", None, side)(picture), pixels)


@pytest.mark.parametrize("mode", ["shortest", "longest", "squash"])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("size", [(61, 40), (40, 61), (40, 40)])
def test_resizing_is_as_the_models_configuration_says(tiny, mode, interpolation, size):
    """Of pictures on disk to the bit, and inside the model to a grey level: open_clip's own transform is the measure."""
    from mmcoa.model.clip import ImageTextModel

    picture = Image.fromarray(np.random.default_rng(3).integers(0, 256, (*size[::-1], 3), np.uint8))
    of = dict(is_train=False, mean=(0, 0, 0), std=(1, 1, 1), interpolation=interpolation, resize_mode=mode)
    expected = image_transform(16, **of)(picture)
    preprocess = tiny.config["preprocess_cfg"] | {"interpolation": interpolation, "resize_mode": mode}
    model = ImageTextModel(tiny.clip, tiny.tokenizer, "m", {**tiny.config, "preprocess_cfg": preprocess})
    ours = choose("openclip", None, **model.picture_input)(picture)
    assert np.array_equal(ours, (expected * 255).round().to(torch.uint8).permute(1, 2, 0).numpy())
    inside = model.resized(torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None] / 255)[0]
    assert (inside - expected).abs().max() < 1.5 / 255


def test_a_native_size_is_kept_under_both_presets():
    picture = Image.fromarray(np.random.default_rng(2).integers(0, 256, (32, 32, 3), np.uint8))
    for preset in ("reference", "openclip"):
        assert np.array_equal(choose(preset, 32, 224)(picture), np.asarray(picture))
    with pytest.raises(UserError, match="its size is needed"):
        choose("openclip", None)
    with pytest.raises(UserError, match="nearest: reference"):
        choose("referense", None)


@pytest.mark.parametrize("mode, value, shown", [("L", 100, 100), ("I;16", 100 << 8, 100), ("I", 100 << 8, 100), ("1", 1, 255)])
def test_grey_modes(mode, value, shown):
    assert set(SMALL(Image.new(mode, (8, 8), value)).flatten().tolist()) == {shown}


def test_transparency_is_dropped_not_painted():
    assert SMALL(Image.new("RGBA", (8, 8), (10, 20, 30, 0)))[0, 0].tolist() == [10, 20, 30]


# Data sets without a split


def test_the_split_by_path_never_changes():
    keys = [f"class_{i % 7}/image_{i:04d}.jpg" for i in range(10_000)]
    share = sum(map(is_test, keys)) / len(keys)
    assert abs(share - 0.2) < 0.01
    assert [i for i in range(40) if is_test(keys[i])] == [4, 5, 10, 13, 19, 25, 26, 27, 31, 32, 34]
    test, train = (split_by_path(keys, split) for split in ("test", "train"))
    assert sorted([*test.tolist(), *train.tolist()]) == list(range(10_000))
    fewer = split_by_path(keys[::-1][5:], "test")
    assert {keys[::-1][5:][i] for i in fewer.tolist()} == {keys[i] for i in test.tolist() if i < 9_995}
