"""Pictures as they come: what users' shards and folders hold is used, left out with a count, or named in one line."""

import gzip
import io
import struct
import tarfile
import warnings
import zlib

import pytest
from PIL import Image

import mmcoa
from mmcoa.datasets import find
from mmcoa.datasets.check import check, is_ready, verdict
from mmcoa.errors import UserError

KINDS = {"png": "PNG", "gif": "GIF", "bmp": "BMP", "tiff": "TIFF", "JPEG": "JPEG", "webp": "WEBP"}


def encoded(value, size=(12, 12), kind="PNG"):
    data = io.BytesIO()
    Image.new("RGB", size, (value,) * 3).save(data, kind)
    return data.getvalue()


def bomb():
    """A few hundred bytes that say to be a picture of 900 million pixels."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    size = struct.pack(">IIBBBBB", 30000, 30000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def samples(count=6, prefix="", **size):
    """Members of `count` samples; picture i is of value 40 i, its label i modulo 2."""
    for i in range(count):
        yield f"{prefix}s{i}.png", encoded(40 * i, **size)
        yield f"{prefix}s{i}.cls", str(i % 2).encode()


def write(folder, members, split="test", names="VAN-MOVIL\nLöwe\n", templates="a photo of a {c}.\n"):
    """A WebDataset folder of one shard; members: (name, bytes; None: a folder; text: a link there). Returns its name."""
    (folder / split).mkdir(parents=True, exist_ok=True)
    (folder / "classnames.txt").write_text(names, encoding="utf8")
    (folder / "zeroshot_classification_templates.txt").write_text(templates)
    (folder / split / "nshards.txt").write_text("1")
    with tarfile.open(folder / split / "0.tar", "w") as shard:
        for name, data in members:
            member = tarfile.TarInfo(name)
            if isinstance(data, bytes):
                member.size = len(data)
            else:
                member.type, member.linkname = tarfile.DIRTYPE if data is None else tarfile.SYMTYPE, data or ""
            shard.addfile(member, io.BytesIO(data) if isinstance(data, bytes) else None)
    return f"wds:{folder}"


def values(data):
    """{sample: value of its picture}, and that labels belong to them."""
    found = dict(zip(data.ids.tolist(), data.images[:, 0, 0, 0].tolist(), strict=True))
    assert data.labels.tolist() == [i % 2 for i in data.ids.tolist()]
    return found


USED = {
    "tar of a folder": [("./", None), *((f"./{name}", data) for name, data in samples())],
    "folder entries": [("x/", None), *samples(prefix="x/")],
    "hidden files": [*samples(), (".DS_Store", b"x"), ("._s0.png", b"x")],
    "links": [
        *list(samples())[:-2],
        *(("s5.png", "z/five.png"), ("s5.cls", "./s1.cls"), ("z/five.png", "../y.bin"), ("y.bin", encoded(200))),
    ],
}
LEFT_OUT = {
    "readme": ([*samples(), ("README", b"x"), ("notes.md", b"x")], "2 members .* first 0.tar: README"),
    "masks": ([(f"s{i}.seg.png", encoded(255)) for i in range(6)] + list(samples()), "6 members .* first 0.tar: s0.seg.png"),
}
NAMED = {
    "no label": ([*samples(), ("s9.png", encoded(1))], "picture 's9.png' has no label; 's9.cls'"),
    "no picture": ([*samples(), ("s9.heic", b"x"), ("s9.cls", b"1")], "label 's9.cls' has no picture beside it"),
    "label in words": (
        [*samples(), ("s9.png", encoded(1)), ("s9.cls", b"cat")],
        "'s9.cls' says 'cat' where the number of a class",
    ),
    "link into nothing": ([*samples(), ("s9.png", "gone.png"), ("s9.cls", b"1")], "'s9.png' is a link to 'gone.png'"),
}


@pytest.mark.parametrize("what", [*USED, *LEFT_OUT])
def test_members_of_a_shard(tmp_path, what):
    members, said = LEFT_OUT.get(what, (USED.get(what), None))
    with warnings.catch_warnings(record=True) as noted:
        warnings.simplefilter("always")
        data = mmcoa.load_dataset(write(tmp_path / "mine", members))
    assert values(data) == {i: 40 * i for i in range(6)}
    told = [str(one.message) for one in noted if "left out" in str(one.message)]
    assert len(told) == (0 if said is None else 1)
    if said:
        with pytest.warns(UserWarning, match=said):
            mmcoa.load_dataset(f"wds:{tmp_path}/mine")


@pytest.mark.parametrize("what", NAMED)
def test_a_member_that_is_wrong_is_named(tmp_path, what):
    members, said = NAMED[what]
    with pytest.raises(UserError, match=said) as told:
        mmcoa.load_dataset(write(tmp_path / "mine", members))
    assert "again" not in str(told.value)  # the user's own files: there is nothing to fetch


def test_a_shard_packed_as_a_whole(tmp_path):
    name, path = write(tmp_path / "mine", samples()), tmp_path / "mine" / "test" / "0.tar"
    path.write_bytes(gzip.compress(path.read_bytes()))
    with pytest.raises(UserError, match=r"0.tar is compressed \(gzip\).*unpack it: gzip -dc"):
        mmcoa.load_dataset(name)


def test_formats(tmp_path):
    members = [
        (f"s{i}.{end}", data)
        for i, (kind, name) in enumerate(KINDS.items())
        for end, data in ((kind, encoded(40 * i, kind=name)), ("cls", str(i % 2).encode()))
    ]
    found = values(mmcoa.load_dataset(write(tmp_path / "mine", members)))
    assert all(abs(value - 40 * i) <= 2 for i, value in found.items()) and len(found) == len(KINDS)


@pytest.mark.parametrize("layout", ["shard", "folder"])
@pytest.mark.parametrize("place", [0, 3, 5])
@pytest.mark.parametrize("harm", ["no picture", "bomb", "cut"])
def test_damaged_pictures_wherever_they_lie(tmp_path, layout, place, harm):
    """One line names it; with `skip_unreadable` it is left out and counted."""
    whole = [data for name, data in samples() if name.endswith("png")]
    whole[place] = {"no picture": b"no picture", "bomb": bomb(), "cut": whole[place][:45]}[harm]
    if layout == "shard":
        members = [one for i, data in enumerate(whole) for one in ((f"s{i}.png", data), (f"s{i}.cls", str(i % 2).encode()))]
        name, key = write(tmp_path / "mine", members, split="all"), f"s{place}"
    else:
        name, key = str(tmp_path / "mine"), f"{place}.png"
        for i, data in enumerate(whole):
            (tmp_path / "mine" / "ab"[i % 2]).mkdir(parents=True, exist_ok=True)
            (tmp_path / "mine" / "ab"[i % 2] / f"{i}.png").write_bytes(data)
    with pytest.raises(UserError, match=rf"unreadable picture \S*{key} in .*; leave such pictures out with --skip-unreadable"):
        mmcoa.load_dataset(name, "all")
    with pytest.warns(UserWarning, match=f"1 unreadable pictures left out: .*{key}"):
        data = mmcoa.load_dataset(name, "all", skip_unreadable=True)
    assert data.skipped == 1 and sorted(data.images[:, 0, 0, 0].tolist()) == [40 * i for i in range(6) if i != place]


def test_nothing_that_can_be_read(tmp_path):
    members = [(f"{name}.{end}", data) for name in "ab" for end, data in (("png", b"x"), ("cls", b"0"))]
    with pytest.raises(UserError, match="none of 2 pictures of split 'test' can be read"):
        mmcoa.load_dataset(write(tmp_path / "mine", members), skip_unreadable=True)


def test_a_set_that_varies_has_one_size_for_every_seed_and_split(tmp_path):
    """And it is the one that the user asked for; a set of one size keeps it."""
    sizes = [(12 + i % 3, 12 + i % 2) for i in range(30)]
    members = [
        (f"s{i}.{end}", data)
        for i, size in enumerate(sizes)
        for end, data in (("png", encoded(i, size)), ("cls", str(i % 2).encode()))
    ]
    for split in ("train", "test"):
        name = write(tmp_path / "mine", members[::-1] if split == "train" else members, split=split)
    found = {mmcoa.load_dataset(name, split, seed=seed).transform for split in ("train", "test") for seed in range(3)}
    assert found == {"resize 256 bilinear, crop 224"}
    assert mmcoa.load_dataset(name, transform="openclip", image_size=16).transform == "resize 16 bicubic, crop 16"
    assert mmcoa.load_dataset(write(tmp_path / "one", samples())).transform == "resize 12 bicubic, crop 12"
    (tmp_path / "mine" / "train" / "0.tar").unlink()  # who evaluates needs no training pictures
    assert len(mmcoa.load_dataset(name)) == 30


def test_names_and_templates_of_a_folder_count_as_they_stand(tmp_path):
    data = mmcoa.load_dataset(write(tmp_path / "mine", samples(), templates="a {c}\nthe {c}\n"))
    assert data.prompt_sets() == [["a VAN-MOVIL", "a Löwe"], ["the VAN-MOVIL", "the Löwe"]]
    with pytest.raises(UserError, match=r"classnames.txt: line 2 is blank, and every later name"):
        mmcoa.load_dataset(write(tmp_path / "blank", samples(), names="VAN-MOVIL\n\nLöwe\n"))
    with pytest.raises(UserError, match="has templates of its own"):
        mmcoa.load_dataset(f"wds:{tmp_path}/mine", prompts="openclip")


def test_an_empty_folder_is_not_ready(tmp_path):
    write(tmp_path / "mine", samples())
    (tmp_path / "mine" / "test" / "nshards.txt").unlink()
    findings = check(find(f"wds:{tmp_path}/mine"))
    assert not is_ready(findings) and "NOT ready: splits: none" in verdict(findings)
    (tmp_path / "mine" / "test" / "nshards.txt").write_text("0")
    assert not is_ready(check(find(f"wds:{tmp_path}/mine")))
