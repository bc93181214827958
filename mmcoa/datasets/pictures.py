"""Pictures of a source at one size, decoded by threads and kept decoded on disk.

The cache is a file of pixels, filled sample by sample as pictures are asked for and read through a memory map: the second pass
runs at memory speed, in any order, whatever part the first one read. It is keyed by the files' content and by the transform;
each sample has a checksum, so that what is half written or damaged is decoded again.
"""

import contextlib
import hashlib
import os
import re
import shutil
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from mmcoa.cache import cache_folder
from mmcoa.datasets.transforms import as_tensor, to_rgb
from mmcoa.errors import UserError

VERSION = 1  # of the cache: part of its key
HASHED_WHOLE = 256e6  # bytes of files up to which their content is the key; beyond, size and time of change
LARGEST = 10e9  # bytes of pixels of a split that is cached
IN_MEMORY = 2e9  # bytes of pixels of a split that is kept as one tensor
THREADS = min(16, os.cpu_count() or 1)


class Pictures:
    """`pictures(order)` -> uint8 [n, 3, S, S]; `order`: int64 places in the source."""

    def __init__(self, source, transform):
        self.source, self.transform = source, transform
        self.key = None if source.pixels is not None or not source.files else content_of(source, transform)
        self.cache = None if source.pixels is not None else open_cache(source, transform, self.key)

    @property
    def bytes(self):
        """Of all pictures, decoded."""
        source = self.source
        return source.pixels.numel() if source.pixels is not None else len(source) * 3 * self.transform.crop**2

    def __call__(self, order):
        if self.source.pixels is not None:
            return self.source.pixels[order]
        side = self.transform.crop
        pixels = np.empty((len(order), side, side, 3), np.uint8)
        places = order.tolist()
        missing = list(range(len(places))) if self.cache is None else self.cache.read(places, pixels)
        if missing:

            def fill(rows):
                for row in rows:
                    self._decode(places[row], pixels[row])

            with ThreadPoolExecutor(THREADS) as pool:  # libjpeg and zlib work outside Python's lock
                list(pool.map(fill, np.array_split(missing, min(len(missing), 4 * THREADS))))
            if self.cache is not None:
                self.cache.write([places[row] for row in missing], pixels[missing])
        return as_tensor(pixels)

    def _decode(self, place, out):
        try:
            picture = self.source.decode(place)
            out[:] = self.transform(picture)
        except Exception as error:
            reason = re.sub(r" <.*>$", "", str(error)) or type(error).__name__  # an object's address says nothing
            raise UnreadablePicture(
                f"unreadable picture {self.source.keys[place]} in {self.source.folder}: {reason}; "
                "leave such pictures out with --skip-unreadable"
            ) from error

    def readable(self, order, wanted=None):
        """The part of `order` whose pictures decode, at least `wanted` where there are so many, and the keys of the others."""
        kept, lost = [], []
        for part in order.split(256):
            if wanted is not None and len(kept) >= wanted:
                break
            try:
                self(part)
                kept += part.tolist()
            except UnreadablePicture:
                for place in part.tolist():
                    try:
                        self(torch.tensor([place]))
                        kept.append(place)
                    except UnreadablePicture:
                        lost.append(self.source.keys[place])
        return torch.tensor(kept, dtype=torch.int64), lost


class UnreadablePicture(UserError):
    """A picture that its decoder refuses."""


def content_of(source, transform):
    """Hex digits of all that pictures of a source are made from: equal digits, equal pixels; None: a file is gone."""
    try:
        files = content_key(source.files)
    except OSError:
        return None
    key = hashlib.sha256(f"{VERSION}\n{transform}\n{files}\n{len(source)}\n".encode())
    key.update("\n".join(source.keys).encode())
    return key.hexdigest()[:32]


def open_cache(source, transform, key):
    """The cache of a source's pictures under a transform; None where it has no files, is too large, or the disk says no."""
    size = len(source) * 3 * transform.crop**2
    if key is None or not size or size > LARGEST:
        return None
    folder = cache_folder() / "pictures"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if shutil.disk_usage(folder).free < 2 * size:
            return None
        return DecodedCache(folder / key, len(source), transform.crop)
    except OSError:
        return None


def content_key(files):
    """Hash of what files hold: of their bytes up to `HASHED_WHOLE`, beyond that of their names, sizes and times of change."""
    digest, stats = hashlib.sha256(), [(path, path.stat()) for path in files]
    whole = sum(stat.st_size for _, stat in stats) <= HASHED_WHOLE
    for path, stat in stats:
        digest.update(f"{path.name}\t{stat.st_size}\t{'' if whole else stat.st_mtime_ns}\n".encode())
        if whole:
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


class DecodedCache:
    """Decoded pixels of N pictures in `path`.pixels [N, S, S, 3], and their checksums in `path`.crc [N]; 0: not there yet.

    Nothing is mapped into memory: a full disk is an error that costs the cache, not a signal that kills, and pages that were
    read count for no process, however many pictures there are.
    """

    def __init__(self, path, count, side):
        self.shape, self.item = (count, side, side, 3), 3 * side * side
        names = [path.with_suffix(".pixels"), path.with_suffix(".crc")]
        self.files = [os.open(name, os.O_RDWR | os.O_CREAT, 0o644) for name in names]
        for file, size in zip(self.files, (count * self.item, 4 * count), strict=True):
            if os.fstat(file).st_size != size:
                os.ftruncate(file, size)

    def __del__(self):
        for file in getattr(self, "files", ()):
            with contextlib.suppress(OSError):
                os.close(file)

    def read(self, places, out):
        """Copy what is there into `out` [n, S, S, 3]; the rows that are not."""
        known = np.frombuffer(os.pread(self.files[1], 4 * self.shape[0], 0), np.uint32)[places]
        there = np.flatnonzero(known)
        for row in there:
            content = os.pread(self.files[0], self.item, places[row] * self.item)
            if len(content) == self.item:  # else the checksum will tell
                out[row] = np.frombuffer(content, np.uint8).reshape(self.shape[1:])
        damaged = [row for row in there if _checksum(out[row]) != known[row]]
        return sorted([*np.flatnonzero(known == 0).tolist(), *damaged])

    def write(self, places, pixels):
        """Keep decoded pictures; in silence not, where the disk is full."""
        with contextlib.suppress(OSError):
            for place, picture in zip(places, pixels, strict=True):
                if os.pwrite(self.files[0], picture.tobytes(), place * self.item) != self.item:
                    return
                os.pwrite(self.files[1], np.uint32(_checksum(picture)).tobytes(), 4 * place)


def _checksum(picture):
    """CRC-32 of a picture's bytes, never 0."""
    return zlib.crc32(picture) or 1


def sample_hash(source, count=32):
    """First 16 hex digits of a hash over the first pictures of a source, as they are stored, and their labels.

    Of the encoded files where the reader has them: decoders of two machines may differ by a grey level. Raises
    `UnreadablePicture` where one is damaged.
    """
    digest = hashlib.sha256()
    for place in range(min(count, len(source))):
        try:
            content = stored(source, place)
        except Exception as error:
            reason = str(error) or type(error).__name__
            raise UnreadablePicture(f"unreadable picture {source.keys[place]} in {source.folder}: {reason}") from error
        digest.update(f"{len(content)} {int(source.labels[place])} ".encode() + content)
    return digest.hexdigest()[:16]


def stored(source, place):
    """Bytes of a picture as its reader has it: the encoded file, else the pixels."""
    if source.encoded is not None:
        return source.encoded(place)
    return (source.pixels[place].numpy() if source.pixels is not None else np.asarray(to_rgb(source.decode(place)))).tobytes()
