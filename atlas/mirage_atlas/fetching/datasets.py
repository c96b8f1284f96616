"""The datasets that can be fetched: Open-i's chest X-rays and ROCOv2, whole or the first images, by licence.

The addresses are those that the datasets' own pages name. ROCOv2's files and their MD5 come from its record at Zenodo; the
host of Open-i publishes no digests.
"""

from __future__ import annotations

import csv
import io
import json
import tarfile
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any, cast

import httpx

from mirage_atlas.fetching.remote import FetchError, Host, Progress, RangeFile, RemoteFile, download
from mirage_atlas.licences import licence_name
from mirage_atlas.openi import LICENCE, images_of

_MEMBER_BYTES = 20_000_000
_MEMBERS_MAX = 500_000
_RECORD_BYTES = 5_000_000


@dataclass(frozen=True)
class Wanted:
    """A request to fetch at most `limit` images (None: all), with one of these licences (SPDX; none given: any)."""

    limit: int | None = None
    licences: tuple[str, ...] = ()

    def allows(self, licence: str) -> bool:
        """True for a licence that was asked for, whatever its version if none was named."""
        return not self.licences or any(
            licence == each or licence.rpartition("-")[0] == each for each in map(licence_name, self.licences)
        )


@dataclass(frozen=True)
class Addresses:
    """The addresses of the datasets."""

    openi_reports: str = "https://openi.nlm.nih.gov/imgs/collections/NLMCXR_reports.tgz"
    openi_images: str = "https://openi.nlm.nih.gov/imgs/collections/NLMCXR_png.tgz"
    rocov2_record: str = "https://zenodo.org/api/records/10821435"
    hosts: frozenset[str] = frozenset({"openi.nlm.nih.gov", "zenodo.org"})
    insecure: bool = False


DATASETS = ("openi", "rocov2")


def fetch(name: str, folder: Path, wanted: Wanted, progress: Progress, addresses: Addresses | None = None) -> int:
    """Fetches a dataset into a folder that `mirage index` reads, and returns how many images are there.

    Run again it goes on where it was. Raises FetchError, ValueError for an unknown name, and OSError.
    """
    where = addresses or Addresses()
    folder.mkdir(parents=True, exist_ok=True)
    host = Host(where.hosts, insecure=where.insecure)
    try:
        match name:
            case "openi":
                return _openi(host, where, folder, wanted, progress)
            case "rocov2":
                return _rocov2(host, where, folder, wanted, progress)
            case _:
                raise ValueError(f"no dataset named {name}")
    finally:
        host.close()


def _openi(host: Host, where: Addresses, folder: Path, wanted: Wanted, progress: Progress) -> int:
    if not wanted.allows(LICENCE):
        raise FetchError(f"all images of openi have the licence {LICENCE}")
    reports = download(host, RemoteFile("NLMCXR_reports.tgz", where.openi_reports), folder, progress)
    images = folder / "images"
    images.mkdir(exist_ok=True)
    try:
        count = _openi_images(host, where, folder, wanted, progress)
        with tarfile.open(reports, "r:gz") as archive:
            for name, data in _members(archive, (".xml",)):
                # Of the first images only: a report without an image would be a refused row.
                if wanted.limit is None or any((images / f"{image}.png").exists() for image in images_of(data)):
                    _write(folder / "ecgen-radiology" / name, data)
    except (tarfile.TarError, EOFError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise FetchError(
            f"an archive of openi cannot be read ({type(error).__name__}): remove it and run again"
        ) from None
    return count


def _openi_images(host: Host, where: Addresses, folder: Path, wanted: Wanted, progress: Progress) -> int:
    images = folder / "images"
    if wanted.limit is None:
        file = download(host, RemoteFile("NLMCXR_png.tgz", where.openi_images), folder, progress)
        with tarfile.open(file, "r:gz") as archive:
            return _unpack(archive, images, None, progress)
    have = sum(1 for _ in images.glob("*.png"))
    if have >= wanted.limit:
        return have
    # The first images are at the start of the archive: it is read as it comes, and no further.
    response = host.get(where.openi_images)
    try:
        stream = cast("IO[bytes]", io.BufferedReader(_Body(response.iter_bytes())))
        with tarfile.open(fileobj=stream, mode="r|gz") as archive:
            return _unpack(archive, images, wanted.limit, progress)
    except httpx.HTTPError as error:
        raise FetchError(f"the connection ended ({type(error).__name__}); run the command again to go on") from None
    finally:
        response.close()


def _unpack(archive: tarfile.TarFile, images: Path, limit: int | None, progress: Progress) -> int:
    count = 0
    for name, data in _members(archive, (".png",)):
        if limit is not None and count >= limit:
            break
        _write(images / name, data)
        count += 1
        progress("images", count, limit)
    return count


def _members(archive: tarfile.TarFile, suffixes: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    """Yields names (without folders) and contents of an archive's regular files of bounded size; links are passed over."""
    for number, member in enumerate(archive):
        name = PurePosixPath(member.name).name
        if number >= _MEMBERS_MAX:
            raise FetchError("the archive has too many files")
        if (
            member.isreg()
            and member.size <= _MEMBER_BYTES
            and name.lower().endswith(tuple(suffixes))
            and name[0] != "."
        ):
            stream = archive.extractfile(member)
            if stream is not None:
                yield name, stream.read()


class _Body(io.RawIOBase):
    """The body of a response as a file."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._rest = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._rest:
            try:
                self._rest = next(self._chunks)
            except StopIteration:
                return 0
        piece = self._rest[: len(buffer)]
        self._rest = self._rest[len(piece) :]
        buffer[: len(piece)] = piece
        return len(piece)


def _rocov2(host: Host, where: Addresses, folder: Path, wanted: Wanted, progress: Progress) -> int:
    files = {file.name: file for file in _record(host, where.rocov2_record)}
    for name, file in files.items():
        if name.endswith(".csv"):
            download(host, file, folder, progress)
    licences = _licences(folder)
    count = 0
    for split in ("train", "valid", "test"):
        archive = files.get(f"{split}_images.zip")
        if archive is None or (wanted.limit is not None and count >= wanted.limit):
            continue
        rest = None if wanted.limit is None else wanted.limit - count
        if wanted.limit is None and not wanted.licences:
            source: Any = download(host, archive, folder, progress)
        else:
            source = RangeFile(host, archive.url)
        try:
            with zipfile.ZipFile(source) as opened:
                count += _extract(opened, folder / split, licences, wanted, rest, progress)
        except zipfile.BadZipFile:
            raise FetchError(f"{archive.name} is not a ZIP file") from None
    return count


def _extract(
    archive: zipfile.ZipFile,
    folder: Path,
    licences: dict[str, str],
    wanted: Wanted,
    limit: int | None,
    progress: Progress,
) -> int:
    folder.mkdir(exist_ok=True)
    count = 0
    for member in sorted(archive.infolist(), key=lambda each: each.filename)[:_MEMBERS_MAX]:
        name = PurePosixPath(member.filename).name
        if not name.lower().endswith((".jpg", ".png")) or name[0] == "." or member.file_size > _MEMBER_BYTES:
            continue
        if limit is not None and count >= limit:
            break
        if not wanted.allows(licences.get(PurePosixPath(name).stem, "not stated")):
            continue
        if not (folder / name).exists():
            with archive.open(member) as stream:
                _write(folder / name, stream.read(_MEMBER_BYTES))
        count += 1
        progress(folder.name, count, limit)
    return count


def _record(host: Host, url: str) -> list[RemoteFile]:
    """Returns the files of a record at Zenodo, with their digests."""
    response = host.get(url)
    try:
        data = b""
        for chunk in response.iter_bytes():
            data += chunk
            if len(data) > _RECORD_BYTES:
                raise FetchError("the record of rocov2 is too long")
        files = json.loads(data)["files"]
        return [
            RemoteFile(PurePosixPath(str(each["key"])).name, str(each["links"]["self"]), str(each["checksum"]))
            for each in files
        ]
    except (ValueError, KeyError, TypeError):
        raise FetchError("the record of rocov2 has another form than expected") from None
    finally:
        response.close()


def _licences(folder: Path) -> dict[str, str]:
    path = folder / "license_information.csv"
    if not path.is_file():
        return {}
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        rows = csv.DictReader(file)
        names = {(name or "").strip().lower(): name for name in rows.fieldnames or ()}
        own = next((names[each] for each in ("id", "image_id", "roco_id") if each in names), None)
        code = next((names[each] for each in ("license", "licence", "cc") if each in names), None)
        if own is None or code is None:
            return {}
        return {row[own]: licence_name(row[code]) for row in rows if row[own]}


def _write(path: Path, data: bytes) -> None:
    """Writes a file so that it is whole or not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(data)
    part.replace(path)
