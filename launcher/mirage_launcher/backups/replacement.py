"""Replaces the content of the parts: all of it or nothing, even if the process or the machine ends in between.

The new content is written next to the old one. Once it is complete, a mark, `COMMITTED`, is written to the first
part's folder; each later step is a renaming that can be repeated.
"""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from mirage_core.files import sync_path
from mirage_launcher.backups.parts import STAGING, Part

_MARK = "COMMITTED"
_NEW, _COMING, _OLD, _SCRATCH = "new", "coming", "old", "scratch"


class Replacement:
    """New content for all of the parts, of which the first has the mark. `settle` what an earlier one left before."""

    def __init__(self, parts: Sequence[Part]) -> None:
        self._parts = parts
        self._folders = {part.name: part for part in parts}

    def begin(self) -> None:
        """Makes folders for the new content. Raises OSError."""
        for part in self._parts:
            part.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            for folder in (part.folder / STAGING, part.folder / STAGING / _NEW):
                folder.mkdir(mode=0o700)
                _give(folder, part)

    def scratch(self) -> Path:
        """A folder on the same disk for what is only needed until the new is whole."""
        folder = self._parts[0].folder / STAGING / _SCRATCH
        folder.mkdir(mode=0o700, exist_ok=True)
        return folder

    def open(self, name: str) -> IO[bytes]:
        """Opens a new file of a backup by the name that it has there, which `check_name` has passed."""
        part, _, path = name.partition("/")
        file = self._folder(part, path.rpartition("/")[0]) / path.rpartition("/")[2]
        handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        _give(file, self._folders[part])
        return os.fdopen(handle, "wb", buffering=0)

    def folder(self, part: str) -> Path:
        """The new content's folder of a part, for what is not written by `open`: `adopt` it afterwards."""
        return self._folders[part].folder / STAGING / _NEW

    def adopt(self, part: str) -> None:
        """Gives all that is in the new content's folder of a part to the part's owner."""
        if os.geteuid() == 0:
            for below, folders, files in os.walk(self.folder(part)):
                for name in (*folders, *files):
                    _give(Path(below) / name, self._folders[part])

    def make_folder(self, name: str) -> None:
        """Makes an empty folder likewise."""
        part, _, path = name.partition("/")
        self._folder(part, path)

    def _folder(self, part: str, path: str) -> Path:
        folder = self._folders[part].folder / STAGING / _NEW
        for step in filter(None, path.split("/")):
            folder = folder / step
            if not folder.exists():
                folder.mkdir(mode=0o700)
                _give(folder, self._folders[part])
        return folder

    def commit(self) -> None:
        """Turns the new into what is stored, and removes the old."""
        os.sync()
        mark = _mark(self._parts)
        mark.touch()
        for path in (mark, mark.parent):
            sync_path(path)
        settle(self._parts)


def settle(parts: Sequence[Part]) -> None:
    """Ends an interrupted replacement: finishes it if it was committed, else undoes it. Raises OSError."""
    staged = [part for part in parts if (part.folder / STAGING).is_dir()]
    if not staged:
        return
    mark = _mark(parts)
    if mark.exists():
        for part in staged:
            _exchange(part)
        os.sync()
        mark.unlink()
        sync_path(mark.parent)
    for part in staged:
        shutil.rmtree(part.folder / STAGING)


def _exchange(part: Part) -> None:
    staging = part.folder / STAGING
    new, coming, old = staging / _NEW, staging / _COMING, staging / _OLD
    if new.is_dir():
        old.mkdir(mode=0o700, exist_ok=True)
        for entry in part.entries():
            entry.rename(old / entry.name)
        # From here on the folder has new content: a repeated run must not treat it as the old one.
        new.rename(coming)
    if coming.is_dir():
        for entry in sorted(coming.iterdir()):
            entry.rename(part.folder / entry.name)


def _mark(parts: Sequence[Part]) -> Path:
    return parts[0].folder / STAGING / _MARK


def _give(path: Path, part: Part) -> None:
    # In a container this runs as root, for volumes that belong to the services' users.
    if os.geteuid() == 0:
        owner = part.folder.stat()
        os.chown(path, owner.st_uid, owner.st_gid)
