"""Reader of folders in the clip-benchmark WebDataset layout.

    <folder>/classnames.txt, zeroshot_classification_templates.txt, <split>/nshards.txt, <split>/<n>.tar
    with members <key>.cls (the label as text) and <key>.jpg, .jpeg, .png or .webp

Members are read in memory, nothing is unpacked to disk and nothing unpickled; pictures are decoded one by one and only
those that were asked for.
"""

import io
import tarfile
from collections import Counter
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from PIL import Image

from mmcoa.datasets import Streamed
from mmcoa.errors import UserError

PICTURES = (".jpg", ".jpeg", ".png", ".webp")


def read_lines(path):
    """Lines of a text file of the layout; `UserError` where it is missing or empty."""
    try:
        lines = [line for line in path.read_text(encoding="utf8").splitlines() if line.strip()]
    except OSError as error:
        raise UserError(f"{path} is missing; a WebDataset folder in the clip-benchmark layout has it") from error
    if not lines:
        raise UserError(f"{path} is empty")
    return lines


def available_splits(folder):
    """Names of the split folders."""
    return sorted(path.parent.name for path in Path(folder).glob("*/nshards.txt"))


class WebDatasetFolder:
    """One split: class names, template, labels of all samples; pictures on demand."""

    def __init__(self, folder, split):
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise UserError(f"no folder {self.folder}; --dataset wds:FOLDER names one in the clip-benchmark layout")
        self.class_names = read_lines(self.folder / "classnames.txt")
        self.template = read_lines(self.folder / "zeroshot_classification_templates.txt")[0]
        splits = available_splits(self.folder)
        if split not in splits:
            raise UserError(f"{self.folder} has no split '{split}'; it has: {', '.join(splits) or 'none'}")
        count = int(read_lines(self.folder / split / "nshards.txt")[0])
        self.shards = [self.folder / split / f"{i}.tar" for i in range(count)]
        labels, self.places = [], []
        for shard in self.shards:
            for key, members in self._members(shard).items():
                try:
                    labels.append(int(members["cls"]))
                    self.places.append((shard, members["picture"]))
                except (KeyError, ValueError) as error:
                    raise UserError(f"damaged shard {shard}: sample '{key}' lacks a picture or a label; fetch the file again") from error
        self.labels = torch.tensor(labels, dtype=torch.int64)
        if len(labels) and not 0 <= int(self.labels.min()) <= int(self.labels.max()) < len(self.class_names):
            raise UserError(f"{self.folder}/{split}: labels outside 0..{len(self.class_names) - 1}, the range of classnames.txt")

    @staticmethod
    def _members(shard):
        """{key: {"cls": label bytes, "picture": (offset, size)}} of one shard, in file order."""
        samples = {}
        try:
            with tarfile.open(shard) as archive:
                for member in archive:
                    path = PurePosixPath(member.name)
                    entry = samples.setdefault(str(path.with_suffix("")), {})
                    if path.suffix == ".cls":
                        entry["cls"] = archive.extractfile(member).read()
                    elif path.suffix.lower() in PICTURES:
                        entry["picture"] = (member.offset_data, member.size)
        except (OSError, tarfile.TarError) as error:
            raise UserError(f"missing or damaged shard {shard} ({error}); fetch the file again") from error
        return samples

    def stream(self, order):
        """`images(order)` that are read and decoded when they are asked for."""
        size = self.images(order[:64]).shape[-1] if len(order) else None  # one size for all: that of `images(order)`
        return Streamed(lambda part: self.images(part.tolist(), size), order)

    def images(self, indices, size=None):
        """Pictures of the samples at `indices`, uint8 [N, 3, S, S]: shorter side to S, centre crop.

        `size` S: default the most common shorter side among the first 64 pictures.
        """
        pictures = []
        for index in indices:
            shard, (offset, length) = self.places[index]
            with shard.open("rb") as file:
                file.seek(offset)
                data = file.read(length)
            try:
                pictures.append(Image.open(io.BytesIO(data)).convert("RGB"))
            except Exception as error:
                raise UserError(f"unreadable picture {index} in {shard}: {error}; fetch the file again") from error
            if size is None and len(pictures) == min(64, len(indices)):
                size = Counter(min(picture.size) for picture in pictures).most_common(1)[0][0]
                pictures = [to_square(picture, size) for picture in pictures]
            elif size is not None:
                pictures[-1] = to_square(pictures[-1], size)
        return torch.stack(pictures)


def to_square(picture, size):
    """PIL picture -> uint8 [3, size, size]: shorter side to `size` (bicubic), then the centre."""
    width, height = picture.size
    if min(width, height) != size:
        scale = size / min(width, height)
        picture = picture.resize((max(size, round(width * scale)), max(size, round(height * scale))), Image.Resampling.BICUBIC)
        width, height = picture.size
    left, top = (width - size) // 2, (height - size) // 2
    pixels = np.array(picture.crop((left, top, left + size, top + size)))
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()
