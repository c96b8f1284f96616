"""The embedded collections: one directory each, and a file that names the active one."""

import asyncio
import contextlib
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

from mirage_core import telemetry
from mirage_core.files import put_aside, take, write_atomically
from mirage_retriever.engines.base import SCHEMA, Collection, CollectionDamagedError, Engine
from mirage_retriever.engines.edge.engine import EdgeEngine
from mirage_retriever.engines.edge.stored import check, stored_collection

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
# The first collection of a data directory has always stood here.
_FIRST = "edge"
_OTHERS = "collections"
_LEFT = ".removed-"
_ACTIVE = "ACTIVE"
_log = telemetry.get_logger()


class EdgeCollectionStore:
    """Collections below `data`: the first in `edge/`, the others in `collections/NAME/`; `ACTIVE` names the active one.

    `make` makes an engine on a directory. Leftovers of a collection that was being made or removed during a crash are
    removed at the start. One process at a time: raises OSError if another one has the data.
    """

    def __init__(self, data: Path, *, default: str, make: Callable[[Path], EdgeEngine]) -> None:
        self._data = data
        self._default = default
        self._make = make
        for path, fits in ((data / _OTHERS, Path.is_dir), (data / _ACTIVE, Path.is_file)):
            if os.path.lexists(path) and not fits(path):
                _log.error("damaged file put aside", kept_as=str(put_aside(path)), problem="of another kind")
        (data / _OTHERS).mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = take(data / _OTHERS)
        for file in data.glob(".ACTIVE.*.new"):
            file.unlink(missing_ok=True)
        for entry in data.glob(f"{_LEFT}*"):
            shutil.rmtree(entry, ignore_errors=True)
        for entry in (data / _FIRST, *(data / _OTHERS).iterdir()):
            if _NAME.fullmatch(entry.name) and entry.name != "lock":
                self._look_at(entry)

    def _look_at(self, entry: Path) -> None:
        """Renames damaged collections, and removes unfinished ones."""
        try:
            if os.path.lexists(entry) and not entry.is_dir():
                raise CollectionDamagedError("not a folder")
            if not check(entry) and entry.parent.name == _OTHERS:
                shutil.rmtree(entry, ignore_errors=True)
        except CollectionDamagedError as error:
            _log.error("damaged collection put aside", kept_as=str(put_aside(entry)), problem=str(error))

    async def names(self) -> list[str]:
        """By the directories that hold a whole collection."""
        return sorted(self._stored())

    async def without_words(self) -> list[str]:
        """Those whose collection.json has an older schema."""
        return sorted(name for name, collection in self._stored().items() if collection.schema < SCHEMA)

    def _stored(self) -> dict[str, Collection]:
        first = stored_collection(self._data / _FIRST)
        found = {first.name: first} if first else {}
        for entry in (self._data / _OTHERS).iterdir():
            if _NAME.fullmatch(entry.name) and (collection := stored_collection(entry)) is not None:
                found[entry.name] = collection
        return found

    async def active(self) -> str:
        """Returns the name in ACTIVE; if that is missing, or its collection is gone, the first collection or the default."""
        first = stored_collection(self._data / _FIRST)
        with contextlib.suppress(OSError, UnicodeDecodeError):
            name = (self._data / _ACTIVE).read_text("utf-8").strip()
            if _NAME.fullmatch(name) and stored_collection(self._directory(name)) is not None:
                return name
        return first.name if first else self._default

    async def mark_active(self, name: str) -> None:
        """Writes ACTIVE; raises OSError on a full disk."""
        await asyncio.to_thread(write_atomically, self._data / _ACTIVE, f"{name}\n".encode())

    def engine(self, name: str) -> Engine:
        """An engine on the collection's directory."""
        return self._make(self._directory(name))

    async def remove(self, name: str) -> None:
        """Renames the directory, which is one step, and then clears it away."""
        directory = self._directory(name)
        left = self._data / f"{_LEFT}{name}"
        with contextlib.suppress(FileNotFoundError):
            directory.rename(left)
        await asyncio.to_thread(shutil.rmtree, left, ignore_errors=True)

    async def put_aside(self, name: str) -> None:
        """Renames the directory."""
        _log.error("damaged collection put aside", kept_as=str(put_aside(self._directory(name))), problem="not loaded")

    async def close(self) -> None:
        """Gives the directory free."""
        self._lock.close()

    def _directory(self, name: str) -> Path:
        if not _NAME.fullmatch(name):
            raise ValueError("not a collection's name")
        first = stored_collection(self._data / _FIRST)
        if first.name == name if first else name == self._default and not (self._data / _OTHERS / name).exists():
            return self._data / _FIRST
        return self._data / _OTHERS / name
