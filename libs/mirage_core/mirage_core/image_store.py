"""Images as they are stored: decoded once, written again by us, and named by the SHA-256 of what was written.

No byte of a file that came in is kept. `take_in` runs in a decoding child (decoders.py) and gives all that is stored of
a file: the 8-bit image, its 16-bit copy if the file has more than 8 bits, and a thumbnail, so that no reader causes
another full decode.
"""

import hashlib
import io
import os
import re
import secrets
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from PIL import Image

from mirage_core import limits
from mirage_core.errors import Code, MirageError
from mirage_core.files import put_aside, sync_path, write_atomically
from mirage_core.imaging import CleanImage, PixelInfo, clean_and_decode, encode_png, encode_thumbnail
from mirage_core.synthetic import is_marked
from mirage_core.synthetic_label import shows_label

# Below the data folder. Older versions stored images elsewhere: everything in here was written by `take_in`.
FOLDER = "clean"
IMAGES, PIXELS, THUMBNAILS, REGIONS = "images", "pixels", "thumbnails", "regions"
_PARTS = (IMAGES, PIXELS, THUMBNAILS, REGIONS)
_INCOMING = "incoming"
THUMBNAIL_TYPE = "image/webp"
PIXELS_TYPE = REGIONS_TYPE = "image/png"
_SHA256 = re.compile(r"[0-9a-f]{64}")
_FORMATS = ("JPEG", "PNG", "WEBP")
_THUMBNAIL_SIDE = 256
# A picture of at most this is its own draft; a larger one is made smaller by a whole number, which costs next to nothing.
_DRAFT_SIDE = 384
# No model looks at more; what is larger as a file is given to it with sides of this at most.
_VIEW_SIDE = 2_048
# Files that an ended process left are older than all files that are still being written.
_LEFT_S = 3_600.0


@dataclass(frozen=True)
class TakenIn:
    """The stored form of a file: the clean image, and a thumbnail of it (WebP, at most 256 pixels a side).

    In a bulk the thumbnail is a draft (a small JPEG), from which the thumbnail is made when it is first asked for.
    """

    clean: CleanImage
    thumbnail: bytes


def take_in(data: bytes, pixels: PixelInfo | None, draft: bool = False) -> TakenIn:
    """Cleans a file that came in, and makes its thumbnail, or a draft of one.

    `pixels` says what the numbers of a 16-bit PNG mean. Raises what `clean_image` raises, and SYNTHETIC_REFUSED for an
    image that says in its file or shows in its pixels that a model made it.
    """
    if is_marked(data):
        raise MirageError(Code.SYNTHETIC_REFUSED)
    clean, image = clean_and_decode(data, pixels=pixels)
    if shows_label(image if image.mode == "RGB" else image.convert("RGB")):
        raise MirageError(Code.SYNTHETIC_REFUSED)
    return TakenIn(clean, _draft(image) if draft else encode_thumbnail(image))


@dataclass(frozen=True)
class Answer:
    """The outcome of one of several files: what is stored of it, or the code and the metadata of its error."""

    taken: TakenIn | None
    code: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)


def take_in_all(files: list[bytes], draft: bool) -> list[Answer]:
    """Takes in several small files, which costs less than one by one. An error of one does not touch the others."""
    answers = []
    for data in files:
        try:
            answers.append(Answer(take_in(data, None, draft)))
        except MirageError as error:
            answers.append(Answer(None, error.code, error.metadata))
    return answers


def thumbnail_of(data: bytes) -> bytes:
    """Makes the thumbnail of a stored image, or of the draft of one."""
    return encode_thumbnail(decode_stored(data))


def is_draft(thumbnail: bytes) -> bool:
    """Returns True if a stored thumbnail is a draft."""
    return not thumbnail.startswith(b"RIFF")


def _draft(image: Image.Image) -> bytes:
    """Returns a small JPEG, in a tenth of the time that a thumbnail takes."""
    longest = max(image.size)
    factor = 1 if longest <= _DRAFT_SIDE else min(-(-longest // _THUMBNAIL_SIDE), *image.size)
    buffer = io.BytesIO()
    image.reduce(factor).save(buffer, "JPEG", quality=90, subsampling=0, icc_profile=None, comment=b"")
    return buffer.getvalue()


def view_of(data: bytes) -> bytes:
    """Returns a stored image as a PNG that is small enough to be sent to a model."""
    image = decode_stored(data)
    image.thumbnail((_VIEW_SIDE, _VIEW_SIDE), Image.Resampling.LANCZOS)
    return encode_png(image)


def decode_stored(data: bytes) -> Image.Image:
    """Decodes an image that `clean_image` wrote to RGB. It may have more bytes than a file that comes in."""
    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
            return image.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise MirageError(Code.IMAGE_UNREADABLE, format="stored") from error


def sha256_of(data: bytes | bytearray) -> str:
    """Returns the digest in lower-case hex."""
    return hashlib.sha256(data).hexdigest()


@dataclass(frozen=True)
class StoredImage:
    """An image in the store, or on its way there: digests name its files ("" for no 16-bit copy), sizes are in
    pixels.
    """

    image_sha256: str
    pixels_sha256: str
    media_type: str
    width: int
    height: int
    pixels: PixelInfo | None


class ImageStore:
    """Images below `path`. All calls block. A file's name is always a digest, never anything that a client chose.

    Several processes may use one folder.
    """

    def __init__(self, path: Path) -> None:
        self._path = path / FOLDER
        for folder in (self._path, *(self._path / part for part in (*_PARTS, _INCOMING))):
            if os.path.lexists(folder) and not folder.is_dir():
                put_aside(folder)
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for left in (self._path / _INCOMING).iterdir():
            with suppress(OSError):
                if time.time() - left.stat().st_mtime > _LEFT_S:
                    left.unlink()

    def _file(self, part: str, sha256: str) -> Path:
        if not _SHA256.fullmatch(sha256):
            raise MirageError(Code.INTERNAL)
        return self._path / part / sha256[:2] / sha256

    def stage(self, taken: TakenIn) -> "StagedImage":
        """Writes the files of an image without putting them in the store yet.

        Raises STORAGE_FULL on a full disk.
        """
        clean = taken.clean
        stored = StoredImage(
            image_sha256=sha256_of(clean.data),
            pixels_sha256=sha256_of(clean.pixels_data) if clean.pixels_data is not None else "",
            media_type=clean.media_type,
            width=clean.width,
            height=clean.height,
            pixels=clean.pixels if clean.pixels_data is not None else None,
        )
        staged = StagedImage(stored, self._path / _INCOMING / secrets.token_hex(8), len(clean.data))
        try:
            for part, data in ((IMAGES, clean.data), (PIXELS, clean.pixels_data), (THUMBNAILS, taken.thumbnail)):
                if data is not None:
                    _write(staged.file(part), data)
        except OSError as error:
            staged.drop()
            raise MirageError(Code.STORAGE_FULL) from error
        return staged

    def keep(self, images: Iterable["StagedImage"], *, sync: bool = True) -> None:
        """Puts staged images in the store; with `sync` they are on the disk when this returns. Raises STORAGE_FULL."""
        folders: set[Path] = set()
        try:
            for staged in images:
                for part, sha256 in _files(staged.stored):
                    self._keep(staged.file(part), self._file(part, sha256), folders, sync=sync and part != THUMBNAILS)
            # Names once a folder rather than once a file.
            for folder in folders if sync else ():
                sync_path(folder)
        except OSError as error:
            raise MirageError(Code.STORAGE_FULL) from error

    def _keep(self, source: Path, file: Path, folders: set[Path], *, sync: bool) -> None:
        if file.exists() and file.stat().st_size:
            source.unlink(missing_ok=True)
            return
        if not file.parent.exists():
            file.parent.mkdir(mode=0o700, exist_ok=True)
            folders.add(file.parent.parent)
        if sync:
            # A thumbnail can be made again, and an empty one counts as missing.
            sync_path(source)
            folders.add(file.parent)
        source.rename(file)

    def has(self, image_sha256: str, pixels_sha256: str = "") -> bool:
        """True if the image is there, and its 16-bit copy if it has one."""
        return self._file(IMAGES, image_sha256).exists() and (
            not pixels_sha256 or self._file(PIXELS, pixels_sha256).exists()
        )

    def file(self, part: str, sha256: str) -> bytes:
        """Returns a whole file; raises RECORD_NOT_FOUND if it is gone."""
        with self._opened(part, sha256) as file:
            return file.read()

    def read(self, part: str, sha256: str) -> "tuple[Reading, bytes]":
        """Opens a file to be sent piece by piece, with its first piece.

        Raises RECORD_NOT_FOUND if it is gone or empty.
        """
        reading = Reading(self._opened(part, sha256))
        if not reading.length:
            reading.close()
            raise MirageError(Code.RECORD_NOT_FOUND, id="image")
        return reading, reading.next()

    def _opened(self, part: str, sha256: str) -> BinaryIO:
        try:
            return self._file(part, sha256).open("rb")
        except FileNotFoundError as error:
            raise MirageError(Code.RECORD_NOT_FOUND, id="image") from error

    def has_thumbnail(self, image_sha256: str) -> bool:
        """False if there is only a draft of it, or if it was lost with the power."""
        try:
            with self._file(THUMBNAILS, image_sha256).open("rb") as file:
                return not is_draft(file.read(4))
        except FileNotFoundError:
            return False

    def draft(self, image_sha256: str) -> bytes:
        """Returns what a thumbnail can be made of: its draft, or else the image. Raises RECORD_NOT_FOUND."""
        with suppress(FileNotFoundError):
            if data := self._file(THUMBNAILS, image_sha256).read_bytes():
                return data
        return self.file(IMAGES, image_sha256)

    def keep_thumbnail(self, image_sha256: str, thumbnail: bytes) -> None:
        """Stores a thumbnail that was made again; raises STORAGE_FULL."""
        file = self._file(THUMBNAILS, image_sha256)
        try:
            file.parent.mkdir(mode=0o700, exist_ok=True)
            write_atomically(file, thumbnail, sync_data=False, sync_name=False)
        except OSError as error:
            raise MirageError(Code.STORAGE_FULL) from error

    def keep_regions(self, maps: Mapping[str, bytes]) -> None:
        """Stores label maps by the SHA-256 of each; they are on the disk when this returns. Raises STORAGE_FULL."""
        try:
            for sha256, data in maps.items():
                file = self._file(REGIONS, sha256)
                if not (file.exists() and file.stat().st_size):
                    file.parent.mkdir(mode=0o700, exist_ok=True)
                    write_atomically(file, data)
        except OSError as error:
            raise MirageError(Code.STORAGE_FULL) from error

    def digests(self, part: str) -> Iterator[str]:
        """Walks over the names of all files of a part, in no order."""
        for folder in (self._path / part).iterdir():
            for file in folder.iterdir():
                if _SHA256.fullmatch(file.name):
                    yield file.name

    def remove_image(self, image_sha256: str) -> None:
        """Removes an image and its thumbnail, if they are there."""
        self._file(THUMBNAILS, image_sha256).unlink(missing_ok=True)
        self._file(IMAGES, image_sha256).unlink(missing_ok=True)

    def remove_pixels(self, pixels_sha256: str) -> None:
        """Removes a 16-bit copy, if it is there."""
        self._file(PIXELS, pixels_sha256).unlink(missing_ok=True)

    def has_regions(self, sha256: str) -> bool:
        """True if the label map is there."""
        return self._file(REGIONS, sha256).exists()

    def remove_regions(self, sha256: str) -> None:
        """Removes a label map, if it is there."""
        self._file(REGIONS, sha256).unlink(missing_ok=True)


@dataclass(frozen=True)
class StagedImage:
    """Files that are written but not in the store; `base` is their path up to the part, `size` the image's bytes.

    Once they are kept, the image can no longer be read here.
    """

    stored: StoredImage
    base: Path
    size: int

    def file(self, part: str) -> Path:
        """The path of one of the files."""
        return self.base.with_name(f"{self.base.name}.{part}")

    def image(self) -> bytes:
        """Returns the image file."""
        return self.file(IMAGES).read_bytes()

    def drop(self) -> None:
        """Removes what is not in the store."""
        for part in _PARTS:
            self.file(part).unlink(missing_ok=True)


class Reading:
    """A file of the store that is being sent.

    One that is removed meanwhile is read to its end. `length` is in bytes.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._read = 0
        self.length = os.fstat(file.fileno()).st_size

    @property
    def is_at_end(self) -> bool:
        """True if nothing is left."""
        return self._read >= self.length

    def next(self) -> bytes:
        """Returns the next piece, at most limits.PART_BYTES; b"" at the end."""
        piece = self._file.read(limits.PART_BYTES)
        self._read += len(piece)
        return piece

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


def _files(stored: StoredImage) -> tuple[tuple[str, str], ...]:
    # The image last: if it exists, the others do.
    pixels = ((PIXELS, stored.pixels_sha256),) if stored.pixels_sha256 else ()
    return (*pixels, (THUMBNAILS, stored.image_sha256), (IMAGES, stored.image_sha256))


def _write(file: Path, data: bytes) -> None:
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as out:
        out.write(data)
