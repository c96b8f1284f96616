"""Connections to Redis, and its errors as the catalogue's."""

from collections.abc import Iterator
from contextlib import contextmanager

import redis
from redis.backoff import ExponentialBackoff
from redis.retry import Retry

from mirage_core.errors import Code, MirageError

CONNECT_S = 2.0
ANSWER_S = 5.0
# Errors of a Redis whose disk or memory is full.
FULL = ("MISCONF", "OOM")


def connect(url: str) -> "redis.Redis":
    """A pool of connections, opened as they are needed; a lost one is opened again at once, a few times.

    Sending a command again is safe: each script of the store gives the same answer the second time.
    """
    return redis.Redis.from_url(
        url,
        socket_connect_timeout=CONNECT_S,
        socket_timeout=ANSWER_S,
        retry=Retry(ExponentialBackoff(cap=0.2, base=0.05), 3),
        health_check_interval=0,
    )


@contextmanager
def translated() -> Iterator[None]:
    """Raises DEPENDENCY_UNAVAILABLE or STORAGEFULL for what Redis could not do."""
    try:
        yield
    except redis.ConnectionError as error:
        raise MirageError(Code.DEPENDENCY_UNAVAILABLE, retry_after_s=1.0, service="queue") from error
    except redis.TimeoutError as error:
        raise MirageError(Code.DEPENDENCY_UNAVAILABLE, retry_after_s=1.0, service="queue") from error
    except redis.ResponseError as error:
        if str(error).startswith(FULL):
            raise MirageError(Code.STORAGE_FULL, retry_after_s=30.0) from error
        raise
