"""A budget of bytes: what all uploads together may have in memory."""

import asyncio
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from mirage_core.errors import Code, MirageError


class ByteBudget:
    """At most `limit` bytes are taken at any time; a hold that asks for more waits in turn, at most `wait_s` seconds.

    Holds that each have a part and wait for the rest would wait for each other for ever. So the last `reserve` bytes are for
    one hold at a time, the one that has waited longest: it can always get so much, and gives everything back in the end.
    """

    def __init__(self, limit: int, *, reserve: int = 0, wait_s: float) -> None:
        if not 0 <= reserve < limit:
            raise ValueError("the reserve must be a part of the budget")
        self._common = limit - reserve
        self._reserve = reserve
        self._wait_s = wait_s
        self._taken = 0
        self._privileged: Hold | None = None
        self._waiting: deque[_Waiting] = deque()

    @property
    def is_short(self) -> bool:
        """True if a stream waits, or only the reserve is left."""
        return bool(self._waiting) or self._privileged is not None

    @contextmanager
    def hold(self) -> "Iterator[Hold]":
        """A hold that gives back at the end what it still has."""
        hold = Hold(self)
        try:
            yield hold
        finally:
            hold.give()

    async def _take(self, hold: "Hold", size: int) -> None:
        if (not self._waiting or self._privileged is hold) and self._try(hold, size):
            return
        waiting = _Waiting(hold, size, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        try:
            async with asyncio.timeout(self._wait_s):
                await waiting.ready
        except TimeoutError as error:
            raise MirageError(Code.QUEUE_FULL, retry_after_s=self._wait_s / 2) from error
        finally:
            # Memory that it got while it was cancelled belongs to its hold, which returns it.
            with suppress(ValueError):
                self._waiting.remove(waiting)

    def _try(self, hold: "Hold", size: int) -> bool:
        if self._taken + size <= self._common:
            self._taken += size
            hold.common += size
            return True
        if self._privileged in (None, hold) and hold.reserved + size <= self._reserve:
            self._privileged = hold
            hold.reserved += size
            return True
        return False

    def _give(self, hold: "Hold", size: int) -> None:
        reserved = min(size, hold.reserved)
        hold.reserved -= reserved
        hold.common -= size - reserved
        self._taken -= size - reserved
        if self._privileged is hold and not hold.reserved:
            self._privileged = None
        while self._waiting and self._try(self._waiting[0].hold, self._waiting[0].size):
            waiting = self._waiting.popleft()
            if not waiting.ready.done():
                waiting.ready.set_result(None)


class Hold:
    """Bytes that one user of a budget has: `common` ones, and those of the reserve."""

    def __init__(self, budget: ByteBudget) -> None:
        self._budget = budget
        self.common = 0
        self.reserved = 0

    async def take(self, size: int) -> None:
        """Takes bytes; raises QUEUE_FULL if they do not become free in time."""
        await self._budget._take(self, size)

    def give(self, size: int | None = None) -> None:
        """Gives so many bytes back, or all of them."""
        self._budget._give(self, self.common + self.reserved if size is None else size)


@dataclass(eq=False)
class _Waiting:
    hold: Hold
    size: int
    ready: "asyncio.Future[None]"
