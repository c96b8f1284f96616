"""Calls to a server that hangs end, those to one that is merely slow do not."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from mirage_core.channels import open_channel
from mirage_core.errors import Code, MirageError
from mirage_core.liveness import Liveness


class Health(health_pb2_grpc.HealthServicer):  # type: ignore[misc]  # its stub states no methods
    """Answers while `thawed` is set. A check of the service "slow" waits for `finished`."""

    def __init__(self) -> None:
        self.thawed = asyncio.Event()
        self.finished = asyncio.Event()
        self.checks: asyncio.Queue[str] = asyncio.Queue()

    async def Check(self, request: health_pb2.HealthCheckRequest, context: Any) -> health_pb2.HealthCheckResponse:
        self.checks.put_nowait(request.service)
        await self.thawed.wait()
        if request.service == "slow":
            await self.finished.wait()
        return health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.NOT_SERVING)


@pytest.fixture
async def served() -> AsyncIterator[tuple[Health, grpc.aio.Channel]]:
    server, health = grpc.aio.server(), Health()
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    port = server.add_insecure_port("localhost:0")
    await server.start()
    async with open_channel(f"localhost:{port}", idempotent={}) as channel:
        yield health, channel
    await server.stop(None)


async def slow_call(channel: grpc.aio.Channel) -> int:
    stub = health_pb2_grpc.HealthStub(channel)
    return int((await stub.Check(health_pb2.HealthCheckRequest(service="slow"), timeout=120)).status)


def watched(channel: grpc.aio.Channel, *, answer_s: float = 30) -> Liveness:
    return Liveness(channel, service="encoder", patience_s=0.05, answer_s=answer_s)


async def test_a_call_to_a_server_that_hangs_ends(served: tuple[Health, grpc.aio.Channel]) -> None:
    health, channel = served
    with pytest.raises(MirageError) as caught:
        async with watched(channel, answer_s=0.2).needed():
            await slow_call(channel)
    assert caught.value.code is Code.DEPENDENCY_UNAVAILABLE
    assert caught.value.metadata == {"service": "encoder"}
    assert health.checks.qsize() > 2


async def test_a_slow_call_goes_on_while_the_server_answers(served: tuple[Health, grpc.aio.Channel]) -> None:
    health, channel = served
    health.thawed.set()

    async def called() -> int:
        async with watched(channel).needed():
            return await slow_call(channel)

    call = asyncio.create_task(called())
    for _ in range(5):
        await asyncio.wait_for(health.checks.get(), 60)
    assert not call.done()
    health.finished.set()
    assert await call == health_pb2.HealthCheckResponse.NOT_SERVING


async def test_a_refused_connection_is_left_to_the_call(served: tuple[Health, grpc.aio.Channel]) -> None:
    async with open_channel("localhost:1", idempotent={}) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            async with watched(channel).needed():
                await slow_call(channel)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_a_timeout_of_the_call_itself_stays_one(served: tuple[Health, grpc.aio.Channel]) -> None:
    _, channel = served
    with pytest.raises(TimeoutError):
        async with watched(channel).needed():
            raise TimeoutError


async def test_a_caller_that_leaves_takes_the_watch_along(served: tuple[Health, grpc.aio.Channel]) -> None:
    health, channel = served
    health.thawed.set()

    async def called() -> None:
        async with watched(channel).needed():
            await slow_call(channel)

    call = asyncio.create_task(called())
    for _ in range(3):
        await asyncio.wait_for(health.checks.get(), 60)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    watches = [
        task for task in asyncio.all_tasks() if getattr(task.get_coro(), "__qualname__", "") == "Liveness._watch"
    ]
    assert all(task.cancelling() for task in watches)
