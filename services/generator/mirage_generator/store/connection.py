"""Connections to Redis, and its errors as the catalogue's."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import redis
from redis.backoff import ExponentialBackoff
from redis.retry import Retry

from mirage_core.errors import Code, MirageError

CONNECT_S = 2.0
# A script takes a millisecond; a disk that is slow to take a write may hold an answer back.
ANSWER_S = 3.0
# Errors of a Redis whose disk or memory is full.
FULL = ("MISCONF", "OOM")


def connect(url: str) -> "redis.Redis":
    """A pool of connections, opened as they are needed; a lost one is opened again at once, a few times.

    Sending a command again is safe: each script of the store gives the same answer the second time. A command that is not
    answered in time is not sent again, because a Redis that hangs would hold its caller back as often.
    """
    return redis.Redis.from_url(
        url,
        socket_connect_timeout=CONNECT_S,
        socket_timeout=ANSWER_S,
        retry=Retry(ExponentialBackoff(cap=0.2, base=0.05), 3, supported_errors=(redis.ConnectionError,)),
        health_check_interval=0,
    )


class RedisGuard:
    """Wraps each use of Redis: raises DEPENDENCY_UNAVAILABLE or STORAGE_FULL for what it could not do.

    After a command that was not answered in time one caller at a time finds out whether Redis answers again. The others get the
    error at once, because threads that wait would be missed by all.
    """

    def __init__(self) -> None:
        self._silent = False
        self._turn = threading.RLock()

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Runs what is within it; may be nested."""
        probing = self._silent
        if probing and not self._turn.acquire(blocking=False):
            raise _unavailable()
        try:
            yield
        except redis.TimeoutError as error:
            self._silent = True
            raise _unavailable() from error
        except redis.ConnectionError as error:
            # It is not silent but gone, and the next attempt to connect fails at once.
            self._silent = False
            raise _unavailable() from error
        except redis.ResponseError as error:
            self._silent = False
            if str(error).startswith(FULL):
                raise MirageError(Code.STORAGE_FULL, retry_after_s=30.0) from error
            raise
        else:
            self._silent = False
        finally:
            if probing:
                self._turn.release()


def _unavailable() -> MirageError:
    return MirageError(Code.DEPENDENCY_UNAVAILABLE, retry_after_s=1.0, service="queue")
