"""What readers of folders share: files that surely lie inside, ids that any server takes, and rows that tell what is wrong."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from pathlib import Path, PurePosixPath

CAPTION_CHARACTERS = 20_000
IMAGE_BYTES = 20_000_000
ID_CHARACTERS = 128
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")
_OTHER = re.compile(r"[^A-Za-z0-9._-]+")
SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".dcm"})


class RowError(ValueError):
    """A row that cannot become a record; the message names the fault, never the row's content."""


class Folder:
    """A dataset's folder. Names of files come from the dataset and are not trusted."""

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()

    def image(self, file: object) -> Path:
        """An image file by its name relative to the folder; raises RowError unless it is a plain file inside, of bounded size."""
        if not isinstance(file, str) or not file or "\\" in file or "\0" in file:
            raise RowError("the file name is missing or not plain")
        relative = PurePosixPath(file)
        if relative.is_absolute() or ".." in relative.parts:
            raise RowError("the file lies outside the folder")
        path = self.path / relative
        try:
            # A link anywhere on the way could lead out of the folder, or to a device.
            if path.resolve() != path or not path.is_file():
                raise RowError("the file is missing or a link")
            if path.stat().st_size > IMAGE_BYTES:
                raise RowError("the file is too large")
        except OSError:
            raise RowError("the file cannot be read") from None
        return path


class Ids:
    """Ids of one dataset as a server takes them; raises RowError for one that was used before."""

    def __init__(self) -> None:
        self._seen: set[str] = set()

    def take(self, given: object) -> tuple[str, dict[str, str]]:
        """A valid id for the dataset's own, always the same one, and {"id": the own one} where it had to be changed."""
        text = str(given).strip() if isinstance(given, str | int) else ""
        if not text:
            raise RowError("the id is missing")
        if len(text) > 10_000:
            raise RowError("the id is too long")
        made, kept = (text, {}) if _ID.fullmatch(text) else (_slug(text), {"id": text[:1000]})
        if made in self._seen:
            raise RowError("the id was used before")
        self._seen.add(made)
        return made, kept


def _slug(text: str) -> str:
    """Letters and digits of the text with a short digest, so that different texts stay different."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    words = _OTHER.sub("-", plain).strip("-._")[: ID_CHARACTERS - 14].strip("-._")
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:12]
    return f"{words}-{digest}" if words and words[0].isalnum() else f"r-{digest}"


def caption_text(value: object) -> str:
    """A caption; raises RowError where there is none or it is too long."""
    if not isinstance(value, str) or not value.strip():
        raise RowError("the caption is missing")
    if len(value) > CAPTION_CHARACTERS:
        raise RowError("the caption is too long")
    return value.strip()


def line_text(value: object) -> str:
    """A short text such as a source, on one line; empty where it is none."""
    return " ".join(value.split())[:2000] if isinstance(value, str) else ""
