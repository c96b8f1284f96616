"""Gathers inputs of concurrent requests into batches that run one after the other."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from mirage_core.errors import Code, MirageError
from mirage_core.executor import queue_running, queue_waiting

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Batched(Generic[Result]):
    """A result, how long its input waited, and how long the batch that it was in ran, in milliseconds."""

    value: Result
    queue_ms: float
    run_ms: float


@dataclass(eq=False)
class _Waiting(Generic[Item, Result]):
    item: Item
    future: "asyncio.Future[Batched[Result]]"
    arrived: float = field(default_factory=time.perf_counter)


class Batcher(Generic[Item, Result]):
    """Runs `function` on batches in a thread of its own.

    A batch holds what waits when the one before it ends: at most `max_batch` items of one `group` (by default all).
    While requests overlap it also waits up to `wait_ms` for more. An item whose request was cancelled is dropped. When
    a batch fails, its items run again one by one, so that only those at fault fail.
    """

    def __init__(
        self,
        function: Callable[[Sequence[Item]], Sequence[Result]],
        *,
        name: str,
        max_batch: int,
        queue_limit: int,
        wait_ms: float = 0.0,
        group: Callable[[Item], Hashable] | None = None,
    ) -> None:
        self._function = function
        self._max_batch = max_batch
        self._queue_limit = queue_limit
        self._wait_s = wait_ms / 1000
        self._group = group
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._queue: deque[_Waiting[Item, Result]] = deque()
        self._arrival = asyncio.Event()
        self._runner: asyncio.Task[None] | None = None
        self._running = 0
        self._overlapping = False
        self._item_ms = 20.0
        self._gauges = queue_waiting.labels(name), queue_running.labels(name)

    @property
    def waiting(self) -> int:
        """Items in the queue, without those that run."""
        return len(self._queue)

    def check_room(self, count: int = 1) -> None:
        """Raises QUEUE_FULL, with the time after which there should be room, where `count` more do not fit."""
        if len(self._queue) + count > self._queue_limit:
            busy = (len(self._queue) + self._running) * self._item_ms / 1000
            raise MirageError(Code.QUEUE_FULL, retry_after_s=max(0.1, busy))

    async def run(self, items: Sequence[Item]) -> list[Batched[Result]]:
        """Results in the order of the items, which all get in or, with QUEUE_FULL, none; raises the first failure."""
        results = await self.gather(items)
        for result in results:
            if isinstance(result, BaseException):
                raise result
        return [result for result in results if isinstance(result, Batched)]

    async def gather(self, items: Sequence[Item]) -> list[Batched[Result] | BaseException]:
        """As `run`, with the failure of an item in its place."""
        self.check_room(len(items))
        loop = asyncio.get_running_loop()
        waiting = [_Waiting[Item, Result](item, loop.create_future()) for item in items]
        self._queue.extend(waiting)
        self._note()
        self._arrival.set()
        if self._runner is None or self._runner.done():
            self._runner = loop.create_task(self._run_forever())
        try:
            return await asyncio.gather(*(each.future for each in waiting), return_exceptions=True)
        except asyncio.CancelledError:
            # Items that still wait leave the queue at once, and their places are free.
            gone = set(map(id, waiting))
            self._queue = deque(each for each in self._queue if id(each) not in gone)
            self._note()
            raise

    async def close(self) -> None:
        """Fails what waits with CANCELLED and ends the thread once what runs is done."""
        if self._runner is not None:
            self._runner.cancel()
        while self._queue:
            _fail(self._queue.popleft().future, MirageError(Code.CANCELLED))
        self._note()
        await asyncio.to_thread(self._thread.shutdown)

    async def _run_forever(self) -> None:
        while True:
            while not self._queue:
                self._overlapping = False
                self._arrival.clear()
                await self._arrival.wait()
            if self._overlapping and self._wait_s > 0 and len(self._queue) < self._max_batch:
                await asyncio.sleep(self._wait_s)
            batch = self._take()
            if batch:
                await self._run_batch(batch)
                # Something came while this ran: requests overlap.
                self._overlapping = bool(self._queue)

    def _take(self) -> list[_Waiting[Item, Result]]:
        batch: list[_Waiting[Item, Result]] = []
        rest: deque[_Waiting[Item, Result]] = deque()
        key: Hashable = None
        while self._queue and len(batch) < self._max_batch:
            each = self._queue.popleft()
            if each.future.done():
                continue
            own = self._group(each.item) if self._group else None
            if not batch:
                key = own
            if own == key:
                batch.append(each)
            else:
                rest.append(each)
        rest.extend(self._queue)
        self._queue = rest
        return batch

    async def _run_batch(self, batch: list[_Waiting[Item, Result]]) -> None:
        self._running = len(batch)
        self._note()
        try:
            outcomes, run_ms, started = await asyncio.wrap_future(self._thread.submit(self._call, batch))
        except asyncio.CancelledError:
            for each in batch:
                _fail(each.future, MirageError(Code.CANCELLED))
            raise
        finally:
            self._running = 0
            self._note()
        self._item_ms += 0.2 * (run_ms / len(batch) - self._item_ms)
        for each, outcome in zip(batch, outcomes, strict=True):
            if isinstance(outcome, Exception):
                _fail(each.future, outcome)
            elif not each.future.done():
                each.future.set_result(Batched(outcome, (started - each.arrived) * 1000, run_ms))

    def _note(self) -> None:
        waiting, running = self._gauges
        waiting.set(len(self._queue))
        running.set(self._running)

    def _call(self, batch: list[_Waiting[Item, Result]]) -> tuple[list[Result | Exception], float, float]:
        started = time.perf_counter()
        outcomes: list[Result | Exception]
        try:
            outcomes = list(self._function([each.item for each in batch]))
            if len(outcomes) != len(batch):
                raise RuntimeError("a batch gave another number of results than it had items")
        except Exception as error:  # whatever a model raises is that item's outcome
            outcomes = [error] if len(batch) == 1 else [self._alone(each.item) for each in batch]
        return outcomes, (time.perf_counter() - started) * 1000, started

    def _alone(self, item: Item) -> Result | Exception:
        try:
            return self._function([item])[0]
        except Exception as error:  # as above
            return error


def _fail(future: "asyncio.Future[Batched[Result]]", error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
