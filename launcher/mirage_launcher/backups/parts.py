"""The stored parts: each a folder on this machine or in its containers' volumes."""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mirage_launcher import lock
from mirage_launcher.errors import BackupError, StillUpError
from mirage_launcher.folders import Folders

# Files that a restoration has not put in place yet, in each part's folder; never part of a backup.
STAGING = ".restore"
VECTORS = "vectors"
QUEUE = "queue"
DEMO = "demo"
PARTS = frozenset({"atlas", QUEUE, "images", DEMO, VECTORS})
DEMO_MARK = "demo.json"
# The retriever holds these while it keeps the vectors itself.
_LOCKS = ("collections/lock", "edge/lock")


@dataclass(frozen=True)
class Part:
    """A folder under the name that its files have in a backup. `only`: the one file of it that belongs to the part."""

    name: str
    folder: Path
    only: str = ""

    def entries(self) -> list[Path]:
        """Returns the entries of the folder that belong to the part; none if the folder is missing."""
        try:
            with os.scandir(self.folder) as found:
                names = sorted(entry.name for entry in found)
        except FileNotFoundError:
            return []
        return [self.folder / name for name in names if name != STAGING and self.only in ("", name)]


def of_machine(folders: Folders) -> tuple[Part, ...]:
    """Of a `mirage up`. The first of all parts is the one with the retriever's files."""
    return (
        Part("atlas", folders.atlas),
        Part(QUEUE, folders.queue),
        Part("images", folders.images),
        Part(DEMO, folders.root, DEMO_MARK),
    )


def of_volumes(root: Path) -> tuple[Part, ...]:
    """Returns the parts of containers: the volumes of deploy/docker-compose.yml that are mounted below `root` by their
    names.

    Raises BackupError if the atlas' volume is missing.
    """
    wanted = (
        Part("atlas", root / "atlas"),
        Part(QUEUE, root / "queue"),
        Part("images", root / "jobs"),
        Part(DEMO, root / "demo", DEMO_MARK),
        Part(VECTORS, root / VECTORS),
    )
    found = tuple(part for part in wanted if part.folder.is_dir())
    if not found or found[0].name != "atlas":
        raise BackupError(f"{root} has no folder `atlas`: mount the volumes below it, each by its name")
    return found


def require_rest(parts: tuple[Part, ...]) -> None:
    """Raises StillUpError if a retriever has its files open, also one that was started by hand."""
    for name in _LOCKS:
        if lock.is_held(parts[0].folder / name):
            raise StillUpError(f"a retriever uses {parts[0].folder}: stop it first")


def collections(parts: tuple[Part, ...]) -> Iterator[tuple[str, str]]:
    """Name and fingerprint of each collection whose vectors the retriever keeps itself."""
    atlas = parts[0].folder
    for file in (atlas / "edge" / "collection.json", *sorted(atlas.glob("collections/*/collection.json"))):
        try:
            found = json.loads(file.read_text("utf-8"))["collection"]
            yield str(found["name"]), str(found["fingerprint"])
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            # The retriever decides what to do with such a collection: its files are copied unchanged.
            continue
