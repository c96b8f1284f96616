"""Upserts and deletes: records and images come in as a stream, get their vectors, and are kept."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mirage_core import limits
from mirage_core.errors import Code, MirageError
from mirage_core.executor import BoundedExecutor
from mirage_core.imaging import decode_image, encode_thumbnail
from mirage_core.synthetic import is_marked
from mirage_core.synthetic_label import shows_label
from mirage_core.vectors import check_unit
from mirage_retriever.atlas import Atlas
from mirage_retriever.concurrency import together
from mirage_retriever.engines.base import Point, Stored
from mirage_retriever.images import ImageStore, sha256_of
from mirage_retriever.records import Record, check_record
from mirage_retriever.terms import Encoded, TermEncoder, check_fingerprint

Array = npt.NDArray[np.float32]

# What one batch holds at the most; two of them can be in memory a stream.
_BATCH_RECORDS = 32
_BATCH_BYTES = 32 * 2**20
_STREAM_RECORDS = 10_000
# Images that all streams together have with the decoder at a time; readers of thumbnails use it too.
_LOOKING = 16
# The last of the space is for logs and the engine's own needs.
_FREE_BYTES = 256 * 2**20
# Two vectors count as the same: given again they differ by rounding only.
_SAME_VECTOR = 1e-5


@dataclass(frozen=True, eq=False)
class Head:
    """Starts a record of the stream. Vectors as the caller gave them, unchecked."""

    record: Record
    image_vector: Array | None = None
    caption_vector: Array | None = None
    fingerprint: str = ""


class State(IntEnum):
    """As mirage.v1.UpsertState."""

    CREATED = 1
    UPDATED = 2
    UNCHANGED = 3
    REJECTED = 4


@dataclass(frozen=True)
class Outcome:
    """What became of a record."""

    id: str
    state: State
    error: MirageError | None = None


@dataclass(eq=False)
class _Incoming:
    """A record that is being put together. Once `error` is set it is only carried to its outcome."""

    head: Head
    record: Record
    data: bytearray = field(default_factory=bytearray)
    error: MirageError | None = None
    stored: Stored | None = None
    sha256: str = ""
    # True once the image was decoded: it may not be stored yet.
    decoded: bool = False
    thumbnail: bytes = b""
    image: Array | None = None
    caption: Array | None = None

    @property
    def is_given(self) -> bool:
        """True where the caller has both vectors: a bulk, whose thumbnails are made when somebody looks."""
        return self.head.image_vector is not None and self.head.caption_vector is not None

    @property
    def before(self) -> Record | None:
        return Record.from_json(self.stored.record) if self.stored else None

    @property
    def changed(self) -> bool:
        """False where what is stored already says and holds the same."""
        if self.stored is None or self.stored.record != self.record.to_json():
            return True
        pairs = ((self.head.image_vector, self.stored.image), (self.head.caption_vector, self.stored.caption))
        return any(given is not None and not _same(given, kept) for given, kept in pairs)


class Ingest:
    """Writes to collections. Several streams may run at once; what they commit is one batch after the other.

    `is_shown` tells whether any record of any collection shows an image.
    """

    def __init__(
        self,
        encoder: TermEncoder,
        images: ImageStore,
        decoder: BoundedExecutor,
        data: Path,
        *,
        is_shown: Callable[[str], Awaitable[bool]],
    ) -> None:
        self._is_shown = is_shown
        self._encoder = encoder
        self._images = images
        self._decoder = decoder
        self._data = data
        self._committing = asyncio.Lock()
        self._looking = asyncio.Semaphore(_LOOKING)

    async def upsert(self, atlas: Atlas, parts: AsyncIterator[Head | bytes]) -> list[Outcome]:
        """Stores the records of a stream of heads, each followed by pieces of its image; outcomes in their order.

        A record that is wrong in itself is rejected in its outcome. Raises for a stream that is no such stream, for a
        dependency that is away and for a full disk; batches stored by then stay, and sending all again is harmless.
        """
        outcomes: list[Outcome] = []
        running: asyncio.Task[list[Outcome]] | None = None
        try:
            async for batch in self._batches(parts):
                if running is not None:
                    outcomes += await running
                # The next batch is read while this one is encoded.
                running = asyncio.create_task(self._store(atlas, batch))
            if running is not None:
                outcomes += await running
        finally:
            if running is not None and not running.done():
                running.cancel()
                await asyncio.gather(running, return_exceptions=True)
        return outcomes

    async def delete(self, atlas: Atlas, ids: Sequence[str]) -> int:
        """Removes records, and images that no other record shows; how many records were there."""
        if not 1 <= len(ids) <= limits.IDS_MAX:
            raise MirageError(Code.TOO_MANY_ITEMS, field="ids", min=1, max=limits.IDS_MAX, given=len(ids))
        for id_ in ids:
            limits.check_id(id_)
        engine = atlas.engine
        async with self._committing:
            stored = await engine.fetch(list(dict.fromkeys(ids)))
            if not stored:
                return 0
            deleted = await engine.delete(list(stored))
            atlas.changed()
            for sha256 in {Record.from_json(point.record).image_sha256 for point in stored.values()}:
                if sha256 and not await self._is_shown(sha256):
                    await asyncio.to_thread(self._images.remove, sha256)
        return deleted

    async def _batches(self, parts: AsyncIterator[Head | bytes]) -> AsyncIterator[list[_Incoming]]:
        batch: list[_Incoming] = []
        ids: set[str] = set()
        size = records = 0
        async for part in parts:
            if isinstance(part, bytes):
                if not batch:
                    raise MirageError(Code.UPSERT_OUT_OF_ORDER)
                size += _append(batch[-1], part)
                continue
            records += 1
            if records > _STREAM_RECORDS:
                raise MirageError(
                    Code.TOO_MANY_ITEMS,
                    field="records",
                    min=1,
                    max=_STREAM_RECORDS,
                    given=f"more than {_STREAM_RECORDS}",
                )
            # One id twice in a batch would hide the first from the second.
            if len(batch) >= _BATCH_RECORDS or size >= _BATCH_BYTES or part.record.id in ids:
                yield batch
                batch, ids, size = [], set(), 0
            batch.append(_Incoming(part, part.record))
            ids.add(part.record.id)
        if batch:
            yield batch

    async def _store(self, atlas: Atlas, batch: list[_Incoming]) -> list[Outcome]:
        for item in batch:
            _check(item, atlas)
        stored = await atlas.engine.fetch([item.record.id for item in _fine(batch)], vectors=True)
        for item in _fine(batch):
            item.stored = stored.get(item.record.id)
        await asyncio.gather(*(self._look_at(item) for item in _fine(batch)))
        changed = [item for item in _fine(batch) if item.changed]
        await self._encode(atlas, changed)
        await self._commit(atlas, [item for item in changed if item.error is None])
        return [_outcome(item, changed=item in changed) for item in batch]

    async def _look_at(self, item: _Incoming) -> None:
        """Fills in what the image says about itself; an image that is stored already is not decoded again."""
        before = item.before
        if not item.data:
            if before is None or not self._images.has(before.image_sha256):
                item.error = MirageError(Code.IMAGE_EMPTY)
                return
            item.sha256 = before.image_sha256
        else:
            item.sha256 = sha256_of(item.data)
        if before is not None and before.image_sha256 == item.sha256 and self._images.has(item.sha256):
            item.record = replace(
                item.record,
                image_sha256=item.sha256,
                image_type=before.image_type,
                width=before.width,
                height=before.height,
            )
            return
        try:
            # Records wait their turn here: a bulk must not be refused for being one.
            async with self._looking:
                ran = await self._decoder.run(_decode, bytes(item.data), thumbnail=not item.is_given)
        except MirageError as error:
            if error.code is Code.QUEUE_FULL:
                raise
            item.error = error
            return
        media_type, width, height, item.thumbnail = ran.value
        item.decoded = True
        item.record = replace(item.record, image_sha256=item.sha256, image_type=media_type, width=width, height=height)

    async def _encode(self, atlas: Atlas, items: Sequence[_Incoming]) -> None:
        """Gives every item its two vectors: the caller's, the stored one where nothing changed, or the encoder's."""
        for item in items:
            before, stored = item.before, item.stored
            item.image, item.caption = item.head.image_vector, item.head.caption_vector
            if before is not None and stored is not None:
                if item.image is None and before.image_sha256 == item.sha256:
                    item.image = stored.image
                if item.caption is None and before.caption == item.record.caption:
                    item.caption = stored.caption
        captions = [item for item in items if item.caption is None]
        images = [item for item in items if item.image is None]
        work = []
        if captions:
            work.append(self._encode_captions(atlas, captions))
        if images:
            work.append(self._encode_images(atlas, images))
        await together(work)

    async def _encode_captions(self, atlas: Atlas, items: Sequence[_Incoming]) -> None:
        # The start of a caption says what the image shows; the model's context ends long before this anyway.
        answers = await self._encoder.texts([item.record.caption[: limits.TEXT_CHARS] for item in items])
        for item, answer in zip(items, answers, strict=True):
            item.caption = _checked(atlas, answer)

    async def _encode_images(self, atlas: Atlas, items: Sequence[_Incoming]) -> None:
        files = [bytes(item.data) or await asyncio.to_thread(self._images.original, item.sha256) for item in items]
        for item, answer in zip(items, await self._encoder.images(files), strict=True):
            if isinstance(answer, MirageError):
                item.error = answer
            else:
                item.image = _checked(atlas, answer)

    async def _commit(self, atlas: Atlas, items: Sequence[_Incoming]) -> None:
        """Images first, then the points that name them: no record ever shows an image that is not there."""
        points = [
            Point(
                id=item.record.id,
                image=item.image,
                caption=item.caption,
                record=item.record.to_json(),
                facets=item.record.facets(),
                image_sha256=item.sha256,
            )
            for item in items
            if item.image is not None and item.caption is not None
        ]
        if not points:
            return
        if (await asyncio.to_thread(shutil.disk_usage, self._data)).free < _FREE_BYTES:
            raise MirageError(Code.STORAGE_FULL)
        files = [(bytes(item.data), item.sha256, item.thumbnail) for item in items if item.decoded]
        async with self._committing:
            await asyncio.to_thread(self._images.store, files)
            try:
                await atlas.engine.upsert(points)
            finally:
                atlas.changed()


def _checked(atlas: Atlas, answer: Encoded) -> Array:
    check_fingerprint(answer.fingerprint, atlas.collection)
    return check_unit(answer.vector, dimension=atlas.collection.dimension)


def _append(item: _Incoming, piece: bytes) -> int:
    """Adds a piece of the image; beyond the limit the record is rejected and nothing more of it kept."""
    if len(piece) > limits.CHUNK_BYTES:
        raise MirageError(Code.REQUEST_MALFORMED, field=f"image_chunk of more than {limits.CHUNK_BYTES} bytes")
    if item.error is not None:
        return 0
    if len(item.data) + len(piece) > limits.IMAGE_BYTES:
        item.error = MirageError(Code.IMAGE_TOO_LARGE, max_bytes=limits.IMAGE_BYTES)
        item.data.clear()
        return 0
    item.data += piece
    return len(piece)


def _check(item: _Incoming, atlas: Atlas) -> None:
    """Checks the record and its given vectors, and normalises those."""
    if item.error is not None:
        return
    try:
        item.record = check_record(item.record)
        head = item.head
        if head.image_vector is not None or head.caption_vector is not None:
            if not head.fingerprint:
                raise MirageError(Code.FINGERPRINT_REQUIRED)
            check_fingerprint(head.fingerprint, atlas.collection)
        dimension = atlas.collection.dimension
        item.head = replace(
            head,
            image_vector=None if head.image_vector is None else check_unit(head.image_vector, dimension=dimension),
            caption_vector=None
            if head.caption_vector is None
            else check_unit(head.caption_vector, dimension=dimension),
        )
    except MirageError as error:
        if error.code is Code.MODEL_NOT_READY:
            raise
        item.error = error


def _fine(batch: Iterable[_Incoming]) -> list[_Incoming]:
    return [item for item in batch if item.error is None]


def _outcome(item: _Incoming, *, changed: bool) -> Outcome:
    if item.error is not None:
        return Outcome(item.head.record.id[:128], State.REJECTED, item.error)
    if not changed:
        return Outcome(item.record.id, State.UNCHANGED)
    return Outcome(item.record.id, State.CREATED if item.stored is None else State.UPDATED)


def _same(first: Array, second: Array | None) -> bool:
    return second is not None and bool(np.abs(first - second).max() < _SAME_VECTOR)


def _decode(data: bytes, *, thumbnail: bool) -> tuple[str, int, int, bytes]:
    decoded = decode_image(data)
    if is_marked(data) or shows_label(decoded.image):
        raise MirageError(Code.SYNTHETIC_REFUSED)
    small = encode_thumbnail(decoded.image) if thumbnail else b""
    return decoded.media_type, decoded.width, decoded.height, small
