"""Ends calls to a service that hangs: one that keeps its connections and answers nothing, not even a health check."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from mirage_core.errors import Code, MirageError

# Twice, because once can be a machine that is very busy, with what is waited for most likely.
MISSES = 2


class Liveness:
    """Looks after the calls on one channel. A call that is answered within `patience_s` costs nothing.

    `service` is the name in the error.
    """

    def __init__(
        self, channel: grpc.aio.Channel, *, service: str, patience_s: float = 1.0, answer_s: float = 1.0
    ) -> None:
        self._stub: Any = health_pb2_grpc.HealthStub(channel)
        self._service = service
        self._patience_s = patience_s
        self._answer_s = answer_s

    @asynccontextmanager
    async def needed(self) -> AsyncIterator[None]:
        """Raises DEPENDENCY_UNAVAILABLE in what is within it once the service answers no health check."""
        loop = asyncio.get_running_loop()
        watching: list[asyncio.Task[None]] = []
        try:
            async with asyncio.timeout(None) as limit:
                handle = loop.call_later(
                    self._patience_s, lambda: watching.append(loop.create_task(self._watch(limit)))
                )
                try:
                    yield
                finally:
                    handle.cancel()
                    for task in watching:
                        task.cancel()
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise MirageError(Code.DEPENDENCY_UNAVAILABLE, retry_after_s=1.0, service=self._service) from error

    async def _watch(self, limit: asyncio.Timeout) -> None:
        misses = 0
        while misses < MISSES:
            if await self._answers():
                misses = 0
                await asyncio.sleep(self._patience_s)
            else:
                misses += 1
        if not limit.expired():
            limit.reschedule(asyncio.get_running_loop().time())

    async def _answers(self) -> bool:
        """True for any answer, NOT_SERVING included; a refused connection is for the call itself to report."""
        try:
            await self._stub.Check(health_pb2.HealthCheckRequest(), timeout=self._answer_s)
        except grpc.aio.AioRpcError as error:
            return error.code() is not grpc.StatusCode.DEADLINE_EXCEEDED
        return True
