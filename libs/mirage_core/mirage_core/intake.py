"""Bounds what the callers of a gRPC server can hold: places, and memory for messages.

gRPC's core buffers a message whole before Python sees how long it is, up to the server's largest. What bounds memory is
therefore how many messages are on their way at a time. One that is there at once (nearly all are) has its worst case
reserved for a moment; one that takes longer needs a place among the slow ones, or its call is refused.
"""

import asyncio
from collections import Counter, OrderedDict, deque
from collections.abc import Awaitable, Callable
from typing import Any

from mirage_core.errors import Code, MirageError

# A message that has not arrived after this long is a slow one.
QUICK_S = 0.01
# Cost of a message in memory: as bytes, as a message, and as the message that is sent on.
COPIES = 3
# Quick messages that may arrive at a time, at the least and at the most.
_QUICK_MIN = 2
_QUICK_MAX = 64
# Calls that may wait for their turn to send a message.
_WAITING = 1024
# Seconds that a stream may wait for room before it is refused.
_ROOM_WAIT_S = 10.0
# A message that takes longer than this and its share at the least rate is given up.
_GRACE_S = 10.0
_LEAST_RATE = 256 * 2**10
_RETRY_S = 1.0
# The client as which all who call probes and reflection count, and how many slow messages they have together.
ANYBODY = ""
_OPEN_SLOW = 2


def busy() -> MirageError:
    """The error of a call that does not fit now."""
    return MirageError(Code.QUEUE_FULL, retry_after_s=_RETRY_S)


class Places:
    """At most `total` at a time, and `per_client` of one client."""

    def __init__(self, total: int, *, per_client: int | None = None) -> None:
        self._total = total
        self._per_client = total if per_client is None else per_client
        self._taken: Counter[str] = Counter()
        self.used = 0

    def take(self, client: str, *, units: int = 1) -> bool:
        """Takes `units` places for the client; False if they are not free."""
        if self.used + units > self._total or self._taken[client] + units > self._per_client:
            return False
        self.used += units
        self._taken[client] += units
        return True

    def leave(self, client: str, *, units: int = 1) -> None:
        """Gives back what was taken."""
        self.used -= units
        self._taken[client] -= units
        if not self._taken[client]:
            del self._taken[client]


class Intake:
    """Receives the messages of one server within `memory` bytes.

    `largest` is the most that its core buffers of one message, `stream` what a call that sends many of them has
    reserved. Of what is not for quick messages, one client may have `share` (0 to 1).
    """

    def __init__(self, memory: int, *, largest: int, stream: int, share: float) -> None:
        lasting = max(COPIES * largest, memory - _QUICK_MIN * largest)
        self._memory = memory
        self._largest = largest
        self._stream = stream
        # Bytes for slow messages and messages in progress; one message of the largest size always fits.
        self._lasting = Places(lasting, per_client=max(COPIES * largest, round(lasting * share)))
        self._open = Places(_OPEN_SLOW * largest)
        self._quick = 0
        self._room = _WAITING
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()
        self._freed = asyncio.Event()

    async def receive(
        self,
        read: Callable[[], Awaitable[Any]],
        refuse: Callable[[MirageError], None],
        *,
        connection: str,
        client: str,
        limit: int,
    ) -> Any:
        """Returns the result of `read`. `refuse` ends the call, and with it `read`, if it does not fit or the message
        takes too long.

        Raises QUEUE_FULL. Turns go to the connections in rotation.
        """
        if not self._may_be_quick():
            await self._wait(connection)
        else:
            self._quick += 1
        arriving = _Arriving(self, refuse, client=client, limit=limit)
        try:
            return await read()
        finally:
            arriving.end()

    async def open_stream(self, client: str) -> None:
        """Reserves the memory of a call that sends many messages; raises QUEUE_FULL after 10 s without room."""
        try:
            async with asyncio.timeout(_ROOM_WAIT_S):
                while not self._take(client, self._stream):
                    self._freed.clear()
                    await self._freed.wait()
        except TimeoutError:
            raise busy() from None

    def close_stream(self, client: str) -> None:
        """Gives back what `open_stream` took."""
        self.let_go(client, self._stream)

    def hold(self, client: str, size: int) -> None:
        """Takes room for a message that has arrived and is being worked on; raises QUEUE_FULL."""
        if not self._take(client, size):
            raise busy()

    def let_go(self, client: str, size: int) -> None:
        """Gives back what `hold` took."""
        self._lasting.leave(client, units=size)
        if client == ANYBODY:
            self._open.leave(client, units=size)
        self._freed.set()
        self._next()

    def slow_down(self, client: str) -> bool:
        """Makes a quick message a slow one; False if it does not fit."""
        if not self._take(client, self._largest):
            return False
        self._quick -= 1
        self._next()
        return True

    def leave(self) -> None:
        """Ends the turn of a quick message."""
        self._quick -= 1
        self._next()

    def end_slow(self, client: str) -> None:
        """Ends the place of a slow message."""
        self.let_go(client, self._largest)

    def _take(self, client: str, size: int) -> bool:
        if client == ANYBODY and not self._open.take(client, units=size):
            return False
        if self._lasting.take(client, units=size):
            return True
        if client == ANYBODY:
            self._open.leave(client, units=size)
        return False

    def _may_be_quick(self) -> bool:
        if self._quick < _QUICK_MIN:
            return True
        return self._quick < _QUICK_MAX and (self._quick + 1) * self._largest + self._lasting.used <= self._memory

    async def _wait(self, connection: str) -> None:
        if not self._room:
            raise busy()
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(connection, deque()).append(turn)
        self._room -= 1
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.leave()
            raise
        finally:
            self._room += 1

    def _next(self) -> None:
        """Gives a turn to the connection whose last one is the longest ago."""
        while self._waiting and self._may_be_quick():
            connection, turns = self._waiting.popitem(last=False)
            turn = turns.popleft()
            if turns:
                self._waiting[connection] = turns
            if not turn.done():
                self._quick += 1
                turn.set_result(None)


class _Arriving:
    """One message on its way: quick at first, then slow if there is room, then too late."""

    __slots__ = ("_client", "_intake", "_last_chance", "_limit", "_quick", "_refuse", "_timer")

    def __init__(self, intake: Intake, refuse: Callable[[MirageError], None], *, client: str, limit: int) -> None:
        self._intake = intake
        self._refuse = refuse
        self._client = client
        self._limit = limit
        self._quick = True
        self._last_chance = False
        self._timer = asyncio.get_running_loop().call_later(QUICK_S, self._overdue)

    def end(self) -> None:
        """Gives back what it has."""
        self._timer.cancel()
        if self._quick:
            self._intake.leave()
        else:
            self._intake.end_slow(self._client)

    def _overdue(self) -> None:
        loop = asyncio.get_running_loop()
        if self._intake.slow_down(self._client):
            self._quick = False
            patience_s = _GRACE_S + self._limit / _LEAST_RATE
            self._timer = loop.call_later(patience_s, self._refuse, MirageError(Code.DEADLINE_EXCEEDED))
        elif self._last_chance:
            self._refuse(busy())
        else:
            # The event loop may have been busy for longer than that, and the message be there.
            self._last_chance = True
            self._timer = loop.call_later(QUICK_S, self._overdue)
