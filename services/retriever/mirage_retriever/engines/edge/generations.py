"""Generations of a shard: directories of which the file CURRENT names the one that holds the truth."""

import contextlib
import errno
import re
import shutil
from pathlib import Path

from mirage_core.files import write_atomically

# What stays free for writes while a generation is built.
_FREE_BYTES = 512 * 2**20
_NAME = re.compile(r"g(\d{8})")


class Generations:
    """The directories g00000001, g00000002, ... below one path.

    `publish` is one atomic rename: a crash leaves either the old generation current or the new one, never a mixture.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        path.mkdir(parents=True, exist_ok=True)
        self._current = self._read()

    def _read(self) -> Path | None:
        try:
            name = (self._path / "CURRENT").read_text().strip()
        except FileNotFoundError:
            return None
        return self._path / name if _NAME.fullmatch(name) else None

    @property
    def current(self) -> Path | None:
        """The generation that is published; None before the first."""
        return self._current

    def prepare(self) -> Path:
        """Where the next generation is to be made; nothing is there."""
        taken = [int(match[1]) for entry in self._path.iterdir() if (match := _NAME.fullmatch(entry.name))]
        return self._path / f"g{max(taken, default=0) + 1:08d}"

    def check_room(self) -> None:
        """Raises OSError where a copy of the current generation, and a graph in it, could fill the disk."""
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
