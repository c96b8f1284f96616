"""Wakes the watchers of a job when Redis reports a change, and regularly if it cannot."""

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import redis
from redis import asyncio as async_redis

from mirage_core import telemetry
from mirage_generator.store.connection import CONNECT_S
from mirage_generator.store.jobs import CHANGES

_PAUSE_S = 0.2
_QUIET_S = 1.0
_log = telemetry.get_logger()


class Changes:
    """One subscription a process, however many watch. `run` it as a task."""

    def __init__(self, url: str) -> None:
        self._url = url
        # Counts up whenever the order of the queue may be another.
        self.of_the_queue = 0
        self._watchers: dict[str, set[asyncio.Event]] = defaultdict(set)

    @contextmanager
    def of(self, job: str) -> Iterator[asyncio.Event]:
        """An event that is set whenever the job may look different from before."""
        event = asyncio.Event()
        self._watchers[job].add(event)
        try:
            yield event
        finally:
            self._watchers[job].discard(event)
            if not self._watchers[job]:
                del self._watchers[job]

    @property
    def watched(self) -> int:
        """Watches that go on."""
        return sum(map(len, self._watchers.values()))

    async def run(self) -> None:
        """Listens until cancelled; a connection that breaks is made again."""
        while True:
            try:
                await self._listen()
            except (redis.RedisError, OSError) as error:
                _log.warning("no news of changes", problem=type(error).__name__)
            self._wake_all()
            await asyncio.sleep(_PAUSE_S)

    async def _listen(self) -> None:
        client = async_redis.Redis.from_url(self._url, socket_connect_timeout=CONNECT_S)
        try:
            async with client.pubsub() as subscription:
                await subscription.subscribe(CHANGES)
                # Earlier changes were not reported.
                self._wake_all()
                while True:
                    message = await subscription.get_message(ignore_subscribe_messages=True, timeout=_QUIET_S)
                    if message is not None:
                        self._pass_on(message["data"].decode())
        finally:
            with suppress(redis.RedisError, OSError):
                await client.aclose()

    def _pass_on(self, message: str) -> None:
        kind, _, job = message.partition(" ")
        if kind == "queue":
            # Everybody's place may be another one.
            self._wake_all()
            return
        for event in self._watchers.get(job, ()):
            event.set()

    def _wake_all(self) -> None:
        self.of_the_queue += 1
        for events in self._watchers.values():
            for event in events:
                event.set()
