"""Clean zero-shot accuracy is that of clip-benchmark, sample by sample.

Their side is open_clip and clip-benchmark alone (benchmarks/clean.py): weights, tokenizer, reader, prompts, classifier and
loop. With the same resized pixels every prediction is the same. open_clip's own transform resizes 8-bit pictures with PIL
and rounds, where ours resizes in floating point, as an attack needs it: pictures at the model's size agree to the last one
there too, resized ones but for samples on the border of two classes.
"""

import sys
import tarfile
from pathlib import Path

import pytest
import torch

from mmcoa.model.loading import embedded_folder

pytest.importorskip("clip_benchmark", reason="installed by `make test`")
sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))
import clean
import memory

CHECKPOINT = embedded_folder("openmoji-clip")


def gap(logits):
    """Largest minus second largest logit of each sample, [N]."""
    first, second = logits.topk(2, dim=1).values.unbind(dim=1)
    return first - second


def alike(logits, predictions):
    """Whether all predictions are those of the logits, ties to rounding aside."""
    return ((logits.argmax(dim=1) == predictions) | (gap(logits) < 1e-4)).all()


@pytest.mark.parametrize("pixels", [64, 96])
def test_generated_pictures_are_classified_alike(tmp_path, pixels):
    """OpenMoji birds at the model's size and larger; every bird occurs, in file order of no particular kind."""
    folder = tmp_path / "wds_birds"
    memory.write_folder(folder, 42, shard=42, pixels=pixels)
    ours, labels = clean.ours(folder, CHECKPOINT)
    assert labels.unique().numel() == 21 and (ours == labels).float().mean() > 0.8
    logits, theirs = clean.theirs(folder, CHECKPOINT, transform=clean.same_pixels(CHECKPOINT))
    assert torch.equal(theirs, labels) and alike(logits, ours)
    logits, _ = clean.theirs(folder, CHECKPOINT)  # open_clip's own transform
    differing = logits.argmax(dim=1) != ours
    assert not differing.any() if pixels == 64 else (gap(logits)[differing] < 0.2).all()


def test_a_shuffled_or_mislabelled_reader_would_be_seen(tmp_path):
    """The comparison can fail: with two pictures exchanged in the file, theirs no longer equals ours of the first file."""
    for name in ("first", "second"):
        memory.write_folder(tmp_path / name, 4, shard=4, pixels=64)
    shard = tmp_path / "second" / "test" / "0.tar"
    with tarfile.open(shard) as archive:
        members = {m.name: archive.extractfile(m).read() for m in archive}
    members["00000.jpg"], members["00001.jpg"] = members["00001.jpg"], members["00000.jpg"]
    with tarfile.open(shard, "w") as archive:
        for name, content in members.items():
            memory.add_member(archive, name, content)
    ours, _ = clean.ours(tmp_path / "first", CHECKPOINT)
    logits, _ = clean.theirs(tmp_path / "second", CHECKPOINT)
    assert (logits.argmax(dim=1) != ours).tolist() == [True, True, False, False]


@pytest.mark.slow
def test_cifar10_to_the_sample(shared_data):
    """5,000 photographs at 32 px, far from what the embedded model knows: small gaps, so the hardest case for agreement."""
    folder = Path(shared_data) / "wds_cifar10"
    ours, labels = clean.ours(folder, CHECKPOINT)
    logits, theirs = clean.theirs(folder, CHECKPOINT, transform=clean.same_pixels(CHECKPOINT))
    assert len(labels) == 5000 and torch.equal(theirs, labels)
    assert alike(logits, ours)
    logits, _ = clean.theirs(folder, CHECKPOINT, samples=1000)
    differing = logits.argmax(dim=1) != ours[:1000]
    assert differing.float().mean() < 0.01 and (gap(logits)[differing] < 0.2).all()
