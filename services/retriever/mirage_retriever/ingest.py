"""Upserts and deletes: records and images come in as a stream, get their vectors, and are kept."""

import asyncio
import shutil
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from mirage_core import limits
from mirage_core.errors import Code, MirageError
from mirage_core.image_store import sha256_of
from mirage_core.regions import REGIONS_BYTES
from mirage_core.vectors import check_unit
from mirage_retriever.atlas import Atlas
from mirage_retriever.budget import ByteBudget, Hold
from mirage_retriever.concurrency import together
from mirage_retriever.engines.base import Array
from mirage_retriever.facets import check_facets
from mirage_retriever.images import Images
from mirage_retriever.incoming import Head, Incoming, Outcome, State
from mirage_retriever.records import Record, check_pixels, check_record, without_people
from mirage_retriever.terms import Encoded, TermEncoder, check_fingerprint
from mirage_retriever.words.documents import to_point

# Most bytes in one batch; a stream may have two batches, if the budget of all streams allows it.
_BATCH_RECORDS = 32
_BATCH_BYTES = 32 * 2**20
_STREAM_RECORDS = 10_000
# Bytes of the budget that a stream can always get: one image, the piece in which it turns out to be too large, and a map.
_RESERVE_BYTES = limits.IMAGE_BYTES + limits.CHUNK_BYTES + REGIONS_BYTES + 1
# Seconds that a stream waits for its part of the budget before it is refused.
_WAIT_S = 30.0
# Images on their way to the encoder: those of one call, and those of all streams. gRPC keeps copies of them.
_ENCODING_BYTES = 16 * 2**20
_ALL_ENCODING_BYTES = 40 * 2**20
_ENCODING_WAIT_S = 300.0
# The last of the space is for logs and the engine's own needs.
_FREE_BYTES = 256 * 2**20
# Errors of the server, or of the moment, and not of the record.
_OF_THE_SERVER = (Code.QUEUE_FULL, Code.STORAGE_FULL, Code.DEPENDENCY_UNAVAILABLE, Code.CANCELLED, Code.INTERNAL)


class Ingest:
    """Writes to collections. Several streams may run at once; what they commit is one batch after the other.

    `is_shown` says if any record of any collection has a digest in a payload field. The images of all streams together take
    at most `budget_bytes` of memory before they are cleaned: a stream waits for its part, and is refused after a while.
    """

    def __init__(
        self,
        encoder: TermEncoder,
        images: Images,
        data: Path,
        *,
        is_shown: Callable[[str, str], Awaitable[bool]],
        budget_bytes: int,
    ) -> None:
        self._is_shown = is_shown
        self._encoder = encoder
        self._images = images
        self._data = data
        self._committing = asyncio.Lock()
        self._latest = 0
        self._incoming = ByteBudget(budget_bytes, reserve=_RESERVE_BYTES, wait_s=_WAIT_S)
        self._encoding = ByteBudget(_ALL_ENCODING_BYTES, wait_s=_ENCODING_WAIT_S)

    async def upsert(self, atlas: Atlas, parts: AsyncIterator[Head | bytes]) -> list[Outcome]:
        """Stores the records of a stream of heads, each followed by pieces of its image; returns outcomes in their order.

        A record that is wrong in itself is rejected in its outcome. Raises for a malformed stream, for a dependency
        that does not answer, for a full disk, and QUEUE_FULL if other streams need all the memory; batches stored by then
        stay, and sending all again is harmless.
        """
        outcomes: list[Outcome] = []
        running: asyncio.Task[list[Outcome]] | None = None
        with self._incoming.hold() as hold:
            try:
                async for batch in self._batches(parts, hold):
                    if running is not None:
                        outcomes += await running
                    # The next batch is read while this one is encoded.
                    running = asyncio.create_task(self._store(atlas, batch, hold))
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
            await self._remove_unused([Record.from_json(point.record) for point in stored.values()])
        return deleted

    async def _remove_unused(self, records: Iterable[Record]) -> None:
        """Removes the files of records that were deleted or replaced, unless another record has the same."""
        store = self._images.store
        found = {
            *(("image_sha256", record.image_sha256, store.remove_image) for record in records),
            *(("pixels_sha256", record.pixels_sha256, store.remove_pixels) for record in records),
            *(("regions_sha256", record.regions_sha256, store.remove_regions) for record in records),
        }
        for field_, sha256, remove in found:
            if sha256 and not await self._is_shown(field_, sha256):
                await asyncio.to_thread(remove, sha256)

    async def _batches(self, parts: AsyncIterator[Head | bytes], hold: Hold) -> AsyncIterator[list[Incoming]]:
        batch: list[Incoming] = []
        ids: set[str] = set()
        size = records = 0
        async for part in parts:
            if isinstance(part, bytes):
                if not batch:
                    raise MirageError(Code.UPSERT_OUT_OF_ORDER)
                size += await _append(batch[-1], part, hold)
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
            full = len(batch) >= _BATCH_RECORDS or size >= _BATCH_BYTES or (size > 0 and self._incoming.is_short)
            # One id twice in a batch would hide the first from the second.
            if full or part.record.id in ids:
                yield batch
                batch, ids, size = [], set(), 0
            batch.append(Incoming(part, part.record))
            await hold.take(batch[-1].map_size)
            size += batch[-1].map_size
            ids.add(part.record.id)
        if batch:
            yield batch

    async def _store(self, atlas: Atlas, batch: list[Incoming], hold: Hold) -> list[Outcome]:
        try:
            for item in batch:
                _check(item, atlas)
            stored = await atlas.engine.fetch([item.record.id for item in _fine(batch)], vectors=True)
            for item in _fine(batch):
                item.stored = stored.get(item.record.id)
                item.record = replace(item.record, added=item.before.added if item.before else self._now())
            await together([self._look_at(item, hold) for item in batch])
            changed = [item for item in _fine(batch) if item.changed]
            await self._encode(atlas, changed)
            await self._commit(atlas, [item for item in changed if item.error is None])
            return [_outcome(item, changed=item in changed) for item in batch]
        finally:
            for item in batch:
                if item.staged is not None:
                    await asyncio.to_thread(item.staged.drop)

    def _now(self) -> int:
        """Microseconds since 1970, later than any before."""
        self._latest = max(self._latest + 1, time.time_ns() // 1_000)
        return self._latest

    async def _look_at(self, item: Incoming, hold: Hold) -> None:
        """Cleans the image and fills in what it says about itself; a file that is stored already is not decoded again."""
        try:
            if item.error is None:
                await self._take_in(item)
                await self._take_in_regions(item)
        except MirageError as error:
            if error.code in _OF_THE_SERVER:
                raise
            item.error = error
        finally:
            item.parts.clear()
            hold.give(item.size + item.map_size)

    async def _take_in_regions(self, item: Incoming) -> None:
        """Fills in the record's regions: of the map that came in, or as they are stored for the same image file."""
        before, given = item.before, item.head.regions
        if given is None:
            if before is None or before.came_from != item.record.original_sha256 or not before.regions:
                return
            regions, sha256, original = before.regions, before.regions_sha256, before.original_regions_sha256
        elif not given.png and not given.legend:
            return
        else:
            read = await self._images.read_regions(given, item.record.width, item.record.height)
            regions, original = read.regions, given.sha256
            item.label_map = read.png if regions else b""
            sha256 = sha256_of(read.png) if regions else ""
        item.record = replace(
            item.record,
            regions=regions,
            regions_sha256=sha256,
            original_regions_sha256=original,
        )
        if regions and "structure" not in item.record.labels:
            # Structures of an image can be searched and filtered by, also without labels of the dataset.
            names = dict.fromkeys(limits.facet_value(each.name) for each in regions)
            labels = {**item.record.labels, "structure": tuple(names)[: limits.FACET_VALUES_MAX]}
            item.record = replace(item.record, labels=check_facets(labels))

    async def _take_in(self, item: Incoming) -> None:
        before = item.before
        sha256 = item.digest.hexdigest() if item.size else ""
        if before is not None and not self._images.store.has(before.image_sha256, before.pixels_sha256):
            before = None
        if before is not None and sha256 in ("", before.came_from):
            if item.pixels in (None, before.pixels):
                item.record = replace(
                    item.record,
                    original_sha256=before.came_from,
                    image_sha256=before.image_sha256,
                    image_type=before.image_type,
                    width=before.width,
                    height=before.height,
                    pixels_sha256=before.pixels_sha256,
                    pixels=before.pixels,
                )
                return
            if not item.size and not before.pixels_sha256:
                raise MirageError(Code.PIXELS_INVALID, field="bits")
            if not item.size:
                item.staged = await self._images.take_in_again(before, item.pixels)
        if not item.size and item.staged is None:
            raise MirageError(Code.IMAGE_EMPTY)
        if item.staged is None:
            item.staged = await self._images.take_in(item.parts, item.pixels, draft=item.is_given)
        stored = item.staged.stored
        item.record = replace(
            item.record,
            original_sha256=sha256 or (before.came_from if before else ""),
            image_sha256=stored.image_sha256,
            image_type=stored.media_type,
            width=stored.width,
            height=stored.height,
            pixels_sha256=stored.pixels_sha256,
            pixels=stored.pixels,
        )

    async def _encode(self, atlas: Atlas, items: Sequence[Incoming]) -> None:
        """Gives every item its two vectors: the caller's, the stored one if nothing changed, or the encoder's."""
        for item in items:
            before, stored = item.before, item.stored
            item.image, item.caption = item.head.image_vector, item.head.caption_vector
            if before is not None and stored is not None:
                if item.image is None and before.image_sha256 == item.record.image_sha256:
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

    async def _encode_captions(self, atlas: Atlas, items: Sequence[Incoming]) -> None:
        # The start of a caption says what the image shows; the model's context ends long before this anyway.
        answers = await self._encoder.texts([item.record.caption[: limits.TEXT_CHARS] for item in items])
        for item, answer in zip(items, answers, strict=True):
            item.caption = _checked(atlas, answer)

    async def _encode_images(self, atlas: Atlas, items: Sequence[Incoming]) -> None:
        """Gives the encoder what is stored, a few files at a time."""
        while items:
            count = size = 0
            while count < len(items) and (not count or size + _model_bytes(items[count]) <= _ENCODING_BYTES):
                size += _model_bytes(items[count])
                count += 1
            some, items = items[:count], items[count:]
            with self._encoding.hold() as hold:
                await hold.take(size)
                files = [await self._images.for_model(item.record.image_sha256, item.staged) for item in some]
                for item, answer in zip(some, await self._encoder.images(files), strict=True):
                    if isinstance(answer, MirageError):
                        item.error = answer
                    else:
                        item.image = _checked(atlas, answer)

    async def _commit(self, atlas: Atlas, items: Sequence[Incoming]) -> None:
        """Images first, then the points that name them: no record ever shows an image that is not there."""
        # Reading the words of a batch takes tens of milliseconds.
        points = await asyncio.to_thread(
            lambda: [
                to_point(item.record, item.image, item.caption)
                for item in items
                if item.image is not None and item.caption is not None
            ]
        )
        if not points:
            return
        if (await asyncio.to_thread(shutil.disk_usage, self._data)).free < _FREE_BYTES:
            raise MirageError(Code.STORAGE_FULL)
        staged = [item.staged for item in items if item.staged is not None]
        maps = {item.record.regions_sha256: item.label_map for item in items if item.label_map}
        async with self._committing:
            await asyncio.to_thread(self._images.store.keep, staged)
            await asyncio.to_thread(self._images.store.keep_regions, maps)
            try:
                await atlas.engine.upsert(points)
            finally:
                atlas.changed()
            await self._remove_unused(
                [before for item in items if (before := item.before) and (item.staged or before.regions)]
            )


def _checked(atlas: Atlas, answer: Encoded) -> Array:
    check_fingerprint(answer.fingerprint, atlas.collection)
    return check_unit(answer.vector, dimension=atlas.collection.dimension)


def _model_bytes(item: Incoming) -> int:
    return limits.IMAGE_BYTES if item.staged is None else min(item.staged.size, limits.IMAGE_BYTES)


async def _append(item: Incoming, piece: bytes, hold: Hold) -> int:
    """Adds a piece of the image; beyond the limit the record is rejected and nothing more of it kept."""
    if len(piece) > limits.CHUNK_BYTES:
        raise MirageError(Code.REQUEST_MALFORMED, field=f"image_chunk of more than {limits.CHUNK_BYTES} bytes")
    if item.error is not None:
        return 0
    if item.size + len(piece) > limits.IMAGE_BYTES:
        item.error = MirageError(Code.IMAGE_TOO_LARGE, max_bytes=limits.IMAGE_BYTES)
        item.parts.clear()
        return 0
    await hold.take(len(piece))
    item.size += len(piece)
    item.parts.append(piece)
    item.digest.update(piece)
    return len(piece)


def _check(item: Incoming, atlas: Atlas) -> None:
    """Checks the record and its given vectors, and normalises those."""
    if item.error is not None:
        return
    try:
        item.record, item.left_out = without_people(check_record(item.record))
        head = item.head
        item.pixels = None if head.pixels is None else check_pixels(head.pixels)
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


def _fine(batch: Iterable[Incoming]) -> list[Incoming]:
    return [item for item in batch if item.error is None]


def _outcome(item: Incoming, *, changed: bool) -> Outcome:
    if item.error is not None:
        return Outcome(item.head.record.id[:128], State.REJECTED, item.error)
    if not changed:
        return Outcome(item.record.id, State.UNCHANGED, left_out=item.left_out)
    state = State.CREATED if item.stored is None else State.UPDATED
    return Outcome(item.record.id, state, left_out=item.left_out)
