"""Lines of the speed table about reading pictures: small ones, first time and from the cache; 224-pixel JPEGs as a stream.

Small pictures are those of `wds_cifar10` under $MMCOA_DATA where it is there, else drawn ones in the same layout and number.
The stream is compared with torchvision's own decoder, given the same files in batches of the same size and as many threads.
"""

import io
import os
import tarfile
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from common import line, race, require, timed
from PIL import Image
from torchvision.io import ImageReadMode, decode_image, read_file

import mmcoa
from mmcoa.datasets.pictures import THREADS, Pictures
from mmcoa.datasets.place import data_root
from mmcoa.datasets.source import Source
from mmcoa.datasets.transforms import Transform

STREAMED = 224


def drawn(rng, side):
    """A picture with large shapes and some grain, [side, side, 3]: it compresses about as a photograph does."""
    coarse = Image.fromarray(rng.integers(0, 256, (7, 7, 3), np.uint8)).resize((side, side), Image.Resampling.BICUBIC)
    return (np.asarray(coarse, np.int16) + rng.integers(-8, 9, (side, side, 3))).clip(0, 255).astype(np.uint8)


def jpeg(rng, side):
    file = io.BytesIO()
    Image.fromarray(drawn(rng, side)).save(file, format="jpeg", quality=90)
    return file.getvalue()


def write_folder(folder, count, side=32):
    """A folder in the clip-benchmark layout with `count` drawn JPEGs of ten classes."""
    (folder / "train").mkdir(parents=True)
    (folder / "classnames.txt").write_text("\n".join(f"class {c}" for c in range(10)))
    (folder / "zeroshot_classification_templates.txt").write_text("a photo of a {c}.\n")
    (folder / "train" / "nshards.txt").write_text("1")
    rng = np.random.default_rng(0)
    with tarfile.open(folder / "train" / "0.tar", "w") as archive:
        for i in range(count):
            for suffix, content in (("cls", str(i % 10).encode()), ("jpg", jpeg(rng, side))):
                info = tarfile.TarInfo(f"s{i:07d}.{suffix}")
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    return folder


@contextmanager
def empty_cache():
    """A cache folder of its own, in which nothing is."""
    kept = os.environ.get("MMCOA_CACHE")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["MMCOA_CACHE"] = folder
        try:
            yield
        finally:
            os.environ.pop("MMCOA_CACHE")
            if kept is not None:
                os.environ["MMCOA_CACHE"] = kept


def small_lines(settings):
    """Labels, pictures and prompts of a train split as one tensor: nothing cached, then everything."""
    with tempfile.TemporaryDirectory() as temporary:
        folder, what = data_root() / "wds_cifar10", "wds_cifar10, train"
        if settings.small < 20_000 or not folder.is_dir():
            folder, what = write_folder(Path(temporary) / "wds_drawn", settings.small), "drawn JPEGs"
        first, cached = [], []
        for _ in range(settings.repeats):
            with empty_cache():
                seconds, whole = timed(lambda: mmcoa.load_dataset(f"wds:{folder}", "train"))
                first.append(seconds)
                seconds, again = timed(lambda: mmcoa.load_dataset(f"wds:{folder}", "train"))
                cached.append(seconds)
            require(torch.equal(whole.images, again.images), "pictures from the cache")
    setting = f"{len(whole)} pictures of {whole.images.shape[-1]} px ({what}), WebDataset shards to one tensor"
    return [
        line("reading, first time", setting, min(first), None, "s", "8 s"),
        line("reading, from the cache", setting, min(cached), None, "s", "1 s"),
    ]


def stream_line(settings):
    """Batches of 64 from JPEG files, uint8 [64, 3, 224, 224], nothing cached."""
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as temporary:
        paths = []
        for i in range(settings.streamed):
            paths.append(Path(temporary) / f"{i}.jpg")
            paths[-1].write_bytes(jpeg(rng, STREAMED))
        labels = torch.zeros(len(paths), dtype=torch.int64)
        source = Source(labels, [path.name for path in paths], Path(temporary), decode=lambda i: Image.open(paths[i]))
        batches, pictures = torch.arange(len(paths)).split(64), Pictures(source, Transform(STREAMED, STREAMED))

        def ours():
            return sum(int(pictures(batch)[:, :, 0, 0].sum()) for batch in batches)

        def torchvisions():
            with ThreadPoolExecutor(THREADS) as pool:
                decode = lambda i: decode_image(read_file(str(paths[i])), ImageReadMode.RGB)  # noqa: E731
                return sum(int(torch.stack(list(pool.map(decode, batch.tolist())))[:, :, 0, 0].sum()) for batch in batches)

        seconds, baseline, found, expected = race(ours, torchvisions, settings.repeats)
    require(abs(found - expected) <= 3 * len(paths), f"corner pixels {found} and {expected}")  # two builds of libjpeg
    setting = f"{len(paths)} JPEGs of {STREAMED} px, batches of 64, {THREADS} threads; baseline torchvision.io"
    return line("streaming JPEGs", setting, seconds, baseline, "s", "0.9x")


def reading_lines(settings, device):
    return [*small_lines(settings), stream_line(settings)]
