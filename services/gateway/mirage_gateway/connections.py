"""The HTTP connections that are open: how many, whose, and which of them has to go when there are too many."""

import asyncio
import resource
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from mirage_core import telemetry

_log = telemetry.get_logger()
_open = telemetry.gauge("http_connections", "HTTP connections that are open.")
# File descriptors for everything but callers: channels to other services, logs, sockets that wait to be closed.
_OTHER_FILES = 128
_FILES_MAX = 65_536


@dataclass(frozen=True)
class Pace:
    """The slowest rates that a peer may have. Rates are means over `window_s`."""

    head_s: float
    keep_alive_s: float
    bytes_per_s: float
    window_s: float

    @property
    def check_s(self) -> float:
        """Seconds between two checks of the connections."""
        return min(1.0, *(each / 4 for each in (self.head_s, self.keep_alive_s, self.window_s)))


class Connection(Protocol):
    """A connection as the registry sees it. `key` names its client, or is empty for a peer that speaks for many."""

    key: str

    @property
    def settled(self) -> bool:
        """False for a new connection whose first bytes may be there and are not read yet."""

    @property
    def rank(self) -> tuple[bool, float] | None:
        """Order in which connections have to go when there are too many, the lowest first; None if it must stay."""

    def evict(self) -> None:
        """Closes it at once."""

    def check(self, now: float) -> None:
        """Closes it if its peer takes too long."""


class Room(Enum):
    """True if one more connection may be opened."""

    FREE = "free"
    RESERVE = "reserve"
    NONE = "none"


class Connections:
    """At most `limit` connections, and `per_client` of one client; beyond that `reserve` more, which are for probes alone.

    If there are too many, the one that has waited longest for its peer makes room: of the client that has reached its
    limit, else of the client that has most. So a client that opens connections and does not use them takes them from itself.
    """

    def __init__(self, *, limit: int, per_client: int, reserve: int) -> None:
        self._limit = limit
        self._reserve = reserve
        self._per_client = per_client
        self._by_client: dict[str, dict[Connection, None]] = defaultdict(dict)
        self._count = 0

    def __len__(self) -> int:
        return self._count

    @property
    def is_crowded(self) -> bool:
        """True if no more connection should be accepted for a moment: there are too many, and new ones among them."""
        return self._count >= self._limit and not self._can_evict() and self._is_new_among(self._by_client.values())

    def make_room(self, key: str) -> Room:
        """Returns the room for one more connection of a client; evicts another connection if that takes it."""
        own = self._by_client.get(key, {})
        # A client may exceed its limit by new connections, which cannot be judged yet; all together do not exceed theirs.
        own_room = not key or len(own) < self._per_client or self._evict_from(own) or self._is_new_among([own])
        if own_room and (self._count < self._limit or self.evict_any()):
            return Room.FREE
        return Room.RESERVE if self._count < self._limit + self._reserve else Room.NONE

    def _can_evict(self) -> bool:
        return any(each.rank is not None for own in self._by_client.values() for each in own)

    def _is_new_among(self, groups: Iterable[Iterable[Connection]]) -> bool:
        return any(not each.settled for group in groups for each in group)

    def evict_any(self) -> bool:
        """Evicts a connection of the client that has most; returns False if every one must stay."""
        return any(map(self._evict_from, sorted(self._by_client.values(), key=len, reverse=True)))

    def add(self, connection: Connection) -> None:
        """Counts a connection."""
        self._by_client[connection.key][connection] = None
        self._count += 1
        _open.set(self._count)

    def remove(self, connection: Connection) -> None:
        """No longer counts a connection; a second call does nothing."""
        own = self._by_client.get(connection.key, {})
        if connection not in own:
            return
        del own[connection]
        if not own:
            del self._by_client[connection.key]
        self._count -= 1
        _open.set(self._count)

    def _evict_from(self, own: dict[Connection, None]) -> bool:
        ranks = [(rank, index, each) for index, each in enumerate(own) if (rank := each.rank) is not None]
        if not ranks:
            return False
        _, _, victim = min(ranks)
        self.remove(victim)
        victim.evict()
        return True

    async def watch(self, every_s: float) -> None:
        """Checks all connections regularly, and that no client has more than it may; until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(every_s)
            now = loop.time()
            for key, own in list(self._by_client.items()):
                while key and len(own) > self._per_client and self._evict_from(own):
                    pass
                for connection in list(own):
                    try:
                        connection.check(now)
                    except Exception:
                        _log.exception("connection not checked")
                        self.remove(connection)
                        connection.evict()


def raise_file_limit() -> None:
    """Lets this process open as many files as its hard limit allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _FILES_MAX if hard == resource.RLIM_INFINITY else min(hard, _FILES_MAX)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def connections_possible(*, others: int) -> int:
    """Returns how many connections the limit of open files allows next to `others`, at least 32."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return _FILES_MAX
    return max(32, soft - others - _OTHER_FILES)
