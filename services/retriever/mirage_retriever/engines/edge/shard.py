"""One shard as the retriever sees it: a searcher that is restarted when it dies and replaced when a better one is built."""

import asyncio
import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mirage_core import context, telemetry
from mirage_core.errors import Code, MirageError
from mirage_retriever.engines.base import CollectionDamagedError
from mirage_retriever.engines.edge.builder import sync_tree
from mirage_retriever.engines.edge.generations import Generations
from mirage_retriever.engines.edge.processes import (
    BuilderProcess,
    OperationFailedError,
    ProcessLostError,
    SearcherProcess,
)
from mirage_retriever.engines.edge.shard_shape import ShardShape

_log = telemetry.get_logger()

# A searcher answers one call at a time: a search waits for at most one of these, about a millisecond.
_WRITE_CHUNK = 32
_REPLAY_CHUNK = 64
_OPEN_TIMEOUT_S = 120.0
_FLUSH_TIMEOUT_S = 20.0
_REFUSALS = 3
_BUILD_RETRY_S = 60.0
# Seconds before its deadline at which a caller gets an error with the reason.
_REASON_S = 0.1

# A filter that every point passes, as shard_files.py takes it.
_NO_FILTER: tuple[object, ...] = ({}, [], None, [], [], {}, None)


@dataclass(frozen=True)
class ShardPolicy:
    """When to wait and when to build.

    A build starts `build_quiet_s` after the last write, or amid writes when `build_points` have been written, and
    only if the points that are searched exactly have reached `build_share` of those in the graph. A searcher that owes an
    answer and has done nothing for `hang_s` is killed.
    """

    restart_wait_s: float
    queue_limit: int
    build_quiet_s: float
    build_share: float
    build_points: int
    hang_s: float = 2.0


class Shard:
    """A shard's searcher, its writes and its generations. `open` before use, `close` at the end."""

    def __init__(self, path: Path, shape: ShardShape, policy: ShardPolicy) -> None:
        self._shape = shape
        self._policy = policy
        self._generations = Generations(path)
        self._searcher: SearcherProcess | None = None
        self._available = asyncio.Event()
        # Set once several searchers in turn could not load the files.
        self._refused = asyncio.Event()
        self._opened = time.monotonic()
        self._writing = asyncio.Lock()
        self._touched: set[str] | None = None
        self._written = 0
        self._last_write = 0.0
        self._write_seen = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def create(self) -> None:
        """Makes the first generation, empty; raises DEPENDENCY_UNAVAILABLE, and STORAGE_FULL for a full disk."""
        target = self._generations.prepare()
        builder = await BuilderProcess.start(target, self._shape, hang_s=self._policy.hang_s)
        try:
            await builder.built()
        except ProcessLostError as error:
            raise MirageError(Code.DEPENDENCY_UNAVAILABLE, retry_after_s=1.0, service="builder") from error
        except OSError as error:
            raise MirageError(Code.STORAGE_FULL) from error
        finally:
            await builder.kill()
        self._generations.publish(target)
        self._generations.clean()

    async def open(self) -> None:
        """Starts the searcher.

        Raises CollectionDamagedError if none can load the files, and DEPENDENCY_UNAVAILABLE if none comes up in time.
        """
        self._generations.clean()
        self._opened = time.monotonic()
        self._tasks = [asyncio.create_task(self._keep_alive()), asyncio.create_task(self._keep_built())]
        ways = [asyncio.ensure_future(event.wait()) for event in (self._available, self._refused)]
        try:
            await asyncio.wait(ways, timeout=_OPEN_TIMEOUT_S, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
        if self._available.is_set():
            return
        if self._refused.is_set():
            raise CollectionDamagedError("its files cannot be loaded")
        raise _unavailable()

    async def close(self) -> None:
        """Flushes and ends the searcher."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._searcher is not None:
            await self._searcher.stop(timeout_s=_FLUSH_TIMEOUT_S)

    @property
    def searcher_pid(self) -> int | None:
        """The searcher's process id, or None."""
        return self._searcher.pid if self._searcher else None

    @property
    def answers(self) -> bool:
        """True while there is a searcher that answers."""
        return self._searcher is not None and self._searcher.answers

    async def read(self, operation: str, *arguments: Any) -> Any:
        """One operation that writes nothing; raises as `_ask`, and QUEUE_FULL where too many wait."""
        if self._searcher is not None and self._searcher.pending >= self._policy.queue_limit:
            raise MirageError(Code.QUEUE_FULL, retry_after_s=0.5)
        return await self._ask(operation, *arguments)

    async def _ask(self, operation: str, *arguments: Any) -> Any:
        """One operation of the searcher; after its death once again on the next one, for all of them are idempotent.

        Raises DEPENDENCY_UNAVAILABLE if no searcher comes up in time, or none answers within the caller's deadline. Writes and
        builds ask without the queue's limit: there is one of each at a time, and searches must not make them fail.
        """
        try:
            async with asyncio.timeout(_within_deadline()):
                for _ in range(2):
                    searcher = await self._wait_for_searcher()
                    try:
                        return await searcher.call(operation, *arguments)
                    except ProcessLostError:
                        continue
        except OperationFailedError as error:
            raise MirageError(Code.INTERNAL) from error
        except TimeoutError as error:
            raise (MirageError(Code.DEADLINE_EXCEEDED) if self.answers else _unavailable()) from error
        raise _unavailable()

    async def _wait_for_searcher(self) -> SearcherProcess:
        """The searcher. One that has been gone for longer than `restart_wait_s` is not waited for by each caller again."""
        while self._searcher is None or self._searcher.lost.is_set():
            gone_since = self._opened if self._searcher is None else self._searcher.lost_at
            self._available.clear()
            try:
                async with asyncio.timeout(gone_since + self._policy.restart_wait_s - time.monotonic()):
                    await self._available.wait()
            except TimeoutError as error:
                raise _unavailable() from error
        return self._searcher

    async def upsert(self, rows: Sequence[Any]) -> None:
        """Stores points (rows as shard_files.PointRow); kept when it returns."""
        for start in range(0, len(rows), _WRITE_CHUNK):
            chunk = rows[start : start + _WRITE_CHUNK]
            await self._write("upsert", [row[0] for row in chunk], chunk)

    async def delete(self, ids: Sequence[str]) -> int:
        """Removes points; how many were there."""
        return int(await self._write("delete", ids, ids))

    async def _write(self, operation: str, ids: Sequence[str], argument: Any) -> Any:
        async with self._writing:
            self._note(ids)
            try:
                return await self._ask(operation, argument)
            finally:
                # Again, for a replay may have read these points between the first note and the write. Also when the
                # caller was cancelled: the searcher has the message all the same.
                self._note(ids)
                self._written += len(ids)
                self._last_write = time.monotonic()
                self._write_seen.set()

    def _note(self, ids: Sequence[str]) -> None:
        if self._touched is not None:
            self._touched.update(ids)

    async def _keep_alive(self) -> None:
        delay_s = 0.05
        refusals = 0
        while True:
            if self._searcher is None or self._searcher.lost.is_set():
                path = self._generations.current
                if path is None:
                    raise FileNotFoundError(self._generations)
                try:
                    searcher = await SearcherProcess.start(path, hang_s=self._policy.hang_s)
                except (ProcessLostError, OperationFailedError) as error:
                    _log.error("searcher does not start", generation=path.name, retry_s=delay_s)
                    refusals = refusals + 1 if isinstance(error, OperationFailedError) else 0
                    if refusals >= _REFUSALS:
                        self._refused.set()
                    await asyncio.sleep(delay_s)
                    delay_s = min(5.0, delay_s * 2)
                    continue
                if path != self._generations.current:
                    # A new generation was published while the old one was loading.
                    await searcher.end()
                    continue
                self._searcher = searcher
                self._available.set()
                _log.info("searcher ready", generation=path.name, pid=searcher.pid)
            started = time.monotonic()
            searcher = self._searcher
            await searcher.lost.wait()
            if searcher is self._searcher:
                _log.error("searcher lost", pid=searcher.pid)
                delay_s = 0.05 if time.monotonic() - started > 5 else min(5.0, delay_s * 2)
                await asyncio.sleep(delay_s)

    async def _keep_built(self) -> None:
        first = True
        while True:
            if not first:
                await self._write_seen.wait()
                self._write_seen.clear()
                await self._wait_until_quiet()
            try:
                if (self._written or first) and await self._build_is_due():
                    await self.rebuild()
            except (MirageError, ProcessLostError, OperationFailedError, OSError) as error:
                _log.error("build failed", kind=type(error).__name__)
                await asyncio.sleep(_BUILD_RETRY_S)
                self._write_seen.set()
            first = False

    async def _wait_until_quiet(self) -> None:
        while self._written < self._policy.build_points:
            rest = self._last_write + self._policy.build_quiet_s - time.monotonic()
            if rest <= 0:
                return
            await asyncio.sleep(rest)

    async def _build_is_due(self) -> bool:
        records, indexed = await self._ask("status")
        bare = records - indexed
        return self._written >= self._policy.build_points or (
            bare > self._shape.indexing_threshold * 1.05 and bare >= self._policy.build_share * indexed
        )

    async def rebuild(self) -> None:
        """Builds an optimised generation elsewhere, brings it up to date and puts it in place of the current one."""
        await asyncio.to_thread(self._generations.check_room)
        started = time.monotonic()
        source, target = self._generations.current, self._generations.prepare()
        builder: BuilderProcess | None = None
        successor: SearcherProcess | None = None
        try:
            async with self._writing:
                # Answered after every write sent before, so that the files hold still while they are copied.
                records, _ = await self._ask("status")
                written_before = self._written
                touched = self._touched = set[str]()
                builder = await BuilderProcess.start(target, self._shape, hang_s=self._policy.hang_s, source=source)
                await builder.copied()
            if await builder.built() != records:
                raise ProcessLostError
            successor = await SearcherProcess.start(target, hang_s=self._policy.hang_s)
            await self._warm_up(successor)
            while len(touched) > _REPLAY_CHUNK:
                await self._replay(successor, touched)
            async with self._writing:
                while touched:
                    await self._replay(successor, touched)
                self._generations.publish(target)
                predecessor, self._searcher = self._searcher, successor
                successor = None
                self._written -= written_before
        finally:
            self._touched = None
            if builder is not None:
                await builder.kill()
            if successor is not None:
                await successor.end()
            if self._generations.current != target:
                self._generations.clean()
        if predecessor is not None:
            await predecessor.leave()
        await asyncio.to_thread(self._generations.clean)
        _log.info(
            "generation published", name=target.name, records=records, seconds=round(time.monotonic() - started, 1)
        )

    async def rewrite(self) -> None:
        """Writes all points into a new, empty generation and puts that in place: the old one's files had more in them.

        Writes wait meanwhile. Raises DEPENDENCY_UNAVAILABLE; the old generation is then still the current one.
        """
        await asyncio.to_thread(self._generations.check_room)
        target = self._generations.prepare()
        async with self._writing:
            try:
                builder = await BuilderProcess.start(target, self._shape, hang_s=self._policy.hang_s)
                try:
                    await builder.built()
                finally:
                    await builder.kill()
                copy = await SearcherProcess.start(target, hang_s=self._policy.hang_s)
                try:
                    await self._copy(copy)
                finally:
                    await copy.stop(timeout_s=_FLUSH_TIMEOUT_S)
                await asyncio.to_thread(sync_tree, target)
                self._generations.publish(target)
            except (ProcessLostError, OperationFailedError) as error:
                raise _unavailable() from error
            finally:
                if self._generations.current != target:
                    self._generations.clean()
            if self._searcher is not None:
                # The next one starts with the new generation.
                await self._searcher.leave()
        await asyncio.to_thread(self._generations.clean)
        _log.info("generation rewritten", name=target.name)

    async def _copy(self, copy: SearcherProcess) -> None:
        position: str | None = None
        while True:
            rows, position = await self._ask("walk", position, _REPLAY_CHUNK, False)
            if rows:
                await copy.call("upsert", await self._ask("rows", [id_ for _, id_, *_ in rows]))
            if position is None:
                return

    async def _replay(self, successor: SearcherProcess, touched: set[str]) -> None:
        """Brings some of the `touched` points, which changed since the copy, into the successor."""
        ids = [touched.pop() for _ in range(min(_REPLAY_CHUNK, len(touched)))]
        try:
            rows = await self._ask("rows", ids)
            if rows:
                await successor.call("upsert", rows)
            gone = set(ids).difference(row[0] for row in rows)
            if gone:
                await successor.call("delete", list(gone))
        except BaseException:
            touched.update(ids)
            raise

    async def _warm_up(self, searcher: SearcherProcess) -> None:
        """A few searches, so that the first caller does not pay for cold pages."""
        sample = await searcher.call("sample")
        if sample is None:
            return
        with contextlib.suppress(IndexError):
            (_, _, image, caption), *_ = await searcher.call("fetch", [sample], True)
            for vector, space in ((image, "image"), (caption, "caption")):
                await searcher.call("search", [("near", vector, space, 100, 128, False, None, _NO_FILTER)])


def _within_deadline() -> float | None:
    """Seconds that the caller's deadline leaves for an answer; None without one."""
    deadline = context.deadline.get()
    return None if deadline is None else max(0.001, deadline - time.monotonic() - _REASON_S)


def _unavailable() -> MirageError:
    return MirageError(Code.DEPENDENCY_UNAVAILABLE, retry_after_s=1.0, service="searcher")
