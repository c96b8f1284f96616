"""Bounds in bytes on what the requests in hand hold together: each takes its share before its message is read.

A queue that is bounded in number alone holds gigabytes if every request brings an image. gRPC reads a message only when
it is asked to, so a call that waits for its share holds next to nothing.
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Self, TypeVar

from google.protobuf.message import Message

from mirage_core import telemetry
from mirage_core.errors import Code, MirageError
from mirage_core.executor import queue_waiting

T = TypeVar("T", bound=Message)

_held_bytes = telemetry.gauge("request_bytes_held", "Bytes that the requests in hand may hold.", ("queue",))
# A peer that has a share must send its message within this time.
PATIENCE_S = 30.0


class MessageBudget:
    """At most `total` bytes in hand; more wait in turn, and beyond `queue_limit` waiting requests get QUEUE_FULL."""

    def __init__(self, total: int, *, queue_limit: int, name: str) -> None:
        self._total = total
        self._free = total
        self._queue_limit = queue_limit
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()
        self._gauges = queue_waiting.labels(name), _held_bytes.labels(name)
        self._held_s = 0.1

    async def take(self, size: int) -> "Share":
        """Returns a share of `size` bytes (of all, if that is less), to be used in a `with`; raises QUEUE_FULL."""
        size = min(size, self._total)
        if self._waiting or self._free < size:
            if len(self._waiting) >= self._queue_limit:
                raise MirageError(Code.QUEUE_FULL, retry_after_s=max(0.1, self._held_s))
            place = (size, asyncio.get_running_loop().create_future())
            self._waiting.append(place)
            self._note()
            try:
                await place[1]
            except asyncio.CancelledError:
                if place in self._waiting:
                    self._waiting.remove(place)
                    self.give_back(0)
                elif not place[1].cancelled():
                    # It had its share already. One that was cancelled and then passed over gets nothing.
                    self.give_back(size)
                raise
        else:
            self._free -= size
            self._note()
        return Share(self, size)

    def give_back(self, size: int) -> None:
        """Returns bytes to the budget, and lets in who waits for them."""
        self._free += size
        while self._waiting and self._waiting[0][0] <= self._free:
            taken, ready = self._waiting.popleft()
            if not ready.done():
                self._free -= taken
                ready.set_result(None)
        self._note()

    def note_held(self, seconds: float) -> None:
        """Adds the time that a share was held to the estimate that refused callers get."""
        self._held_s += 0.1 * (seconds - self._held_s)

    def _note(self) -> None:
        waiting, held = self._gauges
        waiting.set(len(self._waiting))
        held.set(self._total - self._free)


class Share:
    """Bytes of a budget; leaving the `with` block gives them back."""

    def __init__(self, budget: MessageBudget, size: int) -> None:
        self._budget = budget
        self._size = size
        self._taken = time.monotonic()

    def shrink(self, size: int) -> None:
        """Keeps `size` bytes and gives back the rest; never takes more."""
        if size < self._size:
            self._size, rest = size, self._size - size
            self._budget.give_back(rest)

    def release(self) -> None:
        """Gives all of it back; a second call does nothing."""
        if self._size:
            self._budget.note_held(time.monotonic() - self._taken)
            self.shrink(0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


async def read_message(messages: AsyncIterator[T], share: Share) -> T | None:
    """Returns the next message of a stream, None at the end, and shrinks the share to its size.

    Raises DEADLINE_EXCEEDED if none comes in time: others wait for what is held for it.
    """
    try:
        async with asyncio.timeout(PATIENCE_S):
            message = await anext(messages, None)
    except TimeoutError as error:
        raise MirageError(Code.DEADLINE_EXCEEDED) from error
    if message is None:
        share.release()
        return None
    share.shrink(message.ByteSize())
    return message
