"""Several collections side by side, one of them active: searches run on it, and turn to another between two of them."""

import asyncio
import contextlib
import re
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field

from mirage_core import telemetry
from mirage_core.errors import Code, MirageError
from mirage_retriever.atlas import Atlas
from mirage_retriever.calibration import Calibration
from mirage_retriever.engines.base import Collection, CollectionDamagedError, CollectionStore
from mirage_retriever.match import Thresholds
from mirage_retriever.terms import EncoderModel
from mirage_retriever.words.synonyms import Synonyms, load_synonyms

_log = telemetry.get_logger()

COLLECTIONS_MAX = 8
DIMENSION_MAX = 8192
# A collection that is not searched costs a searcher process: it is let go after this.
_IDLE_S = 60.0
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_FINGERPRINT = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class CollectionState:
    """A collection as a caller sees it; fields as in mirage.v1.Collection."""

    collection: Collection
    active: bool
    records: int
    indexed: int
    engine: str
    revision: str
    calibration: Calibration | None = None


@dataclass(eq=False)
class _Opened:
    """A collection that is open; it stays so while anybody holds it."""

    atlas: Atlas
    users: int = 0
    used_at: float = field(default_factory=time.monotonic)

    @contextlib.contextmanager
    def held(self) -> Iterator[Atlas]:
        """The collection, kept open meanwhile."""
        self.users += 1
        try:
            yield self.atlas
        finally:
            self.users -= 1
            self.used_at = time.monotonic()


class Collections:
    """The collections of one store. `open` before use, `close` at the end.

    The active one is always open; another is opened when it is asked for and let go when nothing has used it for a while.
    """

    def __init__(
        self,
        store: CollectionStore,
        *,
        overrides: Mapping[str, Thresholds] | None = None,
        synonyms: Synonyms | None = None,
        idle_s: float = _IDLE_S,
    ) -> None:
        self._store = store
        self._overrides = overrides
        self._synonyms = synonyms or load_synonyms()
        self._idle_s = idle_s
        self._opened: dict[str, _Opened] = {}
        self._active = ""
        self._model: EncoderModel | None = None
        self._changing = asyncio.Lock()
        self._opening = asyncio.Lock()
        self._tidying: asyncio.Task[None] | None = None

    @property
    def active(self) -> Atlas:
        """The collection that searches run on; raises MODEL_NOT_READY before `open`."""
        if self._active not in self._opened:
            raise MirageError(Code.MODEL_NOT_READY, retry_after_s=1.0)
        return self._opened[self._active].atlas

    @property
    def answers(self) -> bool:
        """True while the engine of the active collection answers."""
        opened = self._opened.get(self._active)
        return opened is not None and opened.atlas.engine.answers

    async def open(self) -> bool:
        """Opens the active collection; returns False before it is made."""
        while True:
            self._active = await self._store.active()
            try:
                atlas = (await self._open(self._active)).atlas
                break
            except CollectionDamagedError:
                await self._store.put_aside(self._active)
        self._tidying = asyncio.create_task(self._tidy())
        return atlas.is_made

    async def adopt(self, model: EncoderModel) -> None:
        """Takes over the encoder's model: the active collection is made if it is missing."""
        self._model = model
        async with self._changing:
            await self.active.adopt(model)

    @contextlib.asynccontextmanager
    async def use(self, name: str = "") -> AsyncIterator[Atlas]:
        """A collection by name, the active one where empty, kept open meanwhile; raises COLLECTION_NOT_FOUND."""
        self._require_open()
        opened = self._opened.get(name or self._active)
        if opened is None:
            opened = await self._find(name) if name else None
        if opened is None:
            raise MirageError(Code.MODEL_NOT_READY, retry_after_s=1.0)
        with opened.held() as atlas:
            yield atlas

    async def names(self) -> list[str]:
        """Returns all names, the active collection's first."""
        return sorted(await self._store.names(), key=lambda name: name != self._active)

    def is_active(self, name: str) -> bool:
        """True for the name of the active collection."""
        return name == self._active

    def revision_of(self, name: str) -> str | None:
        """Returns the revision of a collection that is open, None of any other."""
        opened = self._opened.get(name)
        return None if opened is None else opened.atlas.revision

    async def state(self, name: str = "") -> CollectionState:
        """Returns a collection by name, the active one if the name is empty; raises COLLECTION_NOT_FOUND."""
        async with self.use(name) as atlas:
            status = await atlas.engine.status()
            return CollectionState(
                atlas.collection,
                name in ("", self._active),
                status.records,
                status.indexed,
                atlas.engine.version,
                atlas.revision,
                atlas.calibration,
            )

    async def listed(self) -> list[CollectionState]:
        """All of them, by name."""
        found = []
        for name in await self._store.names():
            with _unless_gone():
                found.append(await self.state(name))
        return found

    async def create(self, name: str, *, dimension: int = 0, fingerprint: str = "") -> CollectionState:
        """Makes an empty collection for the encoder's model, or for the one named.

        Raises COLLECTION_NAME_INVALID, COLLECTION_EXISTS, TOO_MANY_ITEMS, REQUEST_MALFORMED for half a model, and
        MODEL_NOT_READY if the encoder's model is not known yet.
        """
        if not _NAME.fullmatch(name):
            raise MirageError(Code.COLLECTION_NAME_INVALID)
        if bool(dimension) != bool(fingerprint):
            raise MirageError(Code.REQUEST_MALFORMED, field="dimension and fingerprint: both or neither")
        if fingerprint and not (_FINGERPRINT.fullmatch(fingerprint) and 1 <= dimension <= DIMENSION_MAX):
            raise MirageError(Code.REQUEST_MALFORMED, field="dimension or fingerprint")
        self._require_open()
        async with self._changing:
            names = await self._store.names()
            if name in names or name == self._active:
                raise MirageError(Code.COLLECTION_EXISTS, name=name)
            if len(names) >= COLLECTIONS_MAX:
                raise MirageError(
                    Code.TOO_MANY_ITEMS, field="collections", min=1, max=COLLECTIONS_MAX, given=len(names) + 1
                )
            if not fingerprint:
                if self._model is None:
                    raise MirageError(Code.MODEL_NOT_READY, retry_after_s=1.0)
                dimension, fingerprint = self._model.dimension, self._model.fingerprint
            try:
                opened = await self._open(name)
            except OSError as error:
                raise MirageError(Code.STORAGE_FULL) from error
            try:
                with opened.held() as atlas:
                    await atlas.make(Collection(name=name, dimension=dimension, fingerprint=fingerprint))
            except BaseException:
                await self._let_go(name)
                # On a server it may be another retriever's by now.
                if opened.atlas.engine.exclusive:
                    await self._store.remove(name)
                raise
        _log.info("collection made", name=name, dimension=dimension, fingerprint=fingerprint)
        return await self.state(name)

    async def activate(self, name: str) -> tuple[CollectionState, str]:
        """Turns searches to a collection, for good once it returns; its state, and the name of the one before.

        It is open and answers before the first search comes. Searches under way end on the one before.
        """
        async with self._changing:
            previous = self._active
            if name != previous:
                with (await self._find(name)).held() as atlas:
                    await atlas.engine.status()
                    try:
                        await self._store.mark_active(name)
                    except OSError as error:
                        raise MirageError(Code.STORAGE_FULL) from error
                    self._turn_to(name)
        return await self.state(name), previous

    async def follow(self) -> None:
        """Turns to what the store says is active, where another retriever on the same server switched."""
        async with self._changing:
            name = await self._store.active()
            if name != self._active:
                await self._find(name)
                self._turn_to(name)

    def _turn_to(self, name: str) -> None:
        before = self._opened.get(self._active)
        if before is not None:
            before.used_at = time.monotonic()
        self._active = name
        _log.info("collection activated", name=name)

    async def remove(self, name: str) -> int:
        """Removes a collection; how many records were in it. Raises COLLECTION_NOT_FOUND and COLLECTION_ACTIVE.

        Image files that only it showed stay until a record with them is deleted from another collection.
        """
        async with self._changing:
            if name == self._active:
                raise MirageError(Code.COLLECTION_ACTIVE, name=name)
            with (await self._find(name)).held() as atlas:
                records = (await atlas.engine.status()).records
            await self._let_go(name)
            await self._store.remove(name)
        _log.info("collection removed", name=name, records=records)
        return records

    async def shows(self, field: str, sha256: str) -> bool:
        """True if any record of any collection has the digest in this field (engines/base.py, DIGESTS)."""
        for name in await self._store.names():
            with _unless_gone():
                async with self.use(name) as atlas:
                    if await atlas.engine.count(facet=field, value=sha256):
                        return True
                continue
            # It was moved away as damaged just now: its images are kept with it.
            return True
        return False

    async def close(self) -> None:
        """Closes all of them."""
        if self._tidying is not None:
            # Not while it closes a collection, which would then stay half open.
            async with self._opening:
                self._tidying.cancel()
            await asyncio.gather(self._tidying, return_exceptions=True)
        for name in list(self._opened):
            await self._let_go(name)
        await self._store.close()

    def _require_open(self) -> None:
        # Before `open` nothing may touch a collection: what an older version stored is taken over then.
        if not self._active:
            raise MirageError(Code.MODEL_NOT_READY, retry_after_s=1.0)

    async def _find(self, name: str) -> _Opened:
        self._require_open()
        if name not in self._opened and name not in await self._store.names():
            raise await self._not_found(name)
        try:
            return await self._open(name)
        except CollectionDamagedError as error:
            await self._store.put_aside(name)
            raise await self._not_found(name) from error

    async def _not_found(self, name: str) -> MirageError:
        known = ", ".join(await self._store.names()) or "none"
        return MirageError(Code.COLLECTION_NOT_FOUND, name=name[:64], known=known)

    async def _open(self, name: str) -> _Opened:
        async with self._opening:
            opened = self._opened.get(name)
            if opened is None:
                atlas = Atlas(self._store.engine(name), name=name, overrides=self._overrides, synonyms=self._synonyms)
                await atlas.open()
                opened = self._opened[name] = _Opened(atlas)
            return opened

    async def _let_go(self, name: str) -> None:
        async with self._opening:
            await self._close(name)

    async def _close(self, name: str) -> None:
        opened = self._opened.pop(name, None)
        if opened is not None:
            opened.atlas.lexicon.close()
            await opened.atlas.engine.close()

    async def _tidy(self) -> None:
        while True:
            await asyncio.sleep(self._idle_s / 4)
            async with self._opening:
                now = time.monotonic()
                for name, opened in list(self._opened.items()):
                    if name != self._active and not opened.users and now - opened.used_at > self._idle_s:
                        await self._close(name)


@contextlib.contextmanager
def _unless_gone() -> Iterator[None]:
    """Skips a collection that was moved away as damaged, or removed, in the meantime."""
    try:
        yield
    except MirageError as error:
        if error.code is not Code.COLLECTION_NOT_FOUND:
            raise
