"""Rate limits for callers without a key: token buckets by address."""

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from mirage_core.errors import Code, MirageError

# Addresses that are remembered. One that is forgotten has a full bucket again.
_ADDRESSES = 20_000
# The time that is reported instead of never.
_NEVER_S = 3600.0
# All addresses together may do so many times what one may.
_EVERYBODY = 10


@dataclass(frozen=True)
class Rate:
    """`count` in `per_s` seconds. A caller who has been quiet may do half of it at once, at least one; of 0 nothing."""

    count: int
    per_s: float

    @property
    def burst(self) -> float:
        """The number of calls that may come at once."""
        return max(1.0, self.count / 2) if self.count else 0.0


@dataclass
class _Bucket:
    tokens: float
    filled: float


class RateLimit:
    """A rate for each address, and ten times as much for all together. A rate of 0 refuses everything."""

    def __init__(self, rate: Rate, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._own = rate
        self._all = Rate(rate.count * _EVERYBODY, rate.per_s)
        self._clock = clock
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()
        self._everybody = _Bucket(self._all.burst, clock())

    def take(self, address: str, cost: int = 1) -> None:
        """Counts one act, or `cost` of them; raises RATE_LIMITED with the time after which it is allowed."""
        now = self._clock()
        bucket = self._buckets.setdefault(address, _Bucket(self._own.burst, now))
        self._buckets.move_to_end(address)
        wait_s = max(_fill(bucket, self._own, now, cost), _fill(self._everybody, self._all, now, cost))
        if wait_s > 0:
            raise MirageError(Code.RATE_LIMITED, retry_after_s=wait_s)
        bucket.tokens -= cost
        self._everybody.tokens -= cost
        if len(self._buckets) > _ADDRESSES:
            self._buckets.popitem(last=False)


def _fill(bucket: _Bucket, rate: Rate, now: float, cost: int) -> float:
    """Adds what has come in since, and returns the seconds until there is enough."""
    if not rate.count:
        return _NEVER_S
    per_second = rate.count / rate.per_s
    bucket.tokens = min(rate.burst, bucket.tokens + (now - bucket.filled) * per_second)
    bucket.filled = now
    # A cost beyond the burst takes all of it.
    missing = min(cost, rate.burst) - bucket.tokens
    return max(0.0, missing / per_second)
