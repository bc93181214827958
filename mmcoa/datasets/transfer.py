"""One file over http: goes on where it stopped, is verified, and appears whole or not at all. Imports no torch."""

import hashlib
import http.client
import os
import shutil
import time
import urllib.error
import urllib.request
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from mmcoa import __version__
from mmcoa.errors import UserError

TIMEOUT = 30  # seconds without a byte
WAITS = (1, 3, 10)  # seconds before each further attempt; they start anew whenever bytes have arrived
PASSING = (408, 425, 429, 500, 502, 503, 504)  # HTTP statuses that may be gone in a moment
CHUNK = 1 << 20


class NotThere(UserError):
    """The server has no such file (HTTP 404)."""


def fetch(url, path, sha256=None, md5=None, size=None, progress=None):
    """Download `url` to `path`, which appears complete and verified or not at all; returns the path.

    sha256, md5: hexadecimal; size: bytes. A file that is there and fits them is kept. What has arrived stays in `path`.part,
    and the next call goes on from there. progress: called with (bytes so far, bytes in all or None).
    Raises `UserError` that names the address for an error status, a web page in place of the file, a wrong checksum or
    size, and a connection that stays dead; `NotThere` for status 404.
    """
    if urlsplit(url).scheme not in ("http", "https"):
        raise UserError(f"'{url}' is no http or https address")
    path = Path(path)
    if path.is_file() and not _differs(path, sha256, md5, size):
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    _receive(url, part, bool(sha256 or md5), size, progress)
    difference = _differs(part, sha256, md5, size)
    if not difference and path.suffix not in (".html", ".htm") and _is_page(part):
        difference = "a web page, not the file: the address has moved, or wants a login"
    if difference:
        _forget(part)
        raise UserError(f"{url} gave {difference}; nothing of it was kept")
    os.replace(part, path)
    _forget(part)
    return path


def _differs(path, sha256, md5, size):
    """What is wrong with a file, in words; empty where it is as expected."""
    if size is not None and path.stat().st_size != size:
        return f"{path.stat().st_size:,} bytes where {size:,} are expected"
    for kind, expected in (("sha256", sha256), ("md5", md5)):
        if expected is not None:
            with path.open("rb") as file:
                found = hashlib.file_digest(file, partial(hashlib.new, kind, usedforsecurity=False)).hexdigest()
            if found != expected.lower():
                return f"a wrong checksum ({kind} {found}, expected {expected})"
    return ""


def _is_page(path):
    with path.open("rb") as file:
        return file.read(512).lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith((b"<!doctype", b"<html"))


def _tag(part):
    """File beside `part` with the server's mark (ETag or date) of the version that it belongs to."""
    return part.with_name(f"{part.name}.tag")


def _forget(part):
    for path in (part, _tag(part)):
        path.unlink(missing_ok=True)


def _receive(url, part, verified, size, progress):
    """Fill `part`. Attempts end when `WAITS` have passed without a further byte."""
    waits, furthest = iter(WAITS), 0
    while True:
        try:
            return _attempt(url, part, verified, size, progress)
        except urllib.error.HTTPError as error:
            error.close()
            if error.code == 404:
                raise NotThere(f"{url} is not there: HTTP 404 {error.reason}") from error
            if error.code not in PASSING:
                login = "; it may need a login, or not exist" if error.code in (401, 403) else ""
                raise UserError(f"{url} answered HTTP {error.code} {error.reason}{login}") from error
            reason = f"answered HTTP {error.code} {error.reason}"
        except (urllib.error.URLError, ConnectionError, TimeoutError, http.client.HTTPException) as error:
            reason = f"does not answer: {getattr(error, 'reason', None) or error or type(error).__name__}"
        arrived = part.stat().st_size if part.exists() else 0
        if arrived > furthest:
            waits, furthest = iter(WAITS), arrived
        wait = next(waits, None)
        if wait is None:
            kept = f"; {arrived:,} bytes are kept, and the same command goes on from there" if arrived else "; try again later"
            raise UserError(f"{url} {reason}{kept}")
        time.sleep(wait)


def _attempt(url, part, verified, size, progress):
    """One connection. Raises what urllib raises, and `ConnectionError` for an answer that ends too early."""
    tag = _tag(part).read_text(encoding="utf8") if _tag(part).is_file() else ""
    # Without a mark of the server and without a checksum, two versions of a file could be glued together.
    have = part.stat().st_size if part.is_file() and (tag or verified) else 0
    headers = {"User-Agent": f"mmcoa/{__version__}", "Accept-Encoding": "identity"}
    if have:
        headers |= {"Range": f"bytes={have}-"} | ({"If-Range": tag} if tag else {})
    try:
        answer = _opener().open(urllib.request.Request(url, headers=headers), timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code != 416 or not have:
            raise
        if error.headers.get("Content-Range") == f"bytes */{have}":  # all of it had arrived
            return
        _forget(part)
        raise ConnectionError("it has fewer bytes than had arrived") from error
    with answer:
        if answer.headers.get_content_type() == "text/html" and part.with_suffix("").suffix not in (".html", ".htm"):
            _forget(part)
            raise UserError(
                f"{url} answered with a web page (HTTP {answer.status}), not the file: it has moved, or wants a login"
            )
        if answer.status == 206 and not (answer.headers.get("Content-Range") or "").startswith(f"bytes {have}-"):
            _forget(part)
            raise ConnectionError("it sent another range than asked for")
        have = have if answer.status == 206 else 0
        length = answer.headers.get("Content-Length")
        total = have + int(length) if length else None
        if size is not None and total not in (None, size):
            _forget(part)
            raise UserError(f"{url} has {total:,} bytes where {size:,} are expected: it is another file by now")
        free = shutil.disk_usage(part.parent).free
        if total is not None and total - have > free:
            raise UserError(f"{url} needs {(total - have) / 1e9:.1f} GB more; {part.parent} has {free / 1e9:.1f} GB free")
        if not have:
            part.unlink(missing_ok=True)
            mark = answer.headers.get("ETag") or ""
            mark = mark if mark and not mark.startswith("W/") else answer.headers.get("Last-Modified") or ""
            _tag(part).write_text(mark, encoding="utf8")
        with part.open("ab") as file:
            while chunk := answer.read1(CHUNK):
                file.write(chunk)
                have += len(chunk)
                if progress is not None:
                    progress(have, total)
    if total is not None and have != total:
        raise ConnectionError(f"the connection was cut after {have:,} of {total:,} bytes")


def _opener():
    """Speaks http and https, follows redirects to these alone, and heeds the usual proxy variables."""
    opener, r = urllib.request.OpenerDirector(), urllib.request
    kinds = (
        r.ProxyHandler,
        r.HTTPHandler,
        r.HTTPSHandler,
        r.HTTPDefaultErrorHandler,
        r.HTTPRedirectHandler,
        r.HTTPErrorProcessor,
        r.UnknownHandler,
    )
    for kind in kinds:
        opener.add_handler(kind())
    return opener
