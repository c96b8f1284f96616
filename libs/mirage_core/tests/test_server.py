"""The server builder, over real gRPC: what every service inherits."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any, TypeAlias

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from mirage_core import context, vectors
from mirage_core.channels import invoke, open_channel, set_service_key
from mirage_core.errors import Code, MirageError
from mirage_core.server import GrpcServer
from mirage_core.settings import ApiKeys, ServiceSettings
from mirage_protos.encoder.v1 import encoder_pb2, encoder_pb2_grpc
from tests.support.servicers import partial_servicer

NAME = "mirage.encoder.v1.EncoderService"
Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
KEY = "0123456789abcdef"


class Servicer(encoder_pb2_grpc.EncoderServiceServicer):
    """Fails in each of the ways that a servicer can fail, by what it is asked."""

    def __init__(self) -> None:
        self.request_ids: list[str] = []
        self.calls = 0

    async def EncodeText(self, request: encoder_pb2.EncodeTextRequest, ctx: Context) -> encoder_pb2.EncodeTextResponse:
        self.calls += 1
        self.request_ids.append(context.request_id.get())
        match request.texts[0]:
            case "coded":
                raise MirageError(Code.TEXT_TOO_LONG, max=2000, given=9999)
            case "full":
                raise MirageError(Code.QUEUE_FULL, retry_after_s=1.5)
            case "bug":
                raise RuntimeError("a secret path /etc/shadow")
            case "flaky" if self.calls == 1:
                raise MirageError(Code.MODEL_NOT_READY)
        return encoder_pb2.EncodeTextResponse(fingerprint="f")

    async def EncodeImages(
        self, requests: AsyncIterator[encoder_pb2.EncodeImagesRequest], ctx: Context
    ) -> AsyncIterator[encoder_pb2.EncodeImagesResponse]:
        async for request in requests:
            if not request.image:
                raise MirageError(Code.IMAGE_EMPTY)
            yield encoder_pb2.EncodeImagesResponse(key=request.key)


@pytest.fixture
async def keys() -> ApiKeys:
    return ApiKeys({})


@pytest.fixture
async def servicer() -> Servicer:
    return partial_servicer(Servicer)


@pytest.fixture
async def server(servicer: Servicer, keys: ApiKeys) -> AsyncIterator[GrpcServer]:
    server = GrpcServer(ServiceSettings(port=0, drain_s=0, api_keys=keys))
    server.add(encoder_pb2_grpc.add_EncoderServiceServicer_to_server, servicer, NAME)
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def channel(server: GrpcServer) -> AsyncIterator[grpc.aio.Channel]:
    async with open_channel(f"127.0.0.1:{server.port}", idempotent={NAME: ["EncodeText"]}) as channel:
        yield channel


async def encode(channel: grpc.aio.Channel, text: str, *, timeout_s: float = 5) -> encoder_pb2.EncodeTextResponse:
    stub = encoder_pb2_grpc.EncoderServiceStub(channel)
    return await invoke(stub.EncodeText, encoder_pb2.EncodeTextRequest(texts=[text]), timeout_s=timeout_s)


async def test_a_coded_error_arrives_with_code_metadata_and_text(channel: grpc.aio.Channel) -> None:
    with pytest.raises(MirageError) as caught:
        await encode(channel, "coded")
    assert caught.value.code is Code.TEXT_TOO_LONG
    assert caught.value.metadata == {"max": "2000", "given": "9999"}


async def test_a_retry_time_arrives(channel: grpc.aio.Channel) -> None:
    with pytest.raises(MirageError) as caught:
        await encode(channel, "full")
    assert caught.value.code is Code.QUEUE_FULL
    assert caught.value.retry_after_s == 1.5


async def test_a_bug_is_internal_and_its_text_stays_inside(channel: grpc.aio.Channel) -> None:
    stub = encoder_pb2_grpc.EncoderServiceStub(channel)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.EncodeText(encoder_pb2.EncodeTextRequest(texts=["bug"]), timeout=60)
    assert caught.value.code() is grpc.StatusCode.INTERNAL
    assert "secret" not in repr(caught.value)
    assert "secret" not in repr(caught.value.trailing_metadata())


async def test_an_unavailable_answer_to_an_idempotent_call_is_tried_again(
    channel: grpc.aio.Channel, servicer: Servicer
) -> None:
    assert (await encode(channel, "flaky")).fingerprint == "f"
    assert servicer.calls == 2


async def test_a_stream_fails_with_its_code_after_what_came_before(channel: grpc.aio.Channel) -> None:
    stub = encoder_pb2_grpc.EncoderServiceStub(channel)
    requests = [encoder_pb2.EncodeImagesRequest(key="a", image=b"x"), encoder_pb2.EncodeImagesRequest(key="b")]
    call: Any = stub.EncodeImages(iter(requests), timeout=60)
    assert (await call.read()).key == "a"
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call.read()
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_the_request_id_is_passed_on_and_a_harmful_one_replaced(
    channel: grpc.aio.Channel, servicer: Servicer
) -> None:
    context.request_id.set("abc-1")
    await encode(channel, "x")
    context.request_id.set("a b c")
    await encode(channel, "x")
    assert servicer.request_ids[0] == "abc-1"
    assert len(servicer.request_ids[1]) == 16


async def test_health_follows_the_service(server: GrpcServer, channel: grpc.aio.Channel) -> None:
    stub = health_pb2_grpc.HealthStub(channel)

    async def state(name: str) -> int:
        return int((await stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=60)).status)

    assert await state(NAME) == health_pb2.HealthCheckResponse.NOT_SERVING
    await server.set_serving(NAME, serving=True)
    assert await state(NAME) == await state("") == health_pb2.HealthCheckResponse.SERVING
    await server.set_serving(NAME, serving=False)
    assert await state("") == health_pb2.HealthCheckResponse.NOT_SERVING


async def test_reflection_lists_the_service(channel: grpc.aio.Channel) -> None:
    stub: Any = reflection_pb2_grpc.ServerReflectionStub(channel)
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    async for reply in stub.ServerReflectionInfo(iter([request]), timeout=60):
        assert NAME in [service.name for service in reply.list_services_response.service]


async def test_a_taken_port_is_an_error_and_not_shared(server: GrpcServer) -> None:
    with pytest.raises(OSError, match="cannot listen"):
        await GrpcServer(ServiceSettings(port=server.port)).start()


async def test_nobody_there_is_a_dependency_unavailable_that_names_it() -> None:
    async with open_channel("127.0.0.1:1", idempotent={}) as channel:
        with pytest.raises(MirageError) as caught:
            await encode(channel, "x")
    assert caught.value.code is Code.DEPENDENCY_UNAVAILABLE
    assert caught.value.metadata["service"] == "encoder"


class TestWithKeys:
    @pytest.fixture
    async def keys(self) -> ApiKeys:
        return ApiKeys.parse(f"alice:{KEY}")

    @pytest.mark.parametrize(
        ("given", "code"), [("", Code.API_KEY_MISSING), ("wrong-wrong-wrong", Code.API_KEY_INVALID)]
    )
    async def test_a_call_without_a_good_key_is_refused(
        self, channel: grpc.aio.Channel, given: str, code: Code
    ) -> None:
        set_service_key(given)
        try:
            with pytest.raises(MirageError) as caught:
                await encode(channel, "x")
        finally:
            set_service_key("")
        assert caught.value.code is code

    async def test_a_good_key_is_served(self, channel: grpc.aio.Channel) -> None:
        set_service_key(KEY)
        try:
            assert (await encode(channel, "x")).fingerprint == "f"
        finally:
            set_service_key("")


def test_a_vector_survives_the_wire() -> None:
    vector = np.array([0.1, -2.5, 1e-7], np.float32)
    assert (vectors.vector_from_proto(vectors.vector_to_proto(vector)) == vector).all()


@pytest.mark.parametrize(
    ("values", "code"),
    [
        ([1, 2], Code.VECTOR_WRONG_DIMENSION),
        ([float("nan"), 1, 1], Code.VECTOR_NOT_FINITE),
        ([float("inf"), 1, 1], Code.VECTOR_NOT_FINITE),
        ([0, 0, 0], Code.VECTOR_ZERO),
    ],
)
def test_a_bad_vector_is_refused(values: list[float], code: Code) -> None:
    with pytest.raises(MirageError) as caught:
        vectors.check_unit(np.array(values, np.float32), dimension=3)
    assert caught.value.code is code


def test_huge_components_do_not_overflow() -> None:
    unit = vectors.check_unit(np.full(3, 3e38, np.float32), dimension=3)
    assert np.linalg.norm(unit) == pytest.approx(1, abs=1e-6)


async def test_connections_are_made_anew_without_a_call_that_fails() -> None:
    peers: set[str] = set()

    class Noting(Servicer):
        async def EncodeText(
            self, request: encoder_pb2.EncodeTextRequest, ctx: Context
        ) -> encoder_pb2.EncodeTextResponse:
            peers.add(ctx.peer())
            return encoder_pb2.EncodeTextResponse(fingerprint="f")

    server = GrpcServer(ServiceSettings(port=0, drain_s=0, connection_age_s=1))
    server.add(encoder_pb2_grpc.add_EncoderServiceServicer_to_server, partial_servicer(Noting), NAME)
    await server.start()
    finish = asyncio.Event()

    async def images() -> AsyncIterator[encoder_pb2.EncodeImagesRequest]:
        yield encoder_pb2.EncodeImagesRequest(key="first", image=b"x")
        await finish.wait()
        yield encoder_pb2.EncodeImagesRequest(key="last", image=b"x")

    try:
        async with open_channel(f"127.0.0.1:{server.port}", idempotent={}) as channel:
            stream: Any = encoder_pb2_grpc.EncoderServiceStub(channel).EncodeImages(images(), timeout=120)
            assert (await stream.read()).key == "first"
            async with asyncio.timeout(120):
                while len(peers) < 3:
                    await encode(channel, "plain")
            finish.set()
            assert (await stream.read()).key == "last"
    finally:
        await server.stop()


async def test_a_server_that_stops_under_load_fails_no_idempotent_call() -> None:
    class Slow(Servicer):
        async def EncodeText(
            self, request: encoder_pb2.EncodeTextRequest, ctx: Context
        ) -> encoder_pb2.EncodeTextResponse:
            # Keeps the event loop from taking up the next call for a moment, so that some have arrived and none has them.
            time.sleep(0.002)  # noqa: ASYNC251 -- blocking it is the point
            served.append(self)
            if len(served) > 120:
                busy.set()
            return encoder_pb2.EncodeTextResponse(fingerprint="f")

    served: list[Servicer] = []
    busy = asyncio.Event()
    servers = [GrpcServer(ServiceSettings(port=0, drain_s=5)) for _ in range(2)]
    for server in servers:
        server.add(encoder_pb2_grpc.add_EncoderServiceServicer_to_server, partial_servicer(Slow), NAME)
        await server.start()
    address = "ipv4:" + ",".join(f"127.0.0.1:{server.port}" for server in servers)
    stopped = asyncio.Event()

    async def call(channel: grpc.aio.Channel) -> None:
        while not stopped.is_set():
            await encode(channel, "plain", timeout_s=60)

    try:
        async with open_channel(address, idempotent={NAME: ["EncodeText"]}) as channel:
            calls = [asyncio.create_task(call(channel)) for _ in range(60)]
            await asyncio.wait_for(busy.wait(), 60)
            await servers[0].stop()
            stopped.set()
            await asyncio.gather(*calls)
    finally:
        await servers[1].stop()


async def test_a_call_that_the_other_side_cancels_can_be_made_again_later() -> None:
    class Ending(Servicer):
        async def EncodeText(
            self, request: encoder_pb2.EncodeTextRequest, ctx: Context
        ) -> encoder_pb2.EncodeTextResponse:
            await ctx.abort(grpc.StatusCode.CANCELLED, "going down")

    server = grpc.aio.server()
    encoder_pb2_grpc.add_EncoderServiceServicer_to_server(partial_servicer(Ending), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with open_channel(f"127.0.0.1:{port}", idempotent={}) as channel:
            with pytest.raises(MirageError) as caught:
                await encode(channel, "plain")
    finally:
        await server.stop(None)
    assert (caught.value.code, caught.value.retry_after_s) == (Code.DEPENDENCY_UNAVAILABLE, 1.0)
