"""Migrates the data of older versions: cleans every image and updates every record that shows one.

Nothing is served meanwhile, and only clean images are ever served: files of older versions are in folders that
nothing here reads from. A retriever that is killed continues at its next start. If several share a data folder, one
migrates and the others wait.
"""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from mirage_core import telemetry
from mirage_core.cleaning_progress import PROGRESS_FILE, Progress
from mirage_core.errors import Code, MirageError
from mirage_core.files import put_aside, take
from mirage_core.image_cleaning import (
    FORMAT,
    FORMAT_FILE,
    PASSING,
    Cleaned,
    Journal,
    has_old_folders,
    in_batches,
    mark_format,
    old_file,
    old_files,
    remove_old,
    remove_old_folders,
    stored_format,
)
from mirage_core.image_store import FOLDER, IMAGES, PIXELS, REGIONS, StagedImage
from mirage_retriever.engines.base import SCHEMA, Collection, CollectionDamagedError, CollectionStore, Engine, Stored
from mirage_retriever.engines.edge.stored import has_put_aside
from mirage_retriever.images import Images
from mirage_retriever.records import Record, without_people
from mirage_retriever.terms import TermEncoder
from mirage_retriever.words.documents import to_point

T = TypeVar("T")

_log = telemetry.get_logger()

_FILES = 32
_POINTS = 64
_ENCODED = 4
_REPORT_S = 0.5
_AGAIN_S = 1.0
# A file that takes too long or too much is tried again alone: the machine may have been busy.
_TRIES = 3


@dataclass
class _Counts:
    cleaned: int = 0
    removed: int = 0
    records_removed: int = 0


class Migration:
    """One data folder and all collections of one store, none of which may be open or served meanwhile."""

    def __init__(self, data: Path, store: CollectionStore, images: Images, encoder: TermEncoder) -> None:
        self._data = data
        self._store = store
        self._images = images
        self._encoder = encoder
        self._journal = Journal(data)
        self._counts = _Counts()
        self._reported = 0.0

    async def run(self) -> None:
        """Returns once everything is clean. While a part of MIRAGE is away or the disk is full, it waits and tries again.

        Raises RECORD_INVALID for a folder that a later version wrote.
        """
        while True:
            try:
                async with self._alone():
                    await self._migrate()
                return
            except MirageError as error:
                if error.code not in (*PASSING, Code.MODEL_NOT_READY, Code.DEADLINE_EXCEEDED):
                    raise
                _log.warning("cleaning waits", code=error.code)
            except OSError as error:
                _log.warning("cleaning waits", error=type(error).__name__)
            await asyncio.sleep(_AGAIN_S)

    @asynccontextmanager
    async def _alone(self) -> AsyncIterator[None]:
        """Waits until no other retriever migrates this folder."""
        while True:
            try:
                lock = await asyncio.to_thread(take, self._data / FOLDER)
                break
            except BlockingIOError:
                await asyncio.sleep(_AGAIN_S)
        try:
            yield
        finally:
            lock.close()

    async def _migrate(self) -> None:
        found = await asyncio.to_thread(self._stored_format)
        if found > FORMAT:
            _log.error("the data folder is of a later version", format=found, known=FORMAT)
            raise MirageError(Code.RECORD_INVALID, field=f"format.json (format {found}, this version knows {FORMAT})")
        if found < FORMAT:
            await asyncio.to_thread(close_to_others, self._data)
        if not await asyncio.to_thread(self._is_due):
            await self._give_words()
            with suppress(OSError):
                (self._data / PROGRESS_FILE).unlink(missing_ok=True)
            if found < FORMAT:
                await asyncio.to_thread(mark_format, self._data)
            return
        await self._clean_files()
        journal = await asyncio.to_thread(self._journal.read)
        self._counts.cleaned = sum(one.stored is not None for one in journal.values())
        self._counts.removed = len(journal) - self._counts.cleaned
        used = await self._update_records(journal)
        await self._give_words()
        await asyncio.to_thread(self._finish, used)

    def _stored_format(self) -> int:
        try:
            return stored_format(self._data)
        except (ValueError, OSError, RecursionError) as error:
            # As for a folder without the file: whether there is anything to clean is seen by what is there.
            kept = put_aside(self._data / FORMAT_FILE)
            _log.error("damaged file put aside", kept_as=str(kept), problem=type(error).__name__)
            return 1

    def _is_due(self) -> bool:
        return has_old_folders(self._data) or self._journal.exists()

    async def _clean_files(self) -> None:
        digests = await asyncio.to_thread(old_files, self._data)
        _log.info("cleaning stored images", images=len(digests))
        costly: list[str] = []
        done = 0
        for batch in in_batches(digests, _FILES):
            await self._report("images", done, len(digests))
            found = await _all([self._clean(sha256) for sha256 in batch])
            costly += [one.original_sha256 for one, _ in found if one.refused == Code.IMAGE_TOO_COSTLY]
            await self._keep([(one, staged) for one, staged in found if one.refused != Code.IMAGE_TOO_COSTLY])
            done += len(batch)
        for sha256 in costly:
            for _ in range(_TRIES):
                one, staged = await self._clean(sha256)
                if one.refused != Code.IMAGE_TOO_COSTLY:
                    break
            await self._keep([(one, staged)])
        await asyncio.to_thread(remove_old_folders, self._data)

    async def _clean(self, sha256: str) -> tuple[Cleaned, StagedImage | None]:
        """Cleans one file; raises what is wrong for now, and notes what is wrong with the file."""
        try:
            changed, staged = await self._images.take_in_old(old_file(self._data, sha256))
        except MirageError as error:
            if error.code in PASSING:
                raise
            return Cleaned(sha256, None, refused=error.code), None
        return Cleaned(sha256, staged.stored, changed=changed), staged

    async def _keep(self, found: Sequence[tuple[Cleaned, StagedImage | None]]) -> None:
        """First what is clean is on the disk, then the journal says so, then the old files go."""
        await asyncio.to_thread(self._images.store.keep, [staged for _, staged in found if staged is not None])
        await asyncio.to_thread(self._journal.add, [one for one, _ in found])
        await asyncio.to_thread(remove_old, self._data, [one.original_sha256 for one, _ in found])
        for one, _ in found:
            if one.stored is None:
                self._counts.removed += 1
                _log.warning("stored image removed", sha256=one.original_sha256, code=one.refused)
            else:
                self._counts.cleaned += 1

    async def _update_records(self, journal: dict[str, Cleaned]) -> "_Used":
        """Walks over all collections; gives what their records show now."""
        used = _Used()
        for name in await self._store.names():
            engine = self._store.engine(name)
            try:
                collection = await engine.open()
                if collection is not None:
                    await self._update_collection(engine, collection, journal, used)
            except CollectionDamagedError:
                await engine.close()
                await self._store.put_aside(name)
            finally:
                await engine.close()
        return used

    async def _update_collection(
        self, engine: Engine, collection: Collection, journal: dict[str, Cleaned], used: "_Used"
    ) -> None:
        total = (await engine.status()).records
        position, done, kept_vectors, replaced = "", 0, 0, False
        while True:
            await self._report("records", done, total)
            walked = await engine.walk(position, _POINTS, vectors=True)
            changed: list[_Changed] = []
            gone: list[str] = []
            for stored in walked.points:
                record = Record.from_json(stored.record)
                cleaned = journal.get(record.image_sha256)
                if record.original_sha256:
                    used.add(record)
                elif cleaned is not None and cleaned.stored is None:
                    gone.append(record.id)
                else:
                    updated, left_out = _updated(record, cleaned)
                    replaced |= bool(left_out)
                    changed.append(_Changed(stored, updated, see_again=cleaned is not None and cleaned.changed))
                    used.add(updated)
            kept_vectors += await self._write(engine, collection, changed)
            if gone:
                self._counts.records_removed += await engine.delete(gone)
                for record_id in gone:
                    _log.warning("record removed", id=record_id)
            done += len(walked.points)
            position = walked.position
            if not position:
                break
        if kept_vectors:
            _log.warning("vectors of another model kept", name=collection.name, vectors=kept_vectors)
        if replaced and not await engine.rewrite():
            _log.warning("labels about people stay until the server drops them", name=collection.name)
        _log.info("records updated", name=collection.name, records=done)

    async def _write(self, engine: Engine, collection: Collection, changed: "Sequence[_Changed]") -> int:
        """Stores records that show clean images; gives how many vectors could not be computed again."""
        seen_anew = [each.record for each in changed if each.see_again]
        vectors = {}
        kept = 0
        if seen_anew:
            model = await self._encoder.model()
            if model.fingerprint == collection.fingerprint:
                for start in range(0, len(seen_anew), _ENCODED):
                    records = seen_anew[start : start + _ENCODED]
                    files = [await self._images.for_model(record.image_sha256) for record in records]
                    for record, answer in zip(records, await self._encoder.images(files), strict=True):
                        if isinstance(answer, MirageError):
                            if answer.code in PASSING:
                                raise answer
                            kept += 1
                        else:
                            vectors[record.id] = answer.vector
            else:
                kept = len(seen_anew)
        points = [
            to_point(each.record, vectors.get(each.record.id, each.stored.image), each.stored.caption)
            for each in changed
            if each.stored.image is not None and each.stored.caption is not None
        ]
        if points:
            await engine.upsert(points)
        return kept

    async def _give_words(self) -> None:
        """Stores the words of all records in collections of versions that could not search by words."""
        for name in await self._store.without_words():
            engine = self._store.engine(name)
            try:
                collection = await engine.open()
                if collection is not None and await self._index_words(engine, collection):
                    _log.info("collection can be searched by words", name=name)
                else:
                    _log.error("collection cannot be searched by words until it is indexed again", name=name)
            except CollectionDamagedError:
                await engine.close()
                await self._store.put_aside(name)
            finally:
                await engine.close()

    async def _index_words(self, engine: Engine, collection: Collection) -> bool:
        if not engine.has_words:
            return False
        total, done, position = (await engine.status()).records, 0, ""
        while True:
            await self._report("words", done, total)
            walked = await engine.walk(position, _POINTS, vectors=True)
            points = [
                to_point(Record.from_json(stored.record), stored.image, stored.caption)
                for stored in walked.points
                if stored.image is not None and stored.caption is not None
            ]
            if points:
                await engine.upsert(points)
            done += len(walked.points)
            position = walked.position
            if not position:
                await engine.rebind(replace(collection, schema=SCHEMA))
                return True

    def _finish(self, used: "_Used") -> None:
        mark_format(self._data)
        if not used.records and self._journal.exists():
            # Perhaps the wrong server was named: the records may come, and then need the journal.
            _log.warning("no record shows the stored images")
            (self._data / PROGRESS_FILE).unlink(missing_ok=True)
            return
        if has_put_aside(self._data):
            # Its records cannot be read, so its images and the journal are kept for the day when it is repaired.
            _log.warning("images are kept for a damaged collection")
            (self._data / PROGRESS_FILE).unlink(missing_ok=True)
            return
        store = self._images.store
        orphans = 0
        removals = ((IMAGES, store.remove_image), (PIXELS, store.remove_pixels), (REGIONS, store.remove_regions))
        for part, remove in removals:
            for sha256 in list(store.digests(part)):
                if sha256 not in used.digests:
                    remove(sha256)
                    orphans += part == IMAGES
        if orphans:
            _log.info("images without a record removed", images=orphans)
        counts = self._counts
        total = counts.cleaned + counts.removed
        Progress("finished", total, total, counts.cleaned, counts.removed, counts.records_removed).write(self._data)
        self._journal.remove()
        _log.info("stored images cleaned", **vars(counts))

    async def _report(self, step: str, done: int, total: int) -> None:
        if time.monotonic() - self._reported < _REPORT_S:
            return
        self._reported = time.monotonic()
        counts = self._counts
        progress = Progress(step, done, total, counts.cleaned, counts.removed, counts.records_removed)
        await asyncio.to_thread(progress.write, self._data)


async def _all(work: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    """Runs all at the same time; after an error the others are cancelled."""
    tasks = [asyncio.ensure_future(each) for each in work]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def close_to_others(data: Path) -> None:
    """Takes from other users of the machine what they may do with a data folder; what is not ours stays as it is."""
    for folder, _, names in os.walk(data):
        for path in (Path(folder), *(Path(folder) / name for name in names)):
            with suppress(OSError):
                mode = path.lstat().st_mode
                if mode & 0o077 and not path.is_symlink():
                    path.chmod(mode & 0o700)


class _Used:
    """The digests that records have."""

    def __init__(self) -> None:
        self.records = 0
        self.digests: set[str] = set()

    def add(self, record: Record) -> None:
        self.records += 1
        self.digests.update((record.image_sha256, record.pixels_sha256, record.regions_sha256))


@dataclass(frozen=True, eq=False)
class _Changed:
    """A record as it will be stored, and its point as it is; `see_again` if a model sees another picture than before."""

    stored: Stored
    record: Record
    see_again: bool


def _updated(record: Record, cleaned: Cleaned | None) -> tuple[Record, tuple[str, ...]]:
    """The record of an older version as this one stores it, and the names of labels about people that it loses.

    None for one whose image was lost before: it can come again.
    """
    record, left_out = without_people(record)
    record = replace(record, original_sha256=record.image_sha256)
    if cleaned is None or cleaned.stored is None:
        return record, left_out
    stored = cleaned.stored
    return replace(
        record,
        image_sha256=stored.image_sha256,
        image_type=stored.media_type,
        width=stored.width,
        height=stored.height,
        pixels_sha256=stored.pixels_sha256,
        pixels=stored.pixels,
    ), left_out
