"""The manifest of a backup, its first file: its contents, and the hash of each file."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self

from mirage_launcher.backups.parts import DEMO, DEMO_MARK, PARTS, STAGING
from mirage_launcher.errors import BackupInvalidError, BackupNewerError

NAME = "mirage-backup.json"
# From 2 on the jobs are data (`queue`), from 3 on images are clean (`images`).
FORMAT = 3
# A hundred thousand images are 20 MB.
MANIFEST_BYTES = 512 * 2**20
_NAME_BYTES = 1024
# Of older versions and of this one.
_IMAGES = ("atlas/images/", "atlas/clean/images/")
# The longest name between two slashes that a file system takes.
_STEP_BYTES = 255


@dataclass(frozen=True)
class Member:
    """A file: its length in bytes and the SHA-256 of them, in lower-case hex."""

    size: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """The whole. `members` and `folders` (the empty ones) have names such as `atlas/images/0a/0a1b`: first their
    part's.

    `mirage` is the version that wrote it, `created` UTC in ISO 8601, `collections` the fingerprints of the models by
    which the collections were made; of a Qdrant server's they are not known. `format` says how the parts are written.
    """

    mirage: str
    created: str
    parts: tuple[str, ...]
    collections: Mapping[str, str]
    members: Mapping[str, Member]
    folders: tuple[str, ...] = ()
    format: int = FORMAT

    @property
    def total_bytes(self) -> int:
        """Of all files, unpacked."""
        return sum(member.size for member in self.members.values())

    def counts(self) -> dict[str, int]:
        """Files by part, and `atlas images`: the records' images, each once."""
        counts = Counter(name.partition("/")[0] for name in self.members)
        pictures = sum(name.startswith(_IMAGES) for name in self.members)
        return {**{part: counts[part] for part in self.parts}, "atlas images": pictures}

    def to_json(self) -> bytes:
        """Returns the text of the file."""
        fields = {
            "format": self.format,
            "mirage": self.mirage,
            "created": self.created,
            "parts": self.parts,
            "collections": dict(self.collections),
            "counts": self.counts(),
            "folders": self.folders,
            "files": {name: [member.size, member.sha256] for name, member in self.members.items()},
        }
        return json.dumps(fields, indent=1).encode()

    @classmethod
    def from_json(cls, data: bytes) -> Self:
        """Reads one. Raises BackupNewerError, and BackupInvalidError for anything that no version writes."""
        try:
            fields = json.loads(data)
            number = fields["format"]
            if not isinstance(number, int) or number < 1:
                raise ValueError("not a format")
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise BackupInvalidError("its list of files cannot be read") from error
        if number > FORMAT:
            made = str(fields.get("mirage", "a later version"))[:40]
            raise BackupNewerError(
                f"it has format {number}, written by MIRAGE {made}; this one reads up to {FORMAT}: upgrade it first"
            )
        try:
            manifest = cls(
                mirage=str(fields["mirage"]),
                created=str(fields["created"]),
                parts=tuple(map(str, fields["parts"])),
                collections={str(name): str(value) for name, value in fields["collections"].items()},
                members={str(name): _member(value) for name, value in fields["files"].items()},
                folders=tuple(map(str, fields["folders"])),
                format=number,
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise BackupInvalidError("its list of files cannot be read") from error
        manifest._check_names()
        return manifest

    def _check_names(self) -> None:
        if unknown := set(self.parts) - PARTS:
            raise BackupInvalidError(f"it holds a part that no backup has: {sorted(unknown)[0][:200]!r}")
        for name in (*self.members, *self.folders):
            check_name(name, self.parts)
        for name in self.folders:
            if name in self.members:
                raise BackupInvalidError(f"{name!r} is a file and a folder")
        for name in (*self.members, *self.folders):
            if any(above in self.members for above in _above(name)):
                raise BackupInvalidError(f"{name!r} is below a file")


def check_name(name: str, parts: Iterable[str]) -> None:
    """Raises BackupInvalidError for a file name that leads outside of the parts' folders."""
    steps = name.split("/")
    plain = all(step not in ("", ".", "..") and "\\" not in step and step.isprintable() for step in steps)
    short = plain and len(name) <= _NAME_BYTES and all(len(step.encode()) <= _STEP_BYTES for step in steps)
    placed = len(steps) > 1 and steps[0] in parts and steps[1] != STAGING
    if not (short and placed and (steps[0] != DEMO or steps[1:] == [DEMO_MARK])):
        raise BackupInvalidError(f"it holds a file by a name that no backup has: {name[:200]!r}")


def _above(name: str) -> Iterable[str]:
    while "/" in name:
        name = name.rpartition("/")[0]
        yield name


def _member(value: Any) -> Member:
    size, sha256 = value
    if not (isinstance(size, int) and not isinstance(size, bool) and size >= 0 and isinstance(sha256, str)):
        raise ValueError("not a file's length and hash")
    return Member(size, sha256)
