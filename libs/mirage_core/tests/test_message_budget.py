import asyncio
from collections.abc import AsyncIterator
from typing import Any, TypeAlias

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from mirage_core.channels import invoke, open_channel
from mirage_core.errors import Code, MirageError
from mirage_core.message_budget import MessageBudget, read_message
from mirage_core.server import GrpcServer
from mirage_core.settings import ApiKeys, ServiceSettings
from mirage_protos.encoder.v1 import encoder_pb2, encoder_pb2_grpc
from tests.support.servicers import partial_servicer

NAME = "mirage.encoder.v1.EncoderService"
Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


async def turn() -> None:
    """Lets every task run that can."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_who_finds_no_place_waits_in_turn_and_one_more_is_refused() -> None:
    budget = MessageBudget(100, queue_limit=2, name="test")
    first = await budget.take(80)
    large, small = asyncio.create_task(budget.take(60)), asyncio.create_task(budget.take(10))
    await turn()
    with pytest.raises(MirageError) as caught:
        await budget.take(10)
    assert caught.value.code is Code.QUEUE_FULL
    assert caught.value.retry_after_s is not None
    assert not large.done()
    assert not small.done()
    first.release()
    assert await large is not await small


async def test_what_is_given_back_lets_the_next_in() -> None:
    budget = MessageBudget(100, queue_limit=2, name="test")
    with await budget.take(100) as share:
        waiting = asyncio.create_task(budget.take(70))
        await turn()
        assert not waiting.done()
        share.shrink(30)
        held = await waiting
        share.shrink(90)  # a share never grows
        share.shrink(20)
        with await budget.take(10):
            pass
    held.release()
    held.release()
    with await budget.take(100):
        pass


async def test_who_stops_waiting_blocks_nobody() -> None:
    budget = MessageBudget(100, queue_limit=2, name="test")
    first = await budget.take(60)
    large, small = asyncio.create_task(budget.take(90)), asyncio.create_task(budget.take(10))
    await turn()
    large.cancel()
    (await small).release()
    # Let in, and cancelled before it knows.
    second = asyncio.create_task(budget.take(90))
    await turn()
    first.release()
    second.cancel()
    await asyncio.gather(second, return_exceptions=True)
    with await budget.take(100):
        pass


async def test_those_who_stop_waiting_together_leave_nothing_behind() -> None:
    budget = MessageBudget(100, queue_limit=9, name="test")
    first = await budget.take(100)
    waiting = [asyncio.create_task(budget.take(100)) for _ in range(9)]
    await turn()
    # A connection ends with all of its calls: they are passed over before they know.
    for each in waiting:
        each.cancel()
    first.release()
    await asyncio.gather(*waiting, return_exceptions=True)
    with await budget.take(100):
        another = asyncio.create_task(budget.take(1))
        await turn()
        assert not another.done()
    (await another).release()


async def test_a_share_of_more_than_all_is_all() -> None:
    with await MessageBudget(100, queue_limit=0, name="test").take(5000):
        pass


class Servicer(encoder_pb2_grpc.EncoderServiceServicer):
    """Answers with the size of the image once `go` is set, and counts what it holds."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.arrived: asyncio.Queue[int] = asyncio.Queue()

    async def EncodeImage(
        self, request: encoder_pb2.EncodeImageRequest, ctx: Context
    ) -> encoder_pb2.EncodeImageResponse:
        self.arrived.put_nowait(len(request.image))
        await self.go.wait()
        return encoder_pb2.EncodeImageResponse(fingerprint=str(len(request.image)))

    async def EncodeImages(
        self, requests: AsyncIterator[encoder_pb2.EncodeImagesRequest], ctx: Context
    ) -> AsyncIterator[encoder_pb2.EncodeImagesResponse]:
        with await MessageBudget(100, queue_limit=0, name="test").take(100) as share:
            while (request := await read_message(requests, share)) is not None:
                yield encoder_pb2.EncodeImagesResponse(key=request.key)


@pytest.fixture
def servicer() -> Servicer:
    return partial_servicer(Servicer)


@pytest.fixture
async def server(servicer: Servicer) -> AsyncIterator[GrpcServer]:
    server = GrpcServer(ServiceSettings(port=0, drain_s=0, api_keys=ApiKeys.parse("a:0123456789abcdef")))
    server.add(encoder_pb2_grpc.add_EncoderServiceServicer_to_server, servicer, NAME)
    server.bound_reads(MessageBudget(1500, queue_limit=1, name="test-reads"), 1000, f"{NAME}/EncodeImage")
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def channel(server: GrpcServer) -> AsyncIterator[grpc.aio.Channel]:
    async with open_channel(f"127.0.0.1:{server.port}", idempotent={}) as channel:
        yield channel


def encode(channel: grpc.aio.Channel, size: int, *, key: str = "0123456789abcdef") -> "asyncio.Task[str]":
    async def call() -> str:
        stub = encoder_pb2_grpc.EncoderServiceStub(channel)
        request = encoder_pb2.EncodeImageRequest(image=bytes(size))
        metadata = (("authorization", f"Bearer {key}"),)
        return (await invoke(stub.EncodeImage, request, timeout_s=60, metadata=metadata)).fingerprint

    return asyncio.create_task(call())


async def test_a_message_is_read_once_there_is_room_for_it(channel: grpc.aio.Channel, servicer: Servicer) -> None:
    first = encode(channel, 900)
    assert await servicer.arrived.get() == 900
    second = encode(channel, 901)
    third = encode(channel, 902)
    # One of them waits, whichever came later is refused: there is room for neither.
    done, (waiting,) = await asyncio.wait((second, third), return_when=asyncio.FIRST_COMPLETED)
    refused = done.pop().exception()
    assert isinstance(refused, MirageError)
    assert refused.code is Code.QUEUE_FULL
    assert refused.retry_after_s is not None
    assert servicer.arrived.empty()
    servicer.go.set()
    assert await first == "900"
    assert await waiting in ("901", "902")


async def test_a_small_message_keeps_no_more_than_it_has(channel: grpc.aio.Channel, servicer: Servicer) -> None:
    running = [encode(channel, 10)]
    for _ in range(4):
        assert await servicer.arrived.get() == 10
        running.append(encode(channel, 10))
    servicer.go.set()
    assert await asyncio.gather(*running) == ["10"] * 5


async def test_a_call_without_a_key_takes_no_place(channel: grpc.aio.Channel, servicer: Servicer) -> None:
    first = encode(channel, 900)
    await servicer.arrived.get()
    for _ in range(3):
        with pytest.raises(MirageError) as caught:
            await encode(channel, 900, key="wrong")
        assert caught.value.code is Code.API_KEY_INVALID
    health = health_pb2_grpc.HealthStub(channel)
    assert (await health.Check(health_pb2.HealthCheckRequest(), timeout=60)).status is not None
    servicer.go.set()
    await first


async def test_a_call_without_a_message_is_malformed(channel: grpc.aio.Channel) -> None:
    method: Any = channel.stream_unary(f"/{NAME}/EncodeImage")
    call = method(iter(()), metadata=(("authorization", "Bearer 0123456789abcdef"),), timeout=60)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_the_messages_of_a_stream_end(channel: grpc.aio.Channel) -> None:
    stub = encoder_pb2_grpc.EncoderServiceStub(channel)
    requests = [encoder_pb2.EncodeImagesRequest(key=key) for key in "ab"]
    call = stub.EncodeImages(iter(requests), metadata=(("authorization", "Bearer 0123456789abcdef"),), timeout=60)
    assert [reply.key async for reply in call] == ["a", "b"]
