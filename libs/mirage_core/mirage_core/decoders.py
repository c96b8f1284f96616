"""Decodes uploaded files in child processes with limits of memory and time.

A small file can take gigabytes or minutes in a decoder. Here its own caller gets an error, and other callers are not
affected:

    pool = DecoderPool(workers=2, memory_mb=448, timeout_s=10, budget_mb=512, name="encoder-decode")
    await pool.warm_up()
    ran = await pool.run(look_at, data, spec)       # `def look_at(data: bytes, spec: Spec) -> Look` of a module
    ran.value, ran.queue_ms, ran.run_ms
    await pool.close()

The function must be importable by its module's name and annotated: the annotations define how arguments and result are
encoded (see decoder_wire.py: numbers, texts, bytes, arrays, tuples, dataclasses, pydantic models). An error of the
catalogue that it raises arrives unchanged.

This bounds what a file may cost. It is not a sandbox: a child that a file takes over has the rights of the service's user,
though no keys, no files that are open in the service, and no way to make the service run anything.

Written here because no library does it: `pebble`, which ends a task at a time limit, has the LGPL; `loky` and
`concurrent.futures` cannot end a single task, and lose all running tasks when a child dies; all of them unpickle what a
child sends.
"""

import asyncio
import signal
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, ParamSpec, TypeVar, cast

from mirage_core import decoder_wire as wire
from mirage_core import telemetry
from mirage_core.decoder_children import Call, Child, ForkServer
from mirage_core.decoding_cost import decoding_bytes
from mirage_core.errors import Code, MirageError
from mirage_core.executor import Ran, queue_running, queue_waiting

__all__ = ["PRELOAD", "DecoderPool", "Ran"]

P = ParamSpec("P")
T = TypeVar("T")

_MIB = 2**20
# A call whose caller is gone may run on for this long: most end sooner, and a new child costs more than that.
_ABANDONED_S = 1.0
# Imported, and called if a function is named, before the children are forked.
PRELOAD = ("mirage_core.imaging", "mirage_core.dicom.picture", "PIL.Image:preinit", "PIL.WebPImagePlugin")

# Ended by the kernel for processor time or memory; a child that stops answering is killed at the time limit.
_LIMIT_SIGNALS = (signal.SIGXCPU, signal.SIGKILL)

# The error of a call that needs more memory than it reserved.
_OUTGROWN = object()

_log = telemetry.get_logger()
_reserved_bytes = telemetry.gauge("decoder_reserved_bytes", "Memory that running decodes have reserved.", ("queue",))
_ended = telemetry.counter("decoder_children_ended_total", "Decoding children that were replaced.", ("queue", "reason"))


class DecoderPool:
    """Runs functions in at most `workers` children.

    Each call has `timeout_s` seconds and the memory that it reserved.

    Sizes are in MiB. `memory_mb` is the most that a call may reserve, `budget_mb` the most that all running calls may.
    Add about 30 MiB for the fork server and 50 MiB for each child. At most `queue_limit` calls wait; one more gets
    QUEUE_FULL and a retry time. A result of more than `reply_mb` is refused with IMAGE_TOO_COSTLY. `preload` names the
    modules of the functions (PRELOAD and those of the caller), so that each is imported once for all children.
    """

    def __init__(
        self,
        workers: int,
        memory_mb: int,
        timeout_s: float,
        budget_mb: int,
        name: str,
        *,
        queue_limit: int = 32,
        reply_mb: int = 64,
        preload: Sequence[str] = PRELOAD,
    ) -> None:
        if workers < 1 or not 0 < memory_mb <= budget_mb:
            raise ValueError("a pool needs a worker, and a budget of at least the memory of one call")
        self._name = name
        self._workers = workers
        self._memory = memory_mb * _MIB
        self._budget = budget_mb * _MIB
        self._timeout_s = timeout_s
        self._queue_limit = queue_limit
        self._reply = reply_mb * _MIB
        self._server = ForkServer(
            {"memory": self._memory, "reply": self._reply, "timeout_s": timeout_s, "preload": list(preload)}
        )
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix=name)
        self._idle: list[Child] = []
        self._waiting: deque[_Waiting] = deque()
        self._running: set[Call] = set()
        self._taken = 0
        self._reserved = 0
        self._gauges = queue_waiting.labels(name), queue_running.labels(name), _reserved_bytes.labels(name)
        self._typical_ms = 50.0
        self._measured = 0
        self._closed = False

    @property
    def pending(self) -> int:
        """Calls that run or wait."""
        return len(self._waiting) + self._taken

    def retry_after_s(self) -> float:
        """Returns when a place should be free, in seconds, from the running average of past calls."""
        return max(0.1, self.pending * self._typical_ms / self._workers / 1000)

    async def warm_up(self) -> None:
        """Starts a child for each worker; raises DEPENDENCY_UNAVAILABLE if they cannot start."""
        started = [asyncio.wrap_future(self._threads.submit(self._start_child)) for _ in range(self._workers)]
        self._idle.extend(await asyncio.gather(*started))

    async def run(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Ran[T]:
        """Runs the function in a child that may take as much memory as the largest file among its arguments may need.

        Raises what the function raises of the catalogue; QUEUE_FULL; IMAGE_TOO_COSTLY if it needs more time or memory
        than it may; IMAGE_UNREADABLE if it fails in another way or its child dies; DEPENDENCY_UNAVAILABLE if no child
        can be started. A call that is cancelled while it waits never starts; one that runs is ended soon after.
        """
        file = max((each for each in args if isinstance(each, bytes)), key=len, default=None)
        return await self.run_within(None if file is None else decoding_bytes(file), function, *args, **kwargs)

    async def run_within(
        self, reserve: int | None, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs
    ) -> Ran[T]:
        """As `run`, with `reserve` bytes of memory; None reserves all that one call may have.

        A call that outgrows what it has reserved runs once more with all that one may have.
        """
        arrived = time.perf_counter()
        queue_ms = 0.0
        for need in (self._memory if reserve is None else min(reserve, self._memory), self._memory):
            body, buffers = wire.pack_call(function, args, kwargs)
            kind = wire.result_kind(function)
            waited_from = time.perf_counter()
            await self._enter(need)
            started = time.perf_counter()
            queue_ms += (started - waited_from) * 1000
            call = Call({"call": body, "reserve": need}, buffers, kind, self._idle.pop() if self._idle else None)
            outcome = await self._run_call(call, need)
            if outcome is not _OUTGROWN or need == self._memory:
                break
        if outcome is _OUTGROWN:
            raise MirageError(Code.IMAGE_TOO_COSTLY)
        if isinstance(outcome, MirageError):
            raise outcome
        return Ran(cast("T", outcome), queue_ms, (time.perf_counter() - arrived) * 1000 - queue_ms)

    async def _run_call(self, call: "Call", need: int) -> object:
        """Runs a call for which there is a place, which is free again once its child is."""
        started = time.perf_counter()
        self._running.add(call)
        loop = asyncio.get_running_loop()
        future = self._threads.submit(self._perform, call)
        future.add_done_callback(lambda _: loop.is_closed() or loop.call_soon_threadsafe(self._end, call, need))
        try:
            outcome = await asyncio.shield(asyncio.wrap_future(future))
        except asyncio.CancelledError:
            loop.call_later(_ABANDONED_S, call.abandon)
            raise
        # The mean of the first ten, then a running average of about that many.
        self._measured += 1
        self._typical_ms += max(0.1, 1 / self._measured) * ((time.perf_counter() - started) * 1000 - self._typical_ms)
        return outcome

    async def close(self) -> None:
        """Ends all children; what waits or runs fails with CANCELLED."""
        self._closed = True
        while self._waiting:
            _settle(self._waiting.popleft().ready, MirageError(Code.CANCELLED))
        for call in self._running:
            call.abandon()
        await asyncio.to_thread(self._threads.shutdown)
        for child in self._idle:
            child.connection.close()
        self._idle.clear()
        await asyncio.to_thread(self._server.close)

    async def _enter(self, need: int) -> None:
        """Takes a worker and so much of the budget, waiting for both.

        Raises QUEUE_FULL if too many calls wait already.
        """
        if self._closed:
            raise MirageError(Code.CANCELLED)
        if self._waiting or not self._fits(need):
            if len(self._waiting) >= self._queue_limit:
                raise MirageError(Code.QUEUE_FULL, retry_after_s=self.retry_after_s())
            waiting = _Waiting(need, asyncio.get_running_loop().create_future())
            self._waiting.append(waiting)
            self._let_in()
            try:
                await waiting.ready
            except asyncio.CancelledError:
                if waiting in self._waiting:
                    self._waiting.remove(waiting)
                elif not waiting.ready.cancelled():
                    self._give_back(need)
                self._let_in()
                raise
        else:
            self._take(need)
        self._note()

    def _fits(self, need: int) -> bool:
        return self._taken < self._workers and self._reserved + need <= self._budget

    def _take(self, need: int) -> None:
        self._taken += 1
        self._reserved += need

    def _give_back(self, need: int) -> None:
        self._taken -= 1
        self._reserved -= need

    def _let_in(self) -> None:
        """Lets in what fits: in turn, but small calls pass a large one that has not waited for longer than a call
        may run.
        """
        for waiting in list(self._waiting):
            if waiting.ready.done():
                self._waiting.remove(waiting)
            elif self._fits(waiting.need):
                self._waiting.remove(waiting)
                self._take(waiting.need)
                waiting.ready.set_result(None)
            elif time.monotonic() - waiting.arrived > self._timeout_s:
                break
        self._note()

    def _end(self, call: "Call", need: int) -> None:
        self._running.discard(call)
        if call.child is not None:
            self._idle.append(call.child)
        self._give_back(need)
        self._let_in()

    def _note(self) -> None:
        for gauge, value in zip(self._gauges, (len(self._waiting), self._taken, self._reserved), strict=True):
            gauge.set(value)

    def _start_child(self) -> "Child":
        try:
            return self._server.fork()
        except (OSError, wire.WireError) as error:
            _log.error("decoder did not start", queue=self._name, error=type(error).__name__)
            raise MirageError(Code.DEPENDENCY_UNAVAILABLE, retry_after_s=1.0, service="image decoder") from error

    def _perform(self, call: "Call") -> object:
        """Runs a call, in a thread, and returns its value or its error; a child that may not be used again is ended."""
        ends = None
        try:
            if call.child is None or not call.child.is_idle():
                self._discard(call, "idle")
                call.child = self._start_child()
            body, buffers = call.exchange(time.monotonic() + self._timeout_s, self._reply)
            ends = body.get("ends")
            outcome = _OUTGROWN if ends == "memory" else self._outcome(call.kind, body, buffers)
        except MirageError as error:
            outcome = error
        except (TimeoutError, BlockingIOError):
            ends, outcome = "time", MirageError(Code.IMAGE_TOO_COSTLY)
        except (OSError, wire.WireClosedError):
            ends, outcome = "death", None
        except wire.WireError:
            ends, outcome = "answer", _unreadable()
        if not call.finish():
            ends, outcome = "cancelled", MirageError(Code.CANCELLED)
        if ends is not None:
            cause = self._discard(call, ends)
            if outcome is None:
                outcome = MirageError(Code.IMAGE_TOO_COSTLY) if cause in _LIMIT_SIGNALS else _unreadable()
        return outcome

    def _outcome(self, kind: Any, body: dict[str, Any], buffers: list[bytes]) -> object:
        if "value" in body:
            return wire.unpack(kind, body["value"], buffers)
        if "error" in body:
            return wire.unpack_error(body["error"])
        if "raised" in body:
            _log.error("decoder failed", queue=self._name, error=str(body["raised"])[:200])
            return _unreadable()
        _log.error("decoder answered wrongly", queue=self._name, error=str(body.get("failed"))[:200])
        return MirageError(Code.INTERNAL)

    def _discard(self, call: "Call", reason: str) -> int:
        """Ends the child of a call and returns the number of the signal that ended it, 0 if none did."""
        child, call.child = call.child, None
        if child is None:
            return 0
        ended_by = self._server.end(child)
        _ended.labels(self._name, reason).inc()
        _log.warning("decoder replaced", queue=self._name, reason=reason, signal=ended_by)
        return ended_by


@dataclass(eq=False)
class _Waiting:
    need: int
    ready: "asyncio.Future[None]"
    arrived: float = field(default_factory=time.monotonic)


def _unreadable() -> MirageError:
    return MirageError(Code.IMAGE_UNREADABLE, format="image")


def _settle(future: "asyncio.Future[None]", error: MirageError) -> None:
    if not future.done():
        future.set_exception(error)
