"""Archives: unpacked whole or not at all, and never outside their folder. Imports no torch."""

import gzip
import shutil
import tarfile
import zipfile
import zlib
from lzma import LZMAError
from pathlib import Path, PurePosixPath

from mmcoa.errors import UserError

TARS, ZIPS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz"), (".zip",)


def unpack(archive, folder, inner=None):
    """Unpack a tar (.gz, .bz2, .xz), zip or single .gz file into `folder`; returns the names of what it put there.

    inner: path of an archive in it, which is unpacked into `folder` too. All of it appears after the last byte was read; other
    files of a folder that is there already stay. Raises `UserError` for a damaged archive and for one whose members would lie
    outside.
    """
    archive, folder = Path(archive), Path(folder)
    inside = folder / f".unpacking-{archive.name}"
    shutil.rmtree(inside, ignore_errors=True)  # of a run that was killed
    inside.mkdir(parents=True)
    try:
        _extract(archive, inside)
        if inner is not None:
            if not (inside / inner).is_file():
                raise UserError(f"{archive} has no {inner}, which should hold the data")
            _extract(inside / inner, inside)
            (inside / inner).unlink()
        made = sorted(path.name for path in inside.iterdir())
        if not made:
            raise UserError(f"{archive} is empty; half a download?")
        for name in made:
            _merge(inside / name, folder / name)
    finally:
        shutil.rmtree(inside, ignore_errors=True)
    return made


def _extract(archive, folder):
    try:
        if archive.name.endswith(ZIPS):
            with zipfile.ZipFile(archive) as opened:
                for name in opened.namelist():
                    if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name.replace("\\", "/")).parts:
                        raise UserError(f"{archive} was not unpacked: its member '{name}' would lie outside the folder")
                opened.extractall(folder)
        elif archive.name.endswith(TARS):
            with tarfile.open(archive) as opened:
                opened.extractall(folder, filter="data")
        elif archive.name.endswith(".gz"):
            with gzip.open(archive) as source, (folder / archive.stem).open("wb") as target:
                shutil.copyfileobj(source, target, 1 << 20)
        else:
            raise UserError(f"{archive} is neither tar, zip nor gz by its name")
    except tarfile.FilterError as error:
        raise UserError(f"{archive} was not unpacked: {error}") from error
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, LZMAError, EOFError, RuntimeError) as error:
        raise _damaged(archive, error) from error
    except OSError as error:
        if error.errno is None:  # what gzip and bz2 raise; the disk's errors have a number
            raise _damaged(archive, error) from error
        raise


def _damaged(archive, error):
    return UserError(f"{archive} is damaged ({str(error).partition(':')[0]}); half a download? Delete it and fetch it again")


def _merge(source, target):
    """Move a file or folder; into a folder that is there, member by member."""
    if source.is_dir() and not source.is_symlink() and target.is_dir():
        for path in source.iterdir():
            _merge(path, target / path.name)
    else:
        shutil.move(source, target)
