"""Cleans the images that older versions stored: the uploaded files themselves, in other folders.

Two parts share this: the retriever, when it starts on such a folder, and the restoration of an older backup. First
each file is written again into the store (image_store.py), noted in a journal, and removed. Then the retriever, which
alone knows the records, applies the journal and removes it. Both can be killed at any moment and continue from there.
"""

import io
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from mirage_core.errors import Code, MirageError
from mirage_core.files import sync_path, write_atomically
from mirage_core.image_store import StoredImage, TakenIn, decode_stored, take_in
from mirage_core.imaging import PixelInfo, sniff_media_type

# Folders of older versions, by digest: the uploaded files, and thumbnails, which are made again.
OLD_IMAGES, OLD_THUMBNAILS = "images", "thumbnails"
OLD_FOLDERS = (OLD_IMAGES, OLD_THUMBNAILS)
# The format of the data folder; folders without this file are of older versions.
FORMAT_FILE, FORMAT = "format.json", 2
_JOURNAL = "cleaned-{}.jsonl"
_JOURNALS = "cleaned-*.jsonl"
_SHA256 = re.compile(r"[0-9a-f]{64}")
# Two pictures count as the same to a model if they differ by no more, on average, of 255 levels. A JPEG that is written
# again with high quality differs by 1.
_SAME_LEVELS = 2.0
_COMPARED_SIDE = 256


@dataclass(frozen=True)
class Recleaned:
    """The stored form of an older file. `changed` is True if a model sees another picture than when its vector was
    made.
    """

    taken: TakenIn
    changed: bool


def clean_again(data: bytes) -> Recleaned:
    """Cleans a file that an older version stored. Raises what `take_in` raises. Runs in a decoding child."""
    taken = take_in(data, None)
    return Recleaned(taken, _is_changed(data, taken))


def _is_changed(data: bytes, taken: TakenIn) -> bool:
    if taken.clean.pixels is not None or sniff_media_type(data) == "application/dicom":
        return True
    try:
        with Image.open(io.BytesIO(data), formats=("JPEG", "PNG", "WEBP")) as image:
            if image.mode not in ("L", "RGB", "P", "1", "YCbCr") or "transparency" in image.info:
                return True
            # As older versions showed it to the models.
            before = ImageOps.exif_transpose(image).convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return True
    after = decode_stored(taken.clean.data)
    if before.size != after.size:
        return True
    for each in (before, after):
        each.thumbnail((_COMPARED_SIDE, _COMPARED_SIDE), Image.Resampling.BOX)
    difference = np.asarray(before, np.int16) - np.asarray(after, np.int16)
    return bool(np.abs(difference).mean() > _SAME_LEVELS)


@dataclass(frozen=True)
class Cleaned:
    """The outcome of a file: `stored`, or None with the code of the error for which it was removed."""

    original_sha256: str
    stored: StoredImage | None
    changed: bool = True
    refused: str = ""

    def to_json(self) -> bytes:
        """One line of the journal."""
        return json.dumps(asdict(self), separators=(",", ":")).encode() + b"\n"

    @classmethod
    def from_json(cls, line: bytes) -> "Cleaned":
        """The file behind a line; raises ValueError, KeyError, TypeError or MirageError for what is not one."""
        fields: dict[str, Any] = json.loads(line)
        stored = fields["stored"]
        if stored is not None:
            pixels = stored["pixels"]
            stored = StoredImage(**{**stored, "pixels": None if pixels is None else PixelInfo.from_json(pixels)})
            _check_digest(stored.image_sha256)
            if stored.pixels_sha256:
                _check_digest(stored.pixels_sha256)
        _check_digest(fields["original_sha256"])
        return cls(**{**fields, "stored": stored})


def _check_digest(value: object) -> None:
    if not (isinstance(value, str) and _SHA256.fullmatch(value)):
        raise ValueError("not a digest")


class Journal:
    """Files below a data folder that were cleaned and are not in the records yet."""

    def __init__(self, data: Path) -> None:
        self._data = data
        self._file = data / _JOURNAL.format(secrets.token_hex(4))

    def add(self, cleaned: Iterable[Cleaned]) -> None:
        """Notes files down; on the disk when this returns. Raises OSError."""
        lines = b"".join(each.to_json() for each in cleaned)
        if not lines:
            return
        is_new = not self._file.exists()
        with os.fdopen(os.open(self._file, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600), "wb") as out:
            out.write(lines)
            out.flush()
            os.fsync(out.fileno())
        if is_new:
            sync_path(self._data)

    def read(self) -> dict[str, Cleaned]:
        """All that was noted down, by the digest of the file that was stored before."""
        found: dict[str, Cleaned] = {}
        for file in sorted(self._data.glob(_JOURNALS)):
            for line in file.read_bytes().splitlines():
                # A crash may have cut a line short; its file is then still there and is cleaned again.
                with suppress(ValueError, KeyError, TypeError, MirageError):
                    cleaned = Cleaned.from_json(line)
                    found[cleaned.original_sha256] = cleaned
        return found

    def remove(self) -> None:
        """Forgets everything: the records say it now."""
        for file in self._data.glob(_JOURNALS):
            file.unlink(missing_ok=True)
        sync_path(self._data)

    def exists(self) -> bool:
        """True if something was noted down."""
        return any(self._data.glob(_JOURNALS))


def old_files(data: Path) -> list[str]:
    """Digests of the files that an older version stored and that are still there."""
    found = []
    with suppress(FileNotFoundError):
        for folder in (data / OLD_IMAGES).iterdir():
            if folder.is_dir():
                found += [file.name for file in folder.iterdir() if _SHA256.fullmatch(file.name)]
    return sorted(found)


def old_file(data: Path, sha256: str) -> Path:
    """Returns the path at which an older version stored a file."""
    return data / OLD_IMAGES / sha256[:2] / sha256


def has_old_folders(data: Path) -> bool:
    """True if there are folders of an older version, whatever is in them."""
    return any((data / folder).exists() for folder in OLD_FOLDERS)


def remove_old(data: Path, digests: Sequence[str]) -> None:
    """Removes files, and their thumbnails, that are cleaned and in the journal."""
    for sha256 in digests:
        old_file(data, sha256).unlink(missing_ok=True)
        (data / OLD_THUMBNAILS / sha256[:2] / sha256).unlink(missing_ok=True)


def remove_old_folders(data: Path) -> None:
    """Removes all that is left in the folders of an older version: halves of files, and thumbnails without an image."""
    for folder in OLD_FOLDERS:
        shutil.rmtree(data / folder, ignore_errors=True)


def stored_format(data: Path) -> int:
    """Returns the format of a data folder: 1 for older versions and for an empty one. Raises ValueError if the file
    is damaged.
    """
    try:
        content = json.loads((data / FORMAT_FILE).read_text("utf-8"))
    except FileNotFoundError:
        return 1
    number = content.get("format") if isinstance(content, dict) else None
    if not isinstance(number, int) or isinstance(number, bool) or number < 1:
        raise ValueError("not a format")
    return number


def mark_format(data: Path) -> None:
    """Says that a data folder is written as this version does."""
    write_atomically(data / FORMAT_FILE, json.dumps({"format": FORMAT}).encode() + b"\n")


def in_batches(digests: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    """The digests, so many at a time."""
    for start in range(0, len(digests), size):
        yield digests[start : start + size]


# An image that is refused for these codes is tried again: the reason may be temporary.
PASSING = (Code.QUEUE_FULL, Code.DEPENDENCY_UNAVAILABLE, Code.STORAGE_FULL, Code.CANCELLED, Code.INTERNAL)
