"""Places for requests that are being worked on, of which one client may have a part."""

import asyncio
from collections import Counter, OrderedDict, deque

from mirage_core.errors import Code, MirageError


class RequestPlaces:
    """At most `total` at a time, and `per_client` of one client. One more waits up to `patience_s`, clients in rotation."""

    def __init__(self, total: int, *, per_client: int, patience_s: float = 1.0) -> None:
        self._total = total
        self._per_client = min(per_client, total)
        self._patience_s = patience_s
        self._sum = 0
        self._by_client: Counter[str] = Counter()
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()

    async def take(self, client: str) -> None:
        """Takes a place; raises QUEUE_FULL if none is free in time."""
        if client not in self._waiting and self._fits(client):
            self._add(client, 1)
            return
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(client, deque()).append(place)
        try:
            async with asyncio.timeout(self._patience_s):
                await place
        except BaseException as error:
            if place.done() and not place.cancelled():
                self.leave(client)
            elif client in self._waiting and place in self._waiting[client]:
                self._waiting[client].remove(place)
                if not self._waiting[client]:
                    del self._waiting[client]
            if isinstance(error, TimeoutError):
                raise MirageError(Code.QUEUE_FULL, retry_after_s=max(1.0, self._patience_s)) from None
            raise

    def leave(self, client: str) -> None:
        """Gives a place back, to the next who waits for it."""
        self._add(client, -1)
        while self._sum < self._total and (following := next(filter(self._fits, self._waiting), None)) is not None:
            places = self._waiting.pop(following)
            place = places.popleft()
            if places:
                self._waiting[following] = places
            if not place.done():
                self._add(following, 1)
                place.set_result(None)

    def _fits(self, client: str) -> bool:
        return self._sum < self._total and self._by_client[client] < self._per_client

    def _add(self, client: str, count: int) -> None:
        self._sum += count
        self._by_client[client] += count
        if not self._by_client[client]:
            del self._by_client[client]


class Place:
    """The place of one request, which it may leave and take again."""

    def __init__(self, places: RequestPlaces, client: str) -> None:
        self._places = places
        self._client = client
        self._taken = False

    async def take(self) -> None:
        """Takes the place unless it is taken; raises QUEUE_FULL."""
        if not self._taken:
            await self._places.take(self._client)
            self._taken = True

    def leave(self) -> None:
        """Gives the place back if it is taken."""
        if self._taken:
            self._taken = False
            self._places.leave(self._client)
