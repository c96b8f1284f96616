"""Places for requests that are being worked on, of which one client may have a part."""

from collections import Counter

from mirage_core.errors import Code, MirageError


class Places:
    """At most `total` at a time, and `per_client` of one client."""

    def __init__(self, total: int, *, per_client: int, retry_after_s: float = 1.0) -> None:
        self._total = total
        self._per_client = min(per_client, total)
        self._retry_after_s = retry_after_s
        self._sum = 0
        self._by_client: Counter[str] = Counter()

    def of(self, client: str) -> "Place":
        """Returns a place for one request of a client, not yet taken."""
        return Place(self, client)

    def take(self, client: str) -> None:
        """Takes a place; raises QUEUE_FULL."""
        if self._sum >= self._total or self._by_client[client] >= self._per_client:
            raise MirageError(Code.QUEUE_FULL, retry_after_s=self._retry_after_s)
        self._sum += 1
        self._by_client[client] += 1

    def leave(self, client: str) -> None:
        """Gives a place back."""
        self._sum -= 1
        self._by_client[client] -= 1
        if not self._by_client[client]:
            del self._by_client[client]


class Place:
    """The place of one request, which it may leave and take again."""

    def __init__(self, places: Places, client: str) -> None:
        self._places = places
        self._client = client
        self._taken = False

    def take(self) -> None:
        """Takes the place unless it is taken; raises QUEUE_FULL."""
        if not self._taken:
            self._places.take(self._client)
            self._taken = True

    def leave(self) -> None:
        """Gives the place back if it is taken."""
        if self._taken:
            self._taken = False
            self._places.leave(self._client)
