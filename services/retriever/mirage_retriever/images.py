"""Image files by the SHA-256 of their bytes, with thumbnails beside them."""

import hashlib
import re
from collections.abc import Iterable
from pathlib import Path

from mirage_core.errors import Code, MirageError
from mirage_core.imaging import decode_image, encode_png, encode_thumbnail
from mirage_retriever.files import sync_directory, write_atomically

_SHA256 = re.compile(r"[0-9a-f]{64}")
THUMBNAIL_TYPE = "image/webp"


def sha256_of(data: bytes | bytearray) -> str:
    """Lower-case hex."""
    return hashlib.sha256(data).hexdigest()


class ImageStore:
    """A folder of images below `path`; all calls block. A name is always a digest, never anything that a client chose."""

    def __init__(self, path: Path) -> None:
        self._path = path
        for part in ("images", "thumbnails"):
            (path / part).mkdir(parents=True, exist_ok=True)

    def _file(self, part: str, sha256: str) -> Path:
        if not _SHA256.fullmatch(sha256):
            raise MirageError(Code.INTERNAL)
        return self._path / part / sha256[:2] / sha256

    def store(self, files: Iterable[tuple[bytes, str, bytes]]) -> None:
        """Keeps images, given as (bytes, digest, thumbnail or b""); all of them are on the disk when it returns.

        Raises STORAGE_FULL where there is no space.
        """
        folders: set[Path] = set()
        try:
            for data, sha256, thumbnail in files:
                file = self._file("images", sha256)
                if not file.exists():
                    if not file.parent.exists():
                        file.parent.mkdir()
                        folders.add(file.parent.parent)
                    write_atomically(file, data, sync_name=False)
                    folders.add(file.parent)
                small = self._file("thumbnails", sha256)
                if thumbnail and not small.exists():
                    self._keep_thumbnail(small, thumbnail)
            # Names once a folder rather than once a file.
            for folder in folders:
                sync_directory(folder)
        except OSError as error:
            raise MirageError(Code.STORAGE_FULL) from error

    def _keep_thumbnail(self, file: Path, thumbnail: bytes) -> None:
        # Not forced to the disk: it can be made again, and an empty one counts as missing.
        file.parent.mkdir(exist_ok=True)
        write_atomically(file, thumbnail, sync_data=False, sync_name=False)

    def has(self, sha256: str) -> bool:
        """Whether the image is there."""
        return self._file("images", sha256).exists()

    def original(self, sha256: str) -> bytes:
        """The file as it was stored; raises RECORD_NOT_FOUND where it is gone."""
        try:
            return self._file("images", sha256).read_bytes()
        except FileNotFoundError as error:
            raise MirageError(Code.RECORD_NOT_FOUND, id="image") from error

    def thumbnail(self, sha256: str) -> bytes:
        """A WebP of at most 256 pixels a side, made now if need be."""
        file = self._file("thumbnails", sha256)
        try:
            if data := file.read_bytes():
                return data
        except FileNotFoundError:
            pass
        data = encode_thumbnail(decode_image(self.original(sha256)).image)
        self._keep_thumbnail(file, data)
        return data

    def display(self, sha256: str, media_type: str) -> bytes:
        """A PNG that a browser can show: the original where it is one, else made from it."""
        data = self.original(sha256)
        return data if media_type == "image/png" else encode_png(decode_image(data).image)

    def remove(self, sha256: str) -> None:
        """Forgets an image, if it is there."""
        for part in ("images", "thumbnails"):
            self._file(part, sha256).unlink(missing_ok=True)
