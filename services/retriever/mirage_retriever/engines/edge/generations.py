"""Generations of a shard: directories of which the file CURRENT names the one that holds the truth."""

import contextlib
import errno
import os
import re
import shutil
from pathlib import Path

from mirage_core import telemetry
from mirage_core.files import put_aside, write_atomically

# Bytes that stay free for writes while a generation is built.
_FREE_BYTES = 512 * 2**20
# With less, an error of the engine may mean nothing else.
_ROOM_BYTES = 64 * 2**20
_NAME = re.compile(r"g(\d{8})")
_log = telemetry.get_logger()


def has_room(path: Path) -> bool:
    """False if the disk is so full that an error may only mean that."""
    return shutil.disk_usage(path).free > _ROOM_BYTES


class Generations:
    """The directories g00000001, g00000002, ... below one path.

    `publish` is one atomic rename: a crash leaves either the old generation current or the new one, never a mixture.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        path.mkdir(parents=True, exist_ok=True)
        self._current = self._read()

    @staticmethod
    def exist(path: Path) -> bool:
        """True if there is a generation to open below `path`."""
        return bool(_generations(path))

    def _read(self) -> Path | None:
        mark = self._path / "CURRENT"
        with contextlib.suppress(OSError, UnicodeDecodeError):
            name = mark.read_text().strip()
            if _NAME.fullmatch(name) and (self._path / name).is_dir():
                return self._path / name
        # The mark is lost or damaged. A later generation may be one that was being built: the first is whole.
        found = _generations(self._path)
        if not found:
            return None
        if os.path.lexists(mark):
            put_aside(mark)
        write_atomically(mark, found[0].name.encode())
        _log.error("generation chosen anew", path=str(self._path), generation=found[0].name, others=len(found) - 1)
        return found[0]

    @property
    def current(self) -> Path | None:
        """The generation that is published; None before the first."""
        return self._current

    def prepare(self) -> Path:
        """Returns an unused path for the next generation."""
        taken = [int(match[1]) for entry in self._path.iterdir() if (match := _NAME.fullmatch(entry.name))]
        return self._path / f"g{max(taken, default=0) + 1:08d}"

    def check_room(self) -> None:
        """Raises OSError if a copy of the current generation, and a graph in it, could fill the disk."""
        if self._current is None:
            return
        size = 0
        for file in self._current.rglob("*"):
            with contextlib.suppress(FileNotFoundError):  # a live shard drops parts of its log
                size += file.lstat().st_blocks * 512
        if shutil.disk_usage(self._path).free < 2 * size + _FREE_BYTES:
            raise OSError(errno.ENOSPC, "no room to build")

    def publish(self, generation: Path) -> None:
        """Makes the generation the current one, on the disk when this returns."""
        write_atomically(self._path / "CURRENT", generation.name.encode())
        self._current = generation

    def clean(self) -> None:
        """Removes every generation but the current one: leftovers of a crash, or what was replaced."""
        for entry in self._path.iterdir():
            if _NAME.fullmatch(entry.name) and entry != self._current:
                shutil.rmtree(entry, ignore_errors=True)


def _generations(path: Path) -> list[Path]:
    """The directories that are there, the first one first."""
    try:
        return sorted(entry for entry in path.iterdir() if _NAME.fullmatch(entry.name) and entry.is_dir())
    except OSError:
        return []
