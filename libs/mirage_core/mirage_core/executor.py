"""Runs blocking work in a fixed number of threads, with a bounded queue in front."""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, ParamSpec, TypeVar

from mirage_core import telemetry
from mirage_core.errors import Code, MirageError

P = ParamSpec("P")
T = TypeVar("T")

# Of all bounded queues of a process, also those that are not threads' (the encoder's batches).
queue_waiting = telemetry.gauge("queue_waiting", "Calls that wait for their turn.", ("queue",))
queue_running = telemetry.gauge("queue_running", "Calls whose turn it is.", ("queue",))


@dataclass(frozen=True)
class Ran(Generic[T]):
    """A result and the time it took: waiting for a thread and running, in milliseconds."""

    value: T
    queue_ms: float
    run_ms: float


class BoundedExecutor:
    """`workers` threads and at most `queue_limit` waiting calls; one more is refused with QUEUE_FULL and a retry time.

    `typical_ms` is what a call may take, until calls have been measured.
    """

    def __init__(self, *, workers: int, queue_limit: int, name: str, typical_ms: float = 50.0) -> None:
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix=name)
        self._gauges = queue_waiting.labels(name), queue_running.labels(name)
        self._workers = workers
        self._capacity = workers + queue_limit
        self._pending = 0
        self._typical_ms = typical_ms
        self._measured = 0

    @property
    def pending(self) -> int:
        """Calls that run or wait."""
        return self._pending

    def retry_after_s(self) -> float:
        """When a place should be free, from the running average of past calls."""
        return max(0.1, self._pending * self._typical_ms / self._workers / 1000)

    async def run(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Ran[T]:
        """Calls the function in a thread; raises QUEUE_FULL at once if the queue is full.

        A call whose awaiting task is cancelled while it waits never starts.
        """
        if self._pending >= self._capacity:
            raise MirageError(Code.QUEUE_FULL, retry_after_s=self.retry_after_s())
        arrived = time.perf_counter()

        def timed() -> Ran[T]:
            started = time.perf_counter()
            value = function(*args, **kwargs)
            return Ran(value, (started - arrived) * 1000, (time.perf_counter() - started) * 1000)

        loop = asyncio.get_running_loop()
        self._note(1)
        future = self._pool.submit(timed)
        future.add_done_callback(lambda _: loop.is_closed() or loop.call_soon_threadsafe(self._leave))
        ran = await asyncio.wrap_future(future)
        # The mean of the first ten, then a running average of about that many.
        self._measured += 1
        self._typical_ms += max(0.1, 1 / self._measured) * (ran.run_ms - self._typical_ms)
        return ran

    def _leave(self) -> None:
        self._note(-1)

    def _note(self, more: int) -> None:
        self._pending += more
        waiting, running = self._gauges
        waiting.set(max(0, self._pending - self._workers))
        running.set(min(self._pending, self._workers))

    def close(self) -> None:
        """Drops what waits and lets what runs end."""
        self._pool.shutdown(wait=False, cancel_futures=True)
