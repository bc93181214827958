import io
import tarfile

import numpy as np
import pytest
import torch
from PIL import Image

import mmcoa
from mmcoa.datasets.transforms import Transform
from mmcoa.errors import UserError


def write_folder(folder, sizes, labels, classes=("red_fox", "Sea/lion"), split="test", fmt="png"):
    """A folder in the clip-benchmark layout; picture i is uniformly grey, of value 10 i."""
    (folder / split).mkdir(parents=True)
    (folder / "classnames.txt").write_text("\n".join(classes) + "\n")
    (folder / "zeroshot_classification_templates.txt").write_text("a photo of a {c}.\nanother {c}\n")
    (folder / split / "nshards.txt").write_text("2\n")
    for shard in range(2):
        with tarfile.open(folder / split / f"{shard}.tar", "w") as archive:
            for i in range(shard, len(sizes), 2):
                data = io.BytesIO()
                Image.fromarray(np.full((*sizes[i][::-1], 3), 10 * i, np.uint8)).save(data, format=fmt)
                for suffix, content in ((f".{fmt}", data.getvalue()), (".cls", str(labels[i]).encode())):
                    info = tarfile.TarInfo(f"s{i:03d}{suffix}")
                    info.size = len(content)
                    archive.addfile(info, io.BytesIO(content))
    return folder


@pytest.fixture
def folder(tmp_path):
    return write_folder(tmp_path / "wds_small", [(8, 8), (16, 8), (8, 12), (24, 24)], [0, 1, 0, 1])


def test_reads_every_sample_once(folder):
    dataset = mmcoa.load_dataset(f"wds:{folder}")
    assert dataset.name == "wds:wds_small" and dataset.images.shape == (4, 3, 224, 224)
    assert dataset.prompts == ["a photo of a red_fox.", "a photo of a Sea/lion."]  # as the user spelled them
    assert dataset.prompt_sets()[1] == ["another red_fox", "another Sea/lion"]  # all templates
    assert mmcoa.load_dataset(f"wds:{folder}", template="a {}").prompt_sets() == [["a red_fox", "a Sea/lion"]]
    # file order: shard 0 holds pictures 0 and 2, shard 1 holds 1 and 3
    grey = {0: 0, 1: 20, 2: 10, 3: 30}
    assert [int(image.float().mean().round()) for image in dataset.images] == [grey[i] for i in dataset.ids.tolist()]
    assert sorted(dataset.ids.tolist()) == [0, 1, 2, 3]
    assert mmcoa.load_dataset(f"wds:{folder}", samples=2).labels.sort().values.tolist() == [0, 1]


def test_a_wide_picture_is_cut_at_its_centre(tmp_path):
    folder = write_folder(tmp_path / "wds", [(8, 8)] * 2, [0, 1])
    wide = np.zeros((8, 24, 3), np.uint8)
    wide[:, 8:16] = 255
    assert (Transform(8, 8)(Image.fromarray(wide)) == 255).all()
    assert mmcoa.load_dataset(f"wds:{folder}").images.shape[-1] == 8


def test_the_tiny_model_evaluates_such_a_folder(tiny, folder):
    rows = mmcoa.evaluate(tiny, mmcoa.load_dataset(f"wds:{folder}"), ["clean", "image", "text"])
    assert [row["n"] for row in rows] == [4, 4, 4] and rows[0]["dataset"] == "wds:wds_small"


def test_what_is_missing_or_damaged_is_named(folder):
    with pytest.raises(UserError, match="unknown split 'train'; one of: test"):
        mmcoa.load_dataset(f"wds:{folder}", split="train")
    with pytest.raises(UserError, match="no folder"):
        mmcoa.load_dataset(f"wds:{folder}-absent")
    shard = folder / "test" / "1.tar"
    whole = shard.read_bytes()
    shard.write_bytes(whole[:700])
    with pytest.raises(UserError, match=r"shard .*1\.tar"):
        mmcoa.load_dataset(f"wds:{folder}")
    shard.write_bytes(whole.replace(b"IHDR", b"XXXX"))
    with pytest.raises(UserError, match=r"unreadable picture .*1\.tar"):
        mmcoa.load_dataset(f"wds:{folder}")
    shard.unlink()
    with pytest.raises(UserError, match=r"missing or damaged shard .*1\.tar"):
        mmcoa.load_dataset(f"wds:{folder}")
    (folder / "classnames.txt").write_text("")
    with pytest.raises(UserError, match="classnames.txt is empty"):
        mmcoa.load_dataset(f"wds:{folder}")


def test_labels_must_fit_the_class_names(tmp_path):
    folder = write_folder(tmp_path / "wds", [(8, 8)] * 2, [0, 5])
    with pytest.raises(UserError, match=r"labels outside 0\.\.1"):
        mmcoa.load_dataset(f"wds:{folder}")


def test_real_photographs(shared_data):
    dataset = mmcoa.load_dataset(f"wds:{shared_data}/wds_cifar10", samples=30)
    assert dataset.images.shape == (30, 3, 32, 32) and dataset.prompts[0] == "a photo of a airplane."
    assert torch.bincount(dataset.labels).tolist() == [3] * 10
    assert mmcoa.load_dataset(f"wds:{shared_data}/wds_caltech101", samples=5).images.shape[-2:] == (96, 96)
