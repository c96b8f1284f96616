"""Memory for what clients send and are sent: a number of bytes, of which one client may have a part."""

import asyncio
import ctypes
from collections import Counter, deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from mirage_core import telemetry
from mirage_core.errors import Code, MirageError

_held = telemetry.gauge("http_memory_bytes", "Bytes that HTTP requests and answers hold of MEMORY_MB.")

# Memory that larger requests leave free, of all and of their client's: for small ones and, a part of it, for tiny ones.
_TINY = 2**17
_SMALL = 2**20
_RETRY_S = 2.0
# If memory is short, a body that arrives more slowly than this makes room for others.
_PRESSED_BYTES_PER_S = 64 * 2**10
# glibc's name for the size from which a block is a mapping of its own.
_M_MMAP_THRESHOLD = -3


class MemoryShare:
    """Bytes that one request holds, until `release`.

    While its body arrives, `received` counts it, and `give_up` ends it.
    """

    def __init__(self, memory: "RequestMemory", client: str, amount: int) -> None:
        self._memory = memory
        self.client = client
        self.amount = amount
        self.since = 0.0
        self.received = 0
        self.give_up: Callable[[], None] | None = None

    def grow(self, amount: int) -> None:
        """Holds at least `amount` bytes from now on; raises QUEUE_FULL if they are not free."""
        if amount > self.amount:
            self._memory.enlarge(self, amount)

    def become(self, amount: int) -> None:
        """Holds `amount` bytes from now on; raises QUEUE_FULL if it is more than before and not free."""
        if amount > self.amount:
            self._memory.enlarge(self, amount)
        else:
            self._memory.change(self, amount)

    def release(self) -> None:
        """Gives everything back; a second call does nothing."""
        self.give_up = None
        self._memory.change(self, 0)


@dataclass(eq=False)
class _Waiter:
    client: str
    amount: int
    granted: asyncio.Future[None]


class RequestMemory:
    """`total` bytes, of which one client may hold `per_client`. Takers of much wait for each other in turn."""

    def __init__(self, total: int, *, per_client: int, patience_s: float = 2.0, grace_s: float = 10.0) -> None:
        self._total = total
        self._per_client = min(per_client, total)
        self._patience_s = patience_s
        self._grace_s = grace_s
        self._sum = 0
        self._by_client: Counter[str] = Counter()
        self._waiting: deque[_Waiter] = deque()
        self._arriving: set[MemoryShare] = set()

    def hold(self, client: str, amount: int) -> MemoryShare:
        """Returns a share of what is in memory already, whether there is room or not."""
        self._add(client, amount)
        return MemoryShare(self, client, amount)

    async def take(self, client: str, amount: int) -> MemoryShare:
        """Returns a share as soon as `amount` bytes are free; raises QUEUE_FULL if they are not within the patience.

        What is more than a client may have is taken as all that it may have, so that the largest request is served alone.
        """
        amount = min(amount, _usable(self._per_client, amount))
        if (amount > _SMALL and self._waiting) or not self._fits(client, amount):
            self._press(client, amount)
            await self._wait(client, amount)
        else:
            self._add(client, amount)
        return MemoryShare(self, client, amount)

    def arrive(self, share: MemoryShare, give_up: Callable[[], None]) -> None:
        """Notes that a share's body begins to arrive: `give_up` ends it, if it is slow and others need the room."""
        share.since, share.received, share.give_up = asyncio.get_running_loop().time(), 0, give_up
        self._arriving.add(share)

    def arrived(self, share: MemoryShare) -> None:
        """Notes that it has arrived, or never will."""
        share.give_up = None
        self._arriving.discard(share)

    def enlarge(self, share: MemoryShare, amount: int) -> None:
        """Adds to a share; raises QUEUE_FULL."""
        amount = min(amount, _usable(self._per_client, amount))
        if amount > share.amount:
            if not self._fits(share.client, amount - share.amount, held=share.amount):
                raise _full()
            self.change(share, amount)

    def change(self, share: MemoryShare, amount: int) -> None:
        """Sets what a share holds."""
        self._add(share.client, amount - share.amount)
        share.amount = amount
        self._grant()

    def _add(self, client: str, amount: int) -> None:
        self._sum += amount
        self._by_client[client] += amount
        if not self._by_client[client]:
            del self._by_client[client]
        _held.set(self._sum)

    def _fits(self, client: str, amount: int, *, held: int = 0) -> bool:
        size = held + amount
        return self._sum + amount <= _usable(self._total, size) and self._by_client[client] + amount <= _usable(
            self._per_client, size
        )

    async def _wait(self, client: str, amount: int) -> None:
        waiter = _Waiter(client, amount, asyncio.get_running_loop().create_future())
        self._waiting.append(waiter)
        # Those before it may wait for memory of their own client.
        self._grant()
        try:
            async with asyncio.timeout(self._patience_s):
                await waiter.granted
        except BaseException as error:
            if waiter.granted.done() and not waiter.granted.cancelled():
                self._add(client, -amount)
            raise _full() if isinstance(error, TimeoutError) else error from None
        finally:
            with suppress(ValueError):
                self._waiting.remove(waiter)
            self._grant()

    def _grant(self) -> None:
        for waiter in list(self._waiting):
            if waiter.granted.done():
                continue
            if self._fits(waiter.client, waiter.amount):
                self._add(waiter.client, waiter.amount)
                self._waiting.remove(waiter)
                waiter.granted.set_result(None)
            elif self._by_client[waiter.client] + waiter.amount <= _usable(self._per_client, waiter.amount):
                # It waits for room that others hold: those behind it wait for their turn.
                return

    def _press(self, client: str, amount: int) -> None:
        """Gives up bodies that arrive slowly, the slowest first, until `amount` bytes can be free."""
        now = asyncio.get_running_loop().time()
        own = self._by_client[client] + amount > _usable(self._per_client, amount)
        slow = [
            (share.received / (now - share.since), id(share), share)
            for share in self._arriving
            if now - share.since > self._grace_s and (share.client == client or not own)
        ]
        freed = 0
        for rate, _, share in sorted(slow):
            if rate >= _PRESSED_BYTES_PER_S or freed >= amount or share.give_up is None:
                return
            freed += share.amount
            share.give_up()
            share.give_up = None


def _usable(memory: int, amount: int) -> int:
    """Returns the part of some memory that a request of `amount` bytes may use."""
    return memory if amount <= _TINY else memory - memory // 24 if amount <= _SMALL else memory - memory // 12


def _full() -> MirageError:
    return MirageError(Code.QUEUE_FULL, retry_after_s=_RETRY_S)


def return_large_blocks() -> None:
    """Makes the C library give each block of 1 MiB or more back to the system when it is freed.

    It would otherwise raise that size with the largest block it has seen, and keep tens of megabytes between two images.
    """
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, 2**20)
