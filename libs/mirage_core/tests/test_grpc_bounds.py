"""What one caller can do to a gRPC server: before its key is known, and after."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from typing import Any, ClassVar, TypeAlias

import grpc
import pytest
import structlog
from grpc_health.v1 import health_pb2, health_pb2_grpc

from mirage_core import limits
from mirage_core.channels import invoke, open_channel
from mirage_core.errors import Code, MirageError
from mirage_core.methods import Kind, MethodRule, Role
from mirage_core.rpc_errors import from_rpc_error
from mirage_core.server import GrpcServer
from mirage_core.settings import ApiKeys, ServiceSettings
from mirage_protos.encoder.v1 import encoder_pb2, encoder_pb2_grpc
from tests.support.raw_http2 import PATH, RawConnection

NAME = "mirage.encoder.v1.EncoderService"
Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
KEYS = {role: f"{role}-{'k' * 20}" for role in ("read", "write", "admin")}
RUBBISH = b"\x0a\xff\xff\xff\xff\x0f rubbish"
UNAUTHENTICATED, INVALID, UNIMPLEMENTED, EXHAUSTED = 16, 3, 12, 8


class Servicer(encoder_pb2_grpc.EncoderServiceServicer):
    methods: ClassVar[Mapping[str, MethodRule]] = {
        "EncodeText": MethodRule(),
        "EncodeImage": MethodRule(Role.WRITE, limits.MESSAGE_BYTES),
        "EncodeImages": MethodRule(Role.READ, limits.VECTORS_BYTES),
        "ClassifyImage": MethodRule(kind=Kind.WATCH),
    }

    def __init__(self) -> None:
        self.requests: list[Any] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.arrived = asyncio.Semaphore(0)

    async def EncodeText(self, request: encoder_pb2.EncodeTextRequest, ctx: Context) -> encoder_pb2.EncodeTextResponse:
        self.requests.append(request)
        self.arrived.release()
        await self.gate.wait()
        return encoder_pb2.EncodeTextResponse(fingerprint="f")

    async def EncodeImage(
        self, request: encoder_pb2.EncodeImageRequest, ctx: Context
    ) -> encoder_pb2.EncodeImageResponse:
        self.requests.append(request)
        self.arrived.release()
        await self.gate.wait()
        return encoder_pb2.EncodeImageResponse(fingerprint=str(len(request.image)))

    async def EncodeImages(
        self, requests: AsyncIterator[encoder_pb2.EncodeImagesRequest], ctx: Context
    ) -> AsyncIterator[encoder_pb2.EncodeImagesResponse]:
        async for request in requests:
            yield encoder_pb2.EncodeImagesResponse(key=request.key)

    async def ClassifyImage(
        self, request: encoder_pb2.ClassifyImageRequest, ctx: Context
    ) -> encoder_pb2.ClassifyImageResponse:
        self.arrived.release()
        await self.gate.wait()
        return encoder_pb2.ClassifyImageResponse()

    async def GetModel(self, request: encoder_pb2.GetModelRequest, ctx: Context) -> encoder_pb2.GetModelResponse:
        return encoder_pb2.GetModelResponse()


Serve = Callable[..., Awaitable[tuple[Servicer, int]]]
Connect = Callable[..., Awaitable[RawConnection]]
StubOf = Callable[[int], Awaitable[Any]]


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Starts a server with these settings; returns its servicer and port."""
    async with AsyncExitStack() as stack:

        async def start(*, keyed: bool = False, fair: bool = False, **changes: Any) -> tuple[Servicer, int]:
            text = ",".join(f"{role}er:{key}:{role}" for role, key in KEYS.items()) if keyed else ""
            kind = type("FairSettings", (ServiceSettings,), {"shares_fairly": True}) if fair else ServiceSettings
            server = GrpcServer(kind(port=0, drain_s=0, api_keys=ApiKeys.parse(text), **changes))
            servicer = Servicer()
            server.add(encoder_pb2_grpc.add_EncoderServiceServicer_to_server, servicer, NAME)
            await server.start()
            stack.push_async_callback(server.stop)
            stack.callback(servicer.gate.set)
            return servicer, server.port

        yield start


@pytest.fixture
async def connect() -> AsyncIterator[Connect]:
    async with AsyncExitStack() as stack:

        async def start(port: int, address: str = "127.0.0.1") -> RawConnection:
            made = await RawConnection.open(port, address)
            stack.push_async_callback(made.close)
            return made

        yield start


@pytest.fixture
async def stub_of() -> AsyncIterator[StubOf]:
    async with AsyncExitStack() as stack:

        async def start(port: int) -> Any:
            channel = await stack.enter_async_context(open_channel(f"127.0.0.1:{port}", idempotent={}))
            return encoder_pb2_grpc.EncoderServiceStub(channel)

        yield start


def bearer(role: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {KEYS[role]}"),)


async def refused(call: Any) -> MirageError:
    """The catalogue error that a call ends with."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return from_rpc_error(caught.value, service="encoder")


class TestBeforeTheKey:
    async def test_a_call_without_a_key_is_refused_before_its_message_is_read(
        self, serve: Serve, connect: Connect
    ) -> None:
        servicer, port = await serve(keyed=True)
        connection = await connect(port)
        calls = [await connection.call() for _ in range(20)]
        sent = 0
        for number, _ in calls:
            sent += await connection.send(number, b"\x0a\x02\x0a\x00" * 2**18, declared=limits.MESSAGE_BYTES - 100)
        for _, call in calls:
            await asyncio.wait_for(call.ended.wait(), 60)
        assert {call.status for _, call in calls} == {UNAUTHENTICATED}
        assert sent <= 20 * 2 * limits.WINDOW_BYTES
        assert not servicer.requests

    @pytest.mark.parametrize(
        "path", [PATH, b"/mirage.encoder.v1.EncoderService/EncodeImages", b"/no.such.Service/Method"]
    )
    async def test_rubbish_without_a_key_is_unauthenticated(self, serve: Serve, connect: Connect, path: bytes) -> None:
        _, port = await serve(keyed=True)
        connection = await connect(port)
        number, call = await connection.call(path)
        await connection.send(number, RUBBISH, end=True)
        await asyncio.wait_for(call.ended.wait(), 60)
        assert call.status == UNAUTHENTICATED

    async def test_a_path_that_is_not_text_ends_its_own_call_alone(
        self, serve: Serve, connect: Connect, stub_of: StubOf
    ) -> None:
        _, port = await serve(keyed=True)
        connection = await connect(port)
        for path in (b"/mirage.encoder.v1.EncoderService/\xff\xfe", b"\xff", b"", b"no-slash", b"/" + b"a" * 5000):
            number, call = await connection.call(path)
            await connection.send(number, b"", end=True)
            await asyncio.wait_for(call.ended.wait(), 60)
            assert call.status != 0
        stub = await stub_of(port)
        reply = await stub.EncodeText(encoder_pb2.EncodeTextRequest(texts=["x"]), timeout=60, metadata=bearer("read"))
        assert reply.fingerprint == "f"

    async def test_a_message_that_says_it_is_longer_than_any_is_not_buffered(
        self, serve: Serve, connect: Connect
    ) -> None:
        _, port = await serve()
        connection = await connect(port)
        number, call = await connection.call()
        sent = await connection.send(number, bytes(4 * 2**20), declared=2**31)
        await asyncio.wait_for(call.ended.wait(), 60)
        assert sent < 2**20

    async def test_health_is_answered_without_a_key_and_an_unknown_name_is_not_watched(self, serve: Serve) -> None:
        _, port = await serve(keyed=True)
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            reply = await stub.Check(health_pb2.HealthCheckRequest(service=NAME), timeout=60)
            assert reply.status == health_pb2.HealthCheckResponse.NOT_SERVING
            watch = stub.Watch(health_pb2.HealthCheckRequest(service=NAME), timeout=60)
            assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
            watch.cancel()
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await stub.Watch(health_pb2.HealthCheckRequest(service="x"), timeout=60).read()
            assert caught.value.code() is grpc.StatusCode.NOT_FOUND

    async def test_more_connections_than_it_takes_are_closed(self, serve: Serve, connect: Connect) -> None:
        _, port = await serve(max_grpc_connections=3)
        connections = [await connect(port) for _ in range(5)]
        done, _ = await asyncio.wait(
            [asyncio.create_task(each.closed.wait()) for each in connections],
            timeout=60,
            return_when=asyncio.FIRST_COMPLETED,
        )
        assert done

    async def test_watches_of_health_by_anybody_leave_the_calls_of_others_alone(
        self, serve: Serve, connect: Connect, stub_of: StubOf
    ) -> None:
        _, port = await serve(keyed=True)
        connection = await connect(port)
        watches = []
        for _ in range(70):
            number, call = await connection.call(b"/grpc.health.v1.Health/Watch")
            await connection.send(number, b"", end=True)
            watches.append(call)
        ended = [asyncio.create_task(call.ended.wait()) for call in watches]
        await asyncio.wait(ended, timeout=60, return_when=asyncio.FIRST_COMPLETED)
        assert EXHAUSTED in {call.status for call in watches}
        stub = await stub_of(port)
        reply = await stub.EncodeText(encoder_pb2.EncodeTextRequest(texts=["x"]), timeout=60, metadata=bearer("read"))
        assert reply.fingerprint == "f"
        for each in ended:
            each.cancel()


class TestRubbish:
    @pytest.mark.parametrize("method", [b"EncodeText", b"EncodeImage", b"EncodeImages", b"ClassifyImage"])
    async def test_it_is_malformed_and_says_nothing_of_the_library(
        self, serve: Serve, connect: Connect, method: bytes, caplog: pytest.LogCaptureFixture
    ) -> None:
        servicer, port = await serve()
        connection = await connect(port)
        number, call = await connection.call(b"/mirage.encoder.v1.EncoderService/" + method)
        with structlog.testing.capture_logs() as lines, caplog.at_level(logging.DEBUG):
            await connection.send(number, RUBBISH, end=True)
            await asyncio.wait_for(call.ended.wait(), 60)
        assert (call.status, call.headers["grpc-message"]) == (INVALID, "The request cannot be read: message.")
        assert not servicer.requests
        assert not [line for line in lines if "exc_info" in line or line["log_level"] == "error"]
        assert "Traceback" not in caplog.text

    async def test_after_a_good_message_of_a_stream_it_ends_the_stream(self, serve: Serve, connect: Connect) -> None:
        _, port = await serve()
        connection = await connect(port)
        number, call = await connection.call(b"/mirage.encoder.v1.EncoderService/EncodeImages")
        await connection.send(number, encoder_pb2.EncodeImagesRequest(key="a").SerializeToString())
        await connection.send(number, RUBBISH)
        await asyncio.wait_for(call.ended.wait(), 60)
        assert call.status == INVALID
        assert encoder_pb2.EncodeImagesResponse.FromString(call.data[5:]).key == "a"

    async def test_no_message_at_all_is_malformed(self, serve: Serve, connect: Connect) -> None:
        _, port = await serve()
        connection = await connect(port)
        number, call = await connection.call()
        connection._state.end_stream(number)
        await connection._flush()
        await asyncio.wait_for(call.ended.wait(), 60)
        assert call.status == INVALID

    @pytest.mark.parametrize("path", [b"/mirage.encoder.v1.EncoderService/Nothing", b"/no.such.Service/Search"])
    async def test_an_unknown_method_is_unimplemented(self, serve: Serve, connect: Connect, path: bytes) -> None:
        _, port = await serve()
        connection = await connect(port)
        number, call = await connection.call(path)
        await connection.send(number, RUBBISH, end=True)
        await asyncio.wait_for(call.ended.wait(), 60)
        assert (call.status, call.headers["grpc-message"]) == (UNIMPLEMENTED, "There is nothing at this address.")

    async def test_a_flood_of_it_writes_a_few_lines(self, serve: Serve, connect: Connect) -> None:
        _, port = await serve()
        connection = await connect(port)
        with structlog.testing.capture_logs() as lines:
            for _ in range(200):
                number, call = await connection.call()
                await connection.send(number, RUBBISH, end=True)
                await asyncio.wait_for(call.ended.wait(), 60)
        written = [line for line in lines if line.get("code") == Code.REQUEST_MALFORMED]
        assert 0 < len(written) < 200
        counted = sum(line["count"] for line in lines if line["event"] == "rpc lines left out")
        assert counted <= 200 - len(written)


class TestSizes:
    async def test_each_method_has_its_own(self, serve: Serve, stub_of: StubOf) -> None:
        _, port = await serve()
        stub = await stub_of(port)
        large = encoder_pb2.EncodeTextRequest(texts=["x" * (limits.REQUEST_BYTES + 1)])
        error = await refused(stub.EncodeText(large, timeout=60))
        assert (error.code, error.metadata) == (Code.REQUEST_TOO_LARGE, {"max_bytes": str(limits.REQUEST_BYTES)})
        image = bytes(20 * 2**20)
        reply = await stub.EncodeImage(encoder_pb2.EncodeImageRequest(image=image), timeout=60)
        assert reply.fingerprint == str(len(image))

    async def test_beyond_the_largest_it_is_too_large_as_well(self, serve: Serve, stub_of: StubOf) -> None:
        _, port = await serve()
        stub = await stub_of(port)
        request = encoder_pb2.EncodeImageRequest(image=bytes(limits.MESSAGE_BYTES))
        with pytest.raises(MirageError) as caught:
            await invoke(stub.EncodeImage, request, timeout_s=60)
        assert caught.value.code is Code.REQUEST_TOO_LARGE

    async def test_one_message_of_a_stream_is_bounded(self, serve: Serve, stub_of: StubOf) -> None:
        _, port = await serve()
        stub = await stub_of(port)
        call = stub.EncodeImages(iter([encoder_pb2.EncodeImagesRequest(image=bytes(limits.VECTORS_BYTES))]), timeout=60)
        assert (await refused(call.read())).code is Code.REQUEST_TOO_LARGE


class TestRoles:
    @pytest.mark.parametrize(
        ("method", "role", "served"),
        [
            ("EncodeText", "read", True),
            ("EncodeImage", "read", False),
            ("EncodeImage", "write", True),
            ("EncodeImage", "admin", True),
            # It has no entry in the table.
            ("GetModel", "write", False),
            ("GetModel", "admin", True),
        ],
    )
    async def test_a_role_includes_those_below(
        self, serve: Serve, stub_of: StubOf, method: str, role: str, served: bool
    ) -> None:
        _, port = await serve(keyed=True)
        stub = await stub_of(port)
        request = getattr(encoder_pb2, f"{method}Request")()
        call = getattr(stub, method)(request, timeout=60, metadata=bearer(role))
        if served:
            await call
        else:
            error = await refused(call)
            assert (error.code, error.metadata["given"]) == (Code.ROLE_REQUIRED, role)

    async def test_without_keys_this_machine_may_do_everything(self, serve: Serve, stub_of: StubOf) -> None:
        _, port = await serve()
        stub = await stub_of(port)
        await stub.GetModel(encoder_pb2.GetModelRequest(), timeout=60)


class TestPlaces:
    async def test_more_calls_than_are_served_at_once_are_told_to_come_back(
        self, serve: Serve, stub_of: StubOf
    ) -> None:
        servicer, port = await serve(max_calls=2)
        stub = await stub_of(port)
        servicer.gate.clear()
        request = encoder_pb2.EncodeTextRequest(texts=["x"])
        running = [asyncio.ensure_future(stub.EncodeText(request, timeout=60)) for _ in range(2)]
        for _ in running:
            await asyncio.wait_for(servicer.arrived.acquire(), 60)
        other = await stub_of(port)
        error = await refused(other.EncodeText(request, timeout=60))
        assert (error.code, error.retry_after_s) == (Code.QUEUE_FULL, 1.0)
        servicer.gate.set()
        await asyncio.gather(*running)
        assert (await other.EncodeText(request, timeout=60)).fingerprint == "f"

    async def test_one_client_has_half_of_the_places(self, serve: Serve, stub_of: StubOf) -> None:
        servicer, port = await serve(keyed=True, fair=True, max_watchers=4)
        stub = await stub_of(port)
        servicer.gate.clear()
        request = encoder_pb2.ClassifyImageRequest()
        running = []
        for role in ("read", "write"):
            for _ in range(2):
                running.append(asyncio.ensure_future(stub.ClassifyImage(request, timeout=60, metadata=bearer(role))))
                await asyncio.wait_for(servicer.arrived.acquire(), 60)
            error = await refused(stub.ClassifyImage(request, timeout=60, metadata=bearer(role)))
            assert error.code is Code.QUEUE_FULL
        servicer.gate.set()
        await asyncio.gather(*running)

    async def test_without_keys_the_connections_of_an_address_are_one_client(
        self, serve: Serve, connect: Connect
    ) -> None:
        servicer, port = await serve(fair=True, max_calls=4)
        servicer.gate.clear()
        running = []
        for address in ("127.0.0.1", "127.0.0.2"):
            for _ in range(2):
                connection = await connect(port, address)
                number, call = await connection.call()
                await connection.send(number, b"", end=True)
                await asyncio.wait_for(servicer.arrived.acquire(), 60)
                running.append(call)
            connection = await connect(port, address)
            number, call = await connection.call()
            await connection.send(number, b"", end=True)
            await asyncio.wait_for(call.ended.wait(), 60)
            assert call.status == EXHAUSTED
        servicer.gate.set()
        for call in running:
            await asyncio.wait_for(call.ended.wait(), 60)
            assert call.status == 0

    async def test_a_watch_takes_no_place_of_a_call(self, serve: Serve, stub_of: StubOf) -> None:
        servicer, port = await serve(max_calls=1)
        stub = await stub_of(port)
        servicer.gate.clear()
        watch = asyncio.ensure_future(stub.ClassifyImage(encoder_pb2.ClassifyImageRequest(), timeout=60))
        await asyncio.wait_for(servicer.arrived.acquire(), 60)
        await stub.GetModel(encoder_pb2.GetModelRequest(), timeout=60)
        servicer.gate.set()
        await watch


class TestMemory:
    async def test_messages_that_never_end_are_few_at_a_time(
        self, serve: Serve, connect: Connect, stub_of: StubOf
    ) -> None:
        _, port = await serve(message_memory_mb=150)
        connection = await connect(port)
        calls = [await connection.call(b"/mirage.encoder.v1.EncoderService/EncodeImage") for _ in range(40)]
        half = bytes(2**20)
        await asyncio.gather(*(connection.send(number, half, declared=20 * 2**20) for number, _ in calls))
        ended = [asyncio.create_task(call.ended.wait()) for _, call in calls]
        await asyncio.wait(ended, timeout=60, return_when=asyncio.FIRST_COMPLETED)
        # A short message of somebody else is served meanwhile.
        stub = await stub_of(port)
        assert (await stub.EncodeText(encoder_pb2.EncodeTextRequest(texts=["x"]), timeout=60)).fingerprint == "f"
        while sum(each.done() for each in ended) < 36:
            await asyncio.wait([each for each in ended if not each.done()], timeout=60, return_when="FIRST_COMPLETED")
        assert {call.status for _, call in calls if call.status is not None} == {EXHAUSTED}
        for each in ended:
            each.cancel()

    async def test_messages_that_are_worked_on_are_counted_until_the_answer(
        self, serve: Serve, stub_of: StubOf
    ) -> None:
        servicer, port = await serve(message_memory_mb=150)
        stub = await stub_of(port)
        servicer.gate.clear()
        request = encoder_pb2.EncodeImageRequest(image=bytes(20 * 2**20))
        first = asyncio.ensure_future(stub.EncodeImage(request, timeout=60))
        await asyncio.wait_for(servicer.arrived.acquire(), 60)
        assert (await refused(stub.EncodeImage(request, timeout=60))).code is Code.QUEUE_FULL
        servicer.gate.set()
        await first
        await stub.EncodeImage(request, timeout=60)
