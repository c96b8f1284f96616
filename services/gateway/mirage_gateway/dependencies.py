"""The services that the gateway is composed of: how they are called, and whether they live."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeVar

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from mirage_core import channels, telemetry
from mirage_core.errors import Code, MirageError
from mirage_core.liveness import Liveness
from mirage_core.server import GrpcServer
from mirage_protos.encoder.v1 import encoder_pb2_grpc
from mirage_protos.generator.v1 import generator_pb2_grpc
from mirage_protos.llm.v1 import llm_pb2_grpc
from mirage_protos.reader.v1 import reader_pb2_grpc
from mirage_protos.retriever.v1 import retriever_pb2_grpc

_log = telemetry.get_logger()
Request = TypeVar("Request")
Response = TypeVar("Response")

RETRIEVER = "mirage.retriever.v1.RetrieverService"
ENCODER = "mirage.encoder.v1.EncoderService"
LLM = "mirage.llm.v1.LlmService"
GENERATOR = "mirage.generator.v1.GeneratorService"
READER = "mirage.reader.v1.ReaderService"
_IDEMPOTENT: Mapping[str, Sequence[str]] = {
    RETRIEVER: (
        "Search",
        "Compare",
        "GetRecord",
        "GetImage",
        "ListFacets",
        "DeleteRecords",
        "GetCollection",
        "ListFlags",
        "LookupRecords",
        "ListRecords",
        "ListCollections",
        "ListCommonQueries",
        "ListRatingSheets",
        "GetRatingSheet",
        "GetRating",
        # The same answer again is stored once.
        "StoreRatingAnswer",
        "GetRatingImage",
    ),
    ENCODER: ("GetModel", "ClassifyImage"),
    LLM: ("GetModel",),
    READER: ("GetModel",),
    # A new job is not among them: without a request id, trying again could make two.
    GENERATOR: ("GetModel", "GetJob", "ListJobs", "WatchJob", "CancelJob", "GetJobImage"),
}
# Without these everything else is still served.
OPTIONAL = frozenset({"llm", "generator", "reader"})
_HEALTH_TIMEOUT_S = 0.6
_PERIOD_S = 1.0
_STARTING_PERIOD_S = 0.1
# Of a download, however slow its reader is.
_DOWNLOAD_S = 3600.0


class Health(StrEnum):
    """The health of a service."""

    SERVING = "serving"
    NOT_SERVING = "not serving"
    UNREACHABLE = "unreachable"


@dataclass(frozen=True)
class _Service:
    name: str
    full_name: str
    health: Any  # grpcio-health-checking lacks types for its stub


def ready(found: Mapping[str, Health]) -> bool:
    """True where everything serves that searches need."""
    return all(state is Health.SERVING for name, state in found.items() if name not in OPTIONAL)


class Dependencies:
    """Channels to the services, and the ways to call them; `llm`, `generator` and `reader` may be None.

    Every call raises MirageError. A call that is not answered within `patience_s` goes on waiting only while the services
    that it needs answer a health check; otherwise it fails with DEPENDENCY_UNAVAILABLE, long before its deadline.
    """

    def __init__(
        self,
        *,
        retriever: str,
        encoder: str,
        llm: str = "",
        generator: str = "",
        reader: str = "",
        patience_s: float,
    ) -> None:
        self._patience_s = patience_s
        given = (
            ("retriever", RETRIEVER, retriever),
            ("encoder", ENCODER, encoder),
            ("llm", LLM, llm),
            ("generator", GENERATOR, generator),
            ("reader", READER, reader),
        )
        self._channels = {
            name: channels.open_channel(address, idempotent=_IDEMPOTENT) for name, _, address in given if address
        }
        self.retriever: retriever_pb2_grpc.RetrieverServiceAsyncStub = retriever_pb2_grpc.RetrieverServiceStub(
            self._channels["retriever"]
        )
        self.encoder: encoder_pb2_grpc.EncoderServiceAsyncStub = encoder_pb2_grpc.EncoderServiceStub(
            self._channels["encoder"]
        )
        self.llm: llm_pb2_grpc.LlmServiceAsyncStub | None = None
        if "llm" in self._channels:
            self.llm = llm_pb2_grpc.LlmServiceStub(self._channels["llm"])
        self.generator: generator_pb2_grpc.GeneratorServiceAsyncStub | None = None
        if "generator" in self._channels:
            self.generator = generator_pb2_grpc.GeneratorServiceStub(self._channels["generator"])
        self.reader: reader_pb2_grpc.ReaderServiceAsyncStub | None = None
        if "reader" in self._channels:
            self.reader = reader_pb2_grpc.ReaderServiceStub(self._channels["reader"])
        self._services = {
            name: _Service(name, full_name, health_pb2_grpc.HealthStub(self._channels[name]))
            for name, full_name, _ in given
            if name in self._channels
        }
        self._asking: asyncio.Future[dict[str, Health]] | None = None
        self._alive = {
            name: Liveness(channel, service=name, patience_s=patience_s, answer_s=_HEALTH_TIMEOUT_S)
            for name, channel in self._channels.items()
        }

    async def close(self) -> None:
        """Closes the channels."""
        for channel in self._channels.values():
            await channel.close()

    async def ask(
        self,
        method: "grpc.aio.UnaryUnaryMultiCallable[Request, Response]",
        request: Request,
        *,
        timeout_s: float,
        service: str = "",
        metadata: channels.Metadata = (),
    ) -> Response:
        """Returns the answer of a unary call; `service` names an optional one."""
        call = asyncio.ensure_future(channels.invoke(method, request, timeout_s=timeout_s, metadata=metadata))
        try:
            await asyncio.wait((call,), timeout=self._patience_s)
            if not call.done():
                await self._check_alive(service)
            return await call
        finally:
            call.cancel()

    async def read(
        self,
        method: "grpc.aio.UnaryStreamMultiCallable[Request, Response]",
        request: Request,
        *,
        timeout_s: float,
        service: str,
        metadata: channels.Metadata = (),
    ) -> AsyncIterator[Response]:
        """Yields the messages of a server-streaming call of `service`, each within `timeout_s`, while it is alive.

        The time that the reader of the messages takes for them does not count: it may be a slow download.
        """
        messages = channels.invoke_stream(method, request, timeout_s=_DOWNLOAD_S, metadata=metadata)
        async with aclosing(messages):
            while True:
                try:
                    async with asyncio.timeout(timeout_s), self._alive[service].needed():
                        message = await anext(messages, None)
                except TimeoutError:
                    raise MirageError(Code.DEADLINE_EXCEEDED) from None
                if message is None:
                    return
                yield message

    async def listen(
        self,
        method: "grpc.aio.UnaryStreamMultiCallable[Request, Response]",
        request: Request,
        *,
        timeout_s: float,
        service: str,
        metadata: channels.Metadata = (),
    ) -> AsyncGenerator[Response]:
        """As `read`, for a `service` that may take its time for each message: a silence goes on only while it is alive."""
        messages = channels.invoke_stream(method, request, timeout_s=timeout_s, metadata=metadata)
        waiting: asyncio.Task[Response | None] | None = None
        try:
            while True:
                waiting = asyncio.ensure_future(anext(messages, None))
                misses = 0
                while not (await asyncio.wait((waiting,), timeout=self._patience_s))[0]:
                    # Once can be a machine that is very busy, with the model itself most likely.
                    misses = misses + 1 if await self.health_of(service) is Health.UNREACHABLE else 0
                    if misses == 2:
                        raise MirageError(Code.DEPENDENCY_UNAVAILABLE, retry_after_s=1.0, service=service)
                if waiting.cancelled():
                    # By the other side: gRPC raises its CANCELLED as if it were this task's own.
                    raise MirageError(Code.DEPENDENCY_UNAVAILABLE, retry_after_s=1.0, service=service)
                message = await waiting
                if message is None:
                    return
                yield message
        finally:
            if waiting is not None and waiting.cancel():
                await asyncio.wait((waiting,))
            await messages.aclose()

    async def send(
        self,
        method: "grpc.aio.StreamUnaryMultiCallable[Request, Response]",
        requests: AsyncIterable[Request],
        *,
        timeout_s: float,
        service: str,
    ) -> Response:
        """The answer of a client-streaming call of `service`, which goes on only while that is alive."""
        async with self._alive[service].needed():
            return await channels.invoke_upload(method, requests, timeout_s=timeout_s)

    async def health(self) -> dict[str, Health]:
        """Returns what each service says within 0.6 s, by name. Those who ask at the same time share one answer."""
        if self._asking is None:
            self._asking = asyncio.ensure_future(self._ask_all())
            self._asking.add_done_callback(self._asked)
        return dict(await asyncio.shield(self._asking))

    async def _ask_all(self) -> dict[str, Health]:
        states = await asyncio.gather(*map(_health_of, self._services.values()))
        return dict(zip(self._services, states, strict=True))

    def _asked(self, _: object) -> None:
        self._asking = None

    async def health_of(self, name: str) -> Health:
        """Returns the health of one service within 0.6 s; UNREACHABLE for an unknown name."""
        service = self._services.get(name)
        return Health.UNREACHABLE if service is None else await _health_of(service)

    async def _check_alive(self, service: str) -> None:
        for name, state in (await self.health()).items():
            needed = name == service or (not service and name not in OPTIONAL)
            if needed and state is Health.UNREACHABLE:
                raise MirageError(Code.DEPENDENCY_UNAVAILABLE, retry_after_s=1.0, service=name)


async def _health_of(service: _Service) -> Health:
    request: Any = health_pb2.HealthCheckRequest(service=service.full_name)
    try:
        reply = await service.health.Check(request, timeout=_HEALTH_TIMEOUT_S)
    except grpc.RpcError as error:
        # A server that is up and has not registered the service yet answers NOT_FOUND.
        known = isinstance(error, grpc.aio.AioRpcError) and error.code() is grpc.StatusCode.NOT_FOUND
        return Health.NOT_SERVING if known else Health.UNREACHABLE
    return Health.SERVING if reply.status == health_pb2.HealthCheckResponse.SERVING else Health.NOT_SERVING


async def follow_health(dependencies: Dependencies, server: GrpcServer, name: str) -> None:
    """Sets the health of `name` until cancelled: SERVING while all that searches need is; logs each change."""
    known: dict[str, Health] = {}
    while True:
        found = await dependencies.health()
        serving = ready(found)
        if found != known:
            _log.info("dependencies", **{part: str(state) for part, state in found.items()})
            known = found
            await server.set_serving(name, serving=serving)
        await asyncio.sleep(_PERIOD_S if serving else _STARTING_PERIOD_S)
