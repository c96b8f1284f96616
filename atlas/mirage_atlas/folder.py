"""Shared by folder readers: files that surely belong to the dataset, ids that any server takes, and texts without surprises.

Links. A hub's download leaves a folder of links to files next to it, so links are followed, but only to regular files, and only
if they lead to the dataset's own folder or to its store of blobs: a folder `blobs` next to the dataset's folder, or next to the
`snapshots` folder that it is in (`NAME/snapshots/REVISION/a.png -> ../../blobs/DIGEST`). So a dataset from elsewhere cannot make
this command read another file of the person who runs it. `follow_links` reads what any link leads to.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
import unicodedata
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

from mirage_core import limits
from mirage_core.errors import MirageError

CAPTION_CHARACTERS = 20_000
IMAGE_BYTES = 20_000_000
ID_CHARACTERS = 128
LINE_CHARACTERS = 2_000
LABEL_CHARACTERS = 1_000
SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".dcm"})
_FILE_CHARACTERS = 4_096
_OTHER = re.compile(r"[^A-Za-z0-9._-]+")
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_DRIVE = re.compile(r"[A-Za-z]:(?:/|$)")
_ENTRIES = 2_000_000


class RowError(ValueError):
    """A row that cannot become a record; the message names the fault, never the row's content."""


class Folder:
    """A dataset's folder. Names of files come from the dataset and are not trusted.

    `path` may be the folder or a file in it; `path` of this object is the folder's real one.
    """

    def __init__(self, path: Path, *, follow_links: bool = False) -> None:
        self._follow = follow_links
        self.path = path.resolve() if path.is_dir() else path.parent.resolve()
        self._stores = _blob_stores(self.path)
        if not path.is_dir() and path.is_symlink() and not self._is_ours(_target(path)):
            # The file itself was named, so the dataset is in the folder that the link leads to.
            self.path = _target(path).parent
            self._stores = _blob_stores(self.path)
        self._entries: dict[Path, dict[str, list[str]]] = {}
        self._folders: dict[str, str] = {}

    @property
    def name(self) -> str:
        """The folder's name, on one line."""
        return line_text(self.path.name) or "dataset"

    def relative(self, path: Path) -> str:
        """A file's name relative to the folder, as complaints show it."""
        try:
            return line_text(str(path.absolute().relative_to(self.path)))
        except ValueError:
            return line_text(path.name)

    def image(self, file: object) -> Path:
        """An image file by the name that a dataset has for it; raises RowError unless it is a plain file of bounded size.

        A name may be written with other separators, in another case or Unicode form, percent-encoded, without a suffix or with
        that of another format, and may leave out `images/`, as long as exactly one file fits.
        """
        if not isinstance(file, str) or not file.strip() or "\0" in file or len(file) > _FILE_CHARACTERS:
            raise RowError("the file name is missing or not plain")
        file = file.strip()
        path = self._plain(file)
        if path is not None:
            return path
        if _ADDRESS.match(file):
            raise RowError("the file is an address of the web")
        outside = 0
        spellings = dict.fromkeys((file, file.replace("\\", "/"), unquote(file), unquote(file.replace("\\", "/"))))
        for spelling in spellings:
            parts = self._parts(spelling)
            if parts is None:
                outside += 1
                continue
            for inside in (parts, ("images", *parts)):
                path = self._found(inside)
                if path is not None:
                    return self.checked(path)
        raise RowError("the file lies outside the folder" if outside == len(spellings) else "the file is missing")

    def _plain(self, file: str) -> Path | None:
        """The file of this very name if it is a regular one and no link, the usual case; None to look closer."""
        inside, _, name = file.rpartition("/")
        if name in ("", ".", "..") or ".." in inside or file.startswith("/"):
            return None
        folder = self._folders.get(inside)
        try:
            if folder is None:
                folder = os.path.realpath(self.path / inside, strict=True)
                if not self._is_ours(Path(folder)):
                    return None
                if len(self._folders) >= 1_000:
                    self._folders.clear()
                self._folders[inside] = folder
            status = os.lstat(f"{folder}/{name}")
        except (OSError, ValueError):
            return None
        if not stat.S_ISREG(status.st_mode) or status.st_size > IMAGE_BYTES:
            return None
        return self.path / inside / name

    def checked(self, path: Path, *, most: int = IMAGE_BYTES) -> Path:
        """A file of the dataset; raises RowError unless it is a regular one of the dataset's own, with at most `most` bytes."""
        try:
            target = _target(path)
            if not self._follow and not self._is_ours(target):
                raise RowError("the file is a link that leaves the folder")
            status = target.stat()
        except FileNotFoundError:
            raise RowError("the file is missing") from None
        # A loop of links is a RuntimeError up to Python 3.12.
        except (OSError, RuntimeError):
            raise RowError("the file cannot be read") from None
        if not stat.S_ISREG(status.st_mode):
            is_folder = stat.S_ISDIR(status.st_mode)
            raise RowError("the folder cannot be read" if is_folder else "the file is not a regular file")
        if status.st_size > most:
            raise RowError("the file is too large")
        return path

    def holds(self, path: Path) -> bool:
        """True for a regular file that is the dataset's own, of any size."""
        try:
            self.checked(path, most=2**63)
        except RowError:
            return False
        return True

    def files(self, pattern: str) -> list[Path]:
        """The dataset's own files of a pattern in the folder itself, by name; hidden ones are left out."""
        return sorted(each for each in self.path.glob(pattern) if not is_hidden(each.name) and self.holds(each))

    def _is_ours(self, target: Path) -> bool:
        return any(target.is_relative_to(place) for place in (self.path, *self._stores))

    def _parts(self, file: str) -> tuple[str, ...] | None:
        """The parts of a name relative to the folder; None if it leaves the folder."""
        relative = PurePosixPath(file)
        if _DRIVE.match(file):
            return None
        if relative.is_absolute():
            if not relative.is_relative_to(PurePosixPath(self.path)):
                return None
            relative = relative.relative_to(PurePosixPath(self.path))
        parts: list[str] = []
        for part in relative.parts:
            if part == "..":
                if not parts:
                    return None
                parts.pop()
            else:
                parts.append(part)
        return tuple(parts)

    def _found(self, parts: tuple[str, ...]) -> Path | None:
        """The file of the parts, spelled exactly so or else as the only one that fits; raises RowError if several do."""
        path = self.path.joinpath(*parts)
        try:
            if path.exists() or path.is_symlink():
                return None if path.is_dir() else path
            path = self.path
            for number, part in enumerate(parts, start=1):
                name = self._name_in(path, part, last=number == len(parts))
                if name is None:
                    return None
                path = path / name
            return None if path.is_dir() else path
        except OSError:
            return None

    def _name_in(self, folder: Path, part: str, *, last: bool) -> str | None:
        """The entry of a folder that a part of a name means."""
        try:
            if (folder / part).exists():
                return part
        except OSError:
            return None
        entries = self._listed(folder)
        names = entries.get(_folded(part), [])
        if not names and last:
            stem = part[: -len(PurePosixPath(part).suffix)] if PurePosixPath(part).suffix.lower() in SUFFIXES else part
            names = entries.get(_folded(stem) + "\0", [])
        if len(names) > 1:
            raise RowError("more than one file fits the name")
        return names[0] if names else None

    def _listed(self, folder: Path) -> dict[str, list[str]]:
        """Names in a folder by their folded form, and by that of their stem with a NUL behind it for image files."""
        if folder not in self._entries:
            found: dict[str, list[str]] = {}
            # A folder outside is not listed: what is in it is refused anyway.
            if folder.is_dir() and self._is_ours(_target(folder)):
                for number, entry in enumerate(folder.iterdir()):
                    if number == _ENTRIES:
                        break
                    found.setdefault(_folded(entry.name), []).append(entry.name)
                    if entry.suffix.lower() in SUFFIXES:
                        found.setdefault(_folded(entry.stem) + "\0", []).append(entry.name)
            if len(self._entries) >= 64:
                self._entries.clear()
            self._entries[folder] = found
        return self._entries[folder]


def _target(path: Path) -> Path:
    return path.resolve(strict=True)


def _blob_stores(folder: Path) -> tuple[Path, ...]:
    """The folders of blobs that a download of this folder links to."""
    near = [folder.parent / "blobs"]
    near += [each.parent.parent / "blobs" for each in (folder, *folder.parents) if each.parent.name == "snapshots"]
    return tuple(each.resolve() for each in near if each.is_dir() and not each.is_symlink())


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def is_hidden(name: str) -> bool:
    """True for names of files that no dataset means: dot files (also those that a Mac leaves) and locks of office programs."""
    return name.startswith((".", "~$"))


class Ids:
    """Ids of one dataset as a server takes them; raises RowError for one that was used before."""

    def __init__(self, dataset: str) -> None:
        self._dataset = dataset
        self._seen: dict[str, str] = {}

    def take(self, given: object, where: str = "") -> tuple[str, dict[str, str]]:
        """A valid id for the dataset's own, always the same one, and {"id": the own one} if it had to be changed.

        `where` says which row has it.
        """
        if isinstance(given, float) and given.is_integer():
            given = int(given)
        text = str(given).strip() if isinstance(given, str | int) and not isinstance(given, bool) else ""
        if not text:
            raise RowError("the id is missing")
        if len(text) > 10_000:
            raise RowError("the id is too long")
        made, kept = (text, {}) if is_id(text) else (_slug(text), {"id": label_text(text)})
        self._use(made, where, "id")
        return made, kept

    def make(self, path: str, where: str = "") -> tuple[str, tuple[str, ...]]:
        """An id for a row without one, from the dataset's name and the file's, and the ids that earlier versions made.

        It is the same in each run, and another than that of a file of this name in another dataset. The file's name is not in it:
        it may be a patient's.
        """
        words = _slug_words(self._dataset)[:40].strip("-._")
        digest = hashlib.sha256(f"{self._dataset}\0{_composed(path)}".encode("utf-8", "surrogatepass")).hexdigest()[:16]
        made = f"{words}-{digest}" if words and words[0].isalnum() else f"r-{digest}"
        self._use(made, where, "file")
        return made, tuple(dict.fromkeys(former_id(each) for each in (path, path.removeprefix("images/"))))

    def _use(self, made: str, where: str, what: str) -> None:
        before = self._seen.get(made)
        if before is not None:
            hint = "" if what == "id" else "; give the rows ids"
            raise RowError(f"the {what} was used before" + (f" ({before})" if before else "") + hint)
        self._seen[made] = where


def is_id(text: str) -> bool:
    """True for what a server takes as a record's id."""
    try:
        limits.check_id(text)
    except MirageError:
        return False
    return True


def former_id(path: str) -> str:
    """The id of a file of a table without ids, as it was made from the file's name alone."""
    return path if is_id(path) else _slug(path)


def _composed(text: str) -> str:
    return unicodedata.normalize("NFC", text)


def _slug(text: str) -> str:
    """Letters and digits of the text with a short digest, so that different texts stay different."""
    words = _slug_words(text)[: ID_CHARACTERS - 14].strip("-._")
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:12]
    return f"{words}-{digest}" if words and words[0].isalnum() else f"r-{digest}"


def _slug_words(text: str) -> str:
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return re.sub(r"\.{2,}", ".", _OTHER.sub("-", plain)).strip("-._")


def plain_text(text: str) -> str:
    """The text without control characters (line breaks and tabs stay) and without halves of characters."""
    if text.isprintable():
        return text
    return "".join(_plain_characters(text.replace("\r\n", "\n")))


def _plain_characters(text: str) -> Iterator[str]:
    for char in text:
        if char.isprintable() or char in "\n\t":
            yield char
        elif char.isspace():
            yield "\n" if char in "\r\u2028\u2029\x85" else " "
        elif unicodedata.category(char) == "Cs":
            yield "\N{REPLACEMENT CHARACTER}"
        elif unicodedata.category(char) not in ("Cc",):
            # Format characters, such as joiners of scripts, belong to the text.
            yield char


def label_text(text: str) -> str:
    """A label or a label's name as a record may have it: plain, at most 1,000 characters, the last an ellipsis if it was cut."""
    return cut(plain_text(text).strip(), LABEL_CHARACTERS)


def cut(text: str, most: int) -> str:
    """The text, or its start with an ellipsis."""
    return text if len(text) <= most else text[: most - 1].rstrip() + "\N{HORIZONTAL ELLIPSIS}"


def caption_text(value: object) -> str:
    """A caption; raises RowError if it is missing or too long."""
    text = plain_text(value).strip() if isinstance(value, str) else ""
    if not text:
        raise RowError("the caption is missing")
    if len(text) > CAPTION_CHARACTERS:
        raise RowError("the caption is too long")
    return text


def line_text(value: object) -> str:
    """A short text such as a source, on one line; empty for anything else."""
    return cut(" ".join(plain_text(value).split()), LINE_CHARACTERS) if isinstance(value, str) else ""
