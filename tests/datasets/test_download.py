"""Downloads, against a server in a thread that cuts connections, ignores ranges and answers with pages."""

import gzip
import hashlib
import io
import os
import socket
import tarfile
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

import mmcoa
from mmcoa.datasets import transfer
from mmcoa.datasets.archives import unpack
from mmcoa.datasets.download import fetch_webdataset, get, is_fetched
from mmcoa.datasets.records import Archive, Download, PromptRule, Record
from mmcoa.datasets.transfer import NotThere, fetch
from mmcoa.errors import UserError

from .test_webdataset import write_folder

CONTENT = os.urandom(300_000)


class Server:
    """Files by path, and how the server misbehaves. requests: [(path, Range header)]."""

    def __init__(self):
        self.files, self.requests = {}, []
        self.cuts, self.ranges, self.kind, self.etag, self.passing = [], True, "application/octet-stream", '"one"', 0
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                server.answer(self)

            def log_message(self, *arguments):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def answer(self, handler):
        asked = handler.headers.get("Range")
        self.requests.append((handler.path, asked))
        if self.passing:
            self.passing -= 1
            return handler.send_error(503)
        if handler.path not in self.files:
            return handler.send_error(404)
        content, start = self.files[handler.path], 0
        whole = len(content)
        fresh = handler.headers.get("If-Range") in (None, self.etag)
        if asked and self.ranges and fresh:
            start = int(asked.removeprefix("bytes=").rstrip("-"))
            if start >= whole:
                handler.send_response(416)
                handler.send_header("Content-Range", f"bytes */{whole}")
                handler.send_header("Content-Length", "0")
                return handler.end_headers()
        handler.send_response(206 if start else 200)
        handler.send_header("Content-Type", self.kind)
        handler.send_header("Content-Length", str(whole - start))
        if self.etag:
            handler.send_header("ETag", self.etag)
        if start:
            handler.send_header("Content-Range", f"bytes {start}-{whole - 1}/{whole}")
        handler.end_headers()
        end = self.cuts.pop(0) if self.cuts else whole
        handler.wfile.write(content[start:end])  # the connection closes, whatever was promised


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(transfer, "WAITS", (0, 0))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    server = Server()
    server.files["/data.bin"] = CONTENT
    yield server
    server.http.shutdown()
    server.http.server_close()


def no_parts(folder):
    return not [path for path in folder.rglob("*") if ".part" in path.name]


def test_a_file_arrives_whole(server, tmp_path):
    seen = []
    path = fetch(f"{server.url}/data.bin", tmp_path / "a" / "b.bin", size=len(CONTENT), progress=lambda *now: seen.append(now))
    assert path.read_bytes() == CONTENT and no_parts(tmp_path)
    assert seen[-1] == (len(CONTENT), len(CONTENT)) and seen == sorted(seen)


def test_goes_on_where_the_connection_was_cut(server, tmp_path):
    server.cuts = [100_000, 200_000]
    digest = hashlib.sha256(CONTENT).hexdigest()
    fetch(f"{server.url}/data.bin", tmp_path / "b.bin", sha256=digest)
    assert (tmp_path / "b.bin").read_bytes() == CONTENT
    assert [asked for _, asked in server.requests] == [None, "bytes=100000-", "bytes=200000-"]
    fetch(f"{server.url}/data.bin", tmp_path / "b.bin", sha256=digest)
    assert len(server.requests) == 3


def test_a_later_call_goes_on(server, tmp_path):
    server.cuts = [100_000, 100_000, 100_000, 100_000]
    with pytest.raises(
        UserError, match=r"does not answer: the connection was cut after 100,000 of 300,000 bytes; 100,000 bytes are kept"
    ):
        fetch(f"{server.url}/data.bin", tmp_path / "b.bin")
    assert not (tmp_path / "b.bin").exists()
    fetch(f"{server.url}/data.bin", tmp_path / "b.bin")
    assert server.requests[-1][1] == "bytes=100000-" and (tmp_path / "b.bin").read_bytes() == CONTENT and no_parts(tmp_path)


def test_starts_over_where_the_server_ignores_ranges(server, tmp_path):
    server.cuts, server.ranges = [100_000, 250_000], False
    fetch(f"{server.url}/data.bin", tmp_path / "b.bin")
    assert (tmp_path / "b.bin").read_bytes() == CONTENT


@pytest.mark.parametrize("etag", ['"two"', ""])
def test_versions_are_not_glued_together(server, tmp_path, etag):
    server.cuts = [100_000] * 4
    if not etag:
        server.etag = ""
    with pytest.raises(UserError, match="kept"):
        fetch(f"{server.url}/data.bin", tmp_path / "b.bin")
    server.cuts, server.etag, server.files["/data.bin"] = [], etag, CONTENT[::-1]
    fetch(f"{server.url}/data.bin", tmp_path / "b.bin")
    assert (tmp_path / "b.bin").read_bytes() == CONTENT[::-1]


def test_killed_before_the_rename(server, tmp_path):
    (tmp_path / "b.bin.part").write_bytes(CONTENT)
    (tmp_path / "b.bin.part.tag").write_text('"one"')
    fetch(f"{server.url}/data.bin", tmp_path / "b.bin")
    assert server.requests == [("/data.bin", "bytes=300000-")] and (tmp_path / "b.bin").read_bytes() == CONTENT


def test_passing_errors_are_tried_again_and_lasting_ones_are_named(server, tmp_path):
    server.passing = 2
    fetch(f"{server.url}/data.bin", tmp_path / "b.bin")
    assert len(server.requests) == 3
    with pytest.raises(NotThere, match=r"/absent\.bin is not there: HTTP 404"):
        fetch(f"{server.url}/absent.bin", tmp_path / "c.bin")
    server.passing = 9
    with pytest.raises(UserError, match="answered HTTP 503 .*try again later"):
        fetch(f"{server.url}/data.bin", tmp_path / "c.bin")
    assert len(server.requests) == 7 and sorted(path.name for path in tmp_path.iterdir()) == ["b.bin"]


def test_a_dead_address(tmp_path, monkeypatch):
    monkeypatch.setattr(transfer, "WAITS", (0,))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with socket.create_server(("127.0.0.1", 0)) as once:
        port = once.getsockname()[1]  # nobody listens there any more
    with pytest.raises(UserError, match=rf"127\.0\.0\.1:{port}/x\.zip does not answer: .*refused; try again later"):
        fetch(f"http://127.0.0.1:{port}/x.zip", tmp_path / "x.zip")
    for url in ("file:///etc/passwd", "ftp://x/y"):
        with pytest.raises(UserError, match="no http or https"):
            fetch(url, tmp_path / "x")


def test_a_web_page_is_no_archive(server, tmp_path):
    server.files["/login.zip"] = b"\n<!DOCTYPE html><html><body>please log in</body></html>"
    with pytest.raises(UserError, match=r"/login\.zip gave a web page"):
        fetch(f"{server.url}/login.zip", tmp_path / "x.zip")
    server.kind = "text/html; charset=utf-8"
    with pytest.raises(UserError, match=r"/data\.bin answered with a web page \(HTTP 200\)"):
        fetch(f"{server.url}/data.bin", tmp_path / "x.zip")
    assert list(tmp_path.iterdir()) == []


def test_wrong_checksum_and_size(server, tmp_path):
    url = f"{server.url}/data.bin"
    found = hashlib.md5(CONTENT).hexdigest()
    with pytest.raises(
        UserError, match=rf"data\.bin gave a wrong checksum \(md5 {found}, expected 0000\); nothing of it was kept"
    ):
        fetch(url, tmp_path / "x", md5="0000")
    with pytest.raises(UserError, match="has 300,000 bytes where 7 are expected"):
        fetch(url, tmp_path / "x", size=7)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "x").write_bytes(b"an older version")
    assert fetch(url, tmp_path / "x", md5=found).read_bytes() == CONTENT


def make_tar(members, mode="w:gz"):
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode=mode) as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return data.getvalue()


def make_zip(members):
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return data.getvalue()


MEMBERS = {"set/a/1.txt": b"one", "set/b/2.txt": CONTENT}


@pytest.mark.parametrize(
    "name,content",
    [
        ("x.tar", make_tar(MEMBERS, "w:")),
        ("x.tar.gz", make_tar(MEMBERS)),
        ("x.tgz", make_tar(MEMBERS)),
        ("x.tar.bz2", make_tar(MEMBERS, "w:bz2")),
        ("x.zip", make_zip(MEMBERS)),
    ],
)
def test_unpack(tmp_path, name, content):
    archive, folder = tmp_path / name, tmp_path / "out"
    archive.write_bytes(content)
    (folder / "set" / "a").mkdir(parents=True)
    (folder / "set" / "a" / "own.txt").write_text("of another archive")
    assert unpack(archive, folder) == ["set"]
    assert (folder / "set/a/1.txt").read_bytes() == b"one" and (folder / "set/b/2.txt").read_bytes() == CONTENT
    assert (folder / "set/a/own.txt").is_file() and os.listdir(folder) == ["set"]
    for cut in (len(content) * 2 // 3, 100):
        archive.write_bytes(content[:cut])
        with pytest.raises(UserError, match=rf"{name} is damaged .*half a download\?"):
            unpack(archive, tmp_path / "half")
    assert os.listdir(tmp_path / "half") == []


def test_unpack_a_single_file_and_an_archive_in_an_archive(tmp_path):
    (tmp_path / "x.h5.gz").write_bytes(gzip.compress(CONTENT))
    assert unpack(tmp_path / "x.h5.gz", tmp_path / "out") == ["x.h5"]
    assert (tmp_path / "out" / "x.h5").read_bytes() == CONTENT
    (tmp_path / "y.zip").write_bytes(make_zip({"top/pictures.tar.gz": make_tar(MEMBERS), "top/readme": b"-"}))
    assert unpack(tmp_path / "y.zip", tmp_path / "other", "top/pictures.tar.gz") == ["set", "top"]
    assert os.listdir(tmp_path / "other" / "top") == ["readme"]
    with pytest.raises(UserError, match=r"y\.zip has no absent\.tar"):
        unpack(tmp_path / "y.zip", tmp_path / "other", "absent.tar")
    (tmp_path / "z.rar").write_bytes(b"Rar!")
    with pytest.raises(UserError, match="neither tar, zip nor gz"):
        unpack(tmp_path / "z.rar", tmp_path / "other")


@pytest.mark.parametrize("name,make", [("x.tar.gz", make_tar), ("x.zip", make_zip)])
@pytest.mark.parametrize("evil", ["../evil", "set/../../evil"])
def test_nothing_lands_outside(tmp_path, name, make, evil):
    (tmp_path / name).write_bytes(make({"set/fine": b"-", evil: b"evil"}))
    with pytest.raises(UserError, match=r"was not unpacked: .*evil"):
        unpack(tmp_path / name, tmp_path / "deep" / "out")
    assert not list(tmp_path.rglob("*evil*")) and os.listdir(tmp_path / "deep" / "out") == []


def test_links_do_not_lead_outside(tmp_path):
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        info = tarfile.TarInfo("set/link")
        info.type, info.linkname = tarfile.SYMTYPE, "../../elsewhere"
        archive.addfile(info)
    (tmp_path / "x.tar").write_bytes(data.getvalue())
    with pytest.raises(UserError, match="was not unpacked"):
        unpack(tmp_path / "x.tar", tmp_path / "out")


def record(**changes):
    """A record of two classes in the ImageFolder layout."""
    about = dict(
        title="Small",
        reader="imagefolder",
        classes=2,
        splits={"test": 4},
        prompt=PromptRule(template="a {}"),
        licence="-",
        source="-",
    )
    return Record(**({"name": "small", "options": {"folder": "set", "folders": {"test": "set"}}} | about | changes))


def archives(server, **changes):
    server.files |= {"/one.tar.gz": make_tar(MEMBERS), "/list.mat": b"a list"}
    one = Archive(url=f"{server.url}/one.tar.gz", md5=hashlib.md5(server.files["/one.tar.gz"]).hexdigest(), **changes)
    return Download(files=[one, Archive(url=f"{server.url}/list.mat", unpack=False, into="set")])


def test_get_a_download(server, tmp_path):
    small, seen = record(download=archives(server)), set()
    assert get(small, tmp_path, lambda name, done, total: seen.add(name)) == tmp_path and seen == {"one.tar.gz", "list.mat"}
    assert sorted(os.listdir(tmp_path / "set")) == ["a", "b", "list.mat"]
    assert not (tmp_path / "downloads" / "small" / "one.tar.gz").exists()  # unpacked: no second copy on the disk
    server.http.server_close()
    get(small, tmp_path)
    assert len(server.requests) == 2 and is_fetched(small, tmp_path)
    (tmp_path / "set" / "list.mat").unlink()
    assert not is_fetched(small, tmp_path)


def test_get_repairs_and_keeps_what_the_user_brought(server, tmp_path):
    small = record(download=archives(server))
    mine = tmp_path / "downloads" / "small" / "one.tar.gz"
    mine.parent.mkdir(parents=True)
    mine.write_bytes(server.files["/one.tar.gz"])
    get(small, tmp_path)
    assert mine.is_file() and [path for path, _ in server.requests] == ["/list.mat"]
    (tmp_path / "set/a/1.txt").write_text("damaged")
    get(small, tmp_path, again=True)
    assert (tmp_path / "set/a/1.txt").read_bytes() == b"one"


def test_get_fails_in_one_line_that_says_how_else(server, tmp_path):
    small = record(download=archives(server), hub="someone/wds_small")
    del server.files["/one.tar.gz"]
    with pytest.raises(
        UserError, match=r"one\.tar\.gz is not there: HTTP 404.*; its copy on the hub: mmcoa data get small --copy"
    ):
        get(small, tmp_path)
    server.files["/one.tar.gz"] = b"\x1f\x8b damaged"
    broken = Download(files=[Archive(url=f"{server.url}/one.tar.gz")])
    with pytest.raises(UserError, match="half a download"):
        get(record(download=broken), tmp_path)
    server.files["/one.tar.gz"] = make_tar(MEMBERS)
    get(record(download=broken), tmp_path)
    assert (tmp_path / "set").is_dir()
    with pytest.raises(UserError, match="cannot be fetched by a command. Ask the authors"):
        get(record(manual="Ask the authors."), tmp_path)
    with pytest.raises(UserError, match="no copy on the hub"):
        get(record(download=broken), tmp_path, copy=True)
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match="cannot write to .*--root"):
        get(small, tmp_path / "file")


def serve_copy(server, tmp_path, base, splits=("test",)):
    """A WebDataset folder behind an address."""
    for split in splits:
        folder = write_folder(tmp_path / f"origin-{split}", [(8, 8)] * 4, [0, 1, 0, 1], split=split)
        for path in folder.rglob("*"):
            if path.is_file():
                server.files[f"{base}/{path.relative_to(folder).as_posix()}"] = path.read_bytes()


def test_the_copy_on_the_hub(server, tmp_path, monkeypatch):
    monkeypatch.setenv("MMCOA_HUB", f"{server.url}/mirror/")
    base = "/mirror/datasets/someone/wds_small/resolve/main"
    serve_copy(server, tmp_path, base)
    shard = server.files.pop(f"{base}/test/1.tar")
    small = record(hub="someone/wds_small", manual="Ask the authors.")
    with pytest.raises(UserError, match=r"test/1\.tar is not there: HTTP 404.*; by hand: Ask the authors\."):
        get(small, tmp_path / "root")
    assert not (tmp_path / "root" / "wds_small").exists()  # half a copy is no data set
    server.files[f"{base}/test/1.tar"] = shard
    server.requests.clear()
    assert get(small, tmp_path / "root") == tmp_path / "root" / "wds_small"
    assert [path.removeprefix(f"{base}/") for path, _ in server.requests] == ["train/nshards.txt", "test/1.tar"]
    server.requests.clear()
    get(small, tmp_path / "root")
    assert server.requests == []
    (tmp_path / "root" / "wds_small" / "test" / "0.tar").unlink()
    get(small, tmp_path / "root")
    assert f"{base}/test/0.tar" in [path for path, _ in server.requests]


def test_an_address_is_a_data_set(server, tmp_path, monkeypatch):
    monkeypatch.setenv("MMCOA_DATA", str(tmp_path / "root"))
    serve_copy(server, tmp_path, "/sets/animals", ("test", "train"))
    dataset = mmcoa.load_dataset(f"wds:{server.url}/sets/animals/")
    assert (
        dataset.name == "wds:animals" and dataset.images.shape == (4, 3, 8, 8) and dataset.prompts[0] == "a photo of a red_fox."
    )
    asked = len(server.requests)
    assert len(mmcoa.load_dataset(f"wds:{server.url}/sets/animals", split="train")) == 4
    assert len(server.requests) == asked
    serve_copy(server, tmp_path / "other", "/others/animals")
    with pytest.raises(UserError, match=r"animals holds something else, from .*/sets/animals; move it away"):
        mmcoa.load_dataset(f"wds:{server.url}/others/animals")


@pytest.mark.parametrize("tail", ["", "/", "/tree/main", "/resolve/main"])
def test_addresses_of_the_hub(server, tmp_path, monkeypatch, tail):
    monkeypatch.setenv("MMCOA_HUB", server.url)
    serve_copy(server, tmp_path, "/datasets/someone/wds_small/resolve/main")
    folder = fetch_webdataset(f"https://huggingface.co/datasets/someone/wds_small{tail}", tmp_path / "root")
    assert folder == tmp_path / "root" / "wds_small" and (folder / "test" / "1.tar").is_file()
    assert fetch_webdataset(f"{server.url}/datasets/someone/wds_small", tmp_path / "root") == folder


def test_addresses_that_are_no_data_set(server, tmp_path):
    for url in (server.url, f"{server.url}/..", f"{server.url}/x?y=1"):
        with pytest.raises(UserError, match="does not end in the name of a folder"):
            fetch_webdataset(url, tmp_path)
    with pytest.raises(UserError, match=r"nothing/classnames\.txt is not there"):
        fetch_webdataset(f"{server.url}/nothing", tmp_path)
    server.files |= {"/bare/classnames.txt": b"a\nb\n", "/bare/zeroshot_classification_templates.txt": b"{c}\n"}
    with pytest.raises(UserError, match="has neither test/nshards"):
        fetch_webdataset(f"{server.url}/bare", tmp_path)
    server.files["/bare/test/nshards.txt"] = b"../../1"
    with pytest.raises(UserError, match="where a number of shards is expected"):
        fetch_webdataset(f"{server.url}/bare", tmp_path)
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / "thesis.tex").write_text("years of work")
    with pytest.raises(UserError, match="holds something else"):
        fetch_webdataset(f"{server.url}/bare", tmp_path)
