"""Reads named files of a wheel or a source archive into memory. Nothing is unpacked to disk, and nothing is run."""

from __future__ import annotations

import gzip
import io
import tarfile
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path

MEMBER_BYTES = 64 * 2**20
ARCHIVE_BYTES = 512 * 2**20
"""Most bytes of one file, and of all that is read on the way to it."""


class ArchiveError(ValueError):
    """An archive without a file that it should have, or one that is damaged or too large; the message says which."""


def read_members(path: Path, names: Iterable[str]) -> dict[str, bytes]:
    """Returns the files of these names; a name that ends with `/` means all files in that folder.

    Raises ArchiveError, also for links in place of files, and OSError.
    """
    wanted = set(names)
    try:
        found = _from_zip(path, wanted) if zipfile.is_zipfile(path) else _from_tar(path, wanted)
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, gzip.BadGzipFile) as error:
        raise ArchiveError("the archive is damaged") from error
    if missing := wanted - found.keys() - {_folder(name) for name in found}:
        raise ArchiveError(f"the archive has no {min(missing)}")
    return found


def _folder(name: str) -> str:
    return name.rpartition("/")[0] + "/"


def gunzip(data: bytes, most: int = ARCHIVE_BYTES) -> bytes:
    """Returns the unpacked bytes of a gzip file; raises ArchiveError for a damaged one, or one of more than `most` bytes."""
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
            unpacked = file.read(most + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise ArchiveError("a file of the archive is damaged") from error
    return _bounded(unpacked, most)


def _from_zip(path: Path, wanted: set[str]) -> dict[str, bytes]:
    found = {}
    passed = 0
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            if not name.endswith("/") and (name in wanted or _folder(name) in wanted):
                with archive.open(name) as file:
                    found[name] = _bounded(file.read(MEMBER_BYTES + 1), MEMBER_BYTES)
                passed += len(found[name])
                if passed > ARCHIVE_BYTES:
                    raise ArchiveError("the archive is too large")
    return found


def _from_tar(path: Path, wanted: set[str]) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    passed = 0
    with tarfile.open(path, "r|gz") as archive:
        for member in archive:
            passed += 512 + member.size
            if passed > ARCHIVE_BYTES:
                raise ArchiveError("the archive is too large")
            chosen = member.isreg() and (member.name in wanted or _folder(member.name) in wanted)
            if chosen and (file := archive.extractfile(member)):
                found[member.name] = _bounded(file.read(MEMBER_BYTES + 1), MEMBER_BYTES)
    return found


def _bounded(data: bytes, most: int) -> bytes:
    if len(data) > most:
        raise ArchiveError("a file of the archive is too large")
    return data
