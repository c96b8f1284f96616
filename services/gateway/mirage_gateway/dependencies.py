"""The services that the gateway is composed of: how they are called, and whether they live."""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeVar

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from mirage.v1 import encoder_pb2_grpc, retriever_pb2_grpc
from mirage_core import channels
from mirage_core.errors import Code, MirageError

Request = TypeVar("Request")
Response = TypeVar("Response")

RETRIEVER = "mirage.v1.RetrieverService"
ENCODER = "mirage.v1.EncoderService"
_IDEMPOTENT: Mapping[str, Sequence[str]] = {
    RETRIEVER: (
        "Search",
        "Compare",
        "GetRecord",
        "GetImage",
        "ListFacets",
        "Delete",
        "GetCollection",
        "ListFlags",
        "LookupRecords",
        "ListRecords",
        "ListCollections",
        "ListCommonQueries",
    ),
    ENCODER: ("GetModel", "ClassifyImage"),
}
_HEALTH_TIMEOUT_S = 0.6


class Health(StrEnum):
    """What a service says about itself."""

    SERVING = "serving"
    NOT_SERVING = "not serving"
    UNREACHABLE = "unreachable"


@dataclass(frozen=True)
class _Service:
    name: str
    full_name: str
    health: Any  # grpcio-health-checking has no types for its stub


class Dependencies:
    """Channels to the retriever and the encoder, and the three ways to call them. Every call raises MirageError.

    A call that is not answered within `patience_s` goes on waiting only while both services answer a health check;
    otherwise it fails with DEPENDENCY_UNAVAILABLE, long before its deadline.
    """

    def __init__(self, *, retriever: str, encoder: str, patience_s: float) -> None:
        self._patience_s = patience_s
        self._channels = tuple(channels.open_channel(each, idempotent=_IDEMPOTENT) for each in (retriever, encoder))
        self.retriever: retriever_pb2_grpc.RetrieverServiceAsyncStub = retriever_pb2_grpc.RetrieverServiceStub(
            self._channels[0]
        )
        self.encoder: encoder_pb2_grpc.EncoderServiceAsyncStub = encoder_pb2_grpc.EncoderServiceStub(self._channels[1])
        self._services = tuple(
            _Service(name, full_name, health_pb2_grpc.HealthStub(channel))
            for name, full_name, channel in zip(
                ("retriever", "encoder"), (RETRIEVER, ENCODER), self._channels, strict=True
            )
        )

    async def close(self) -> None:
        """Closes the channels."""
        for channel in self._channels:
            await channel.close()

    async def ask(
        self, method: "grpc.aio.UnaryUnaryMultiCallable[Request, Response]", request: Request, *, timeout_s: float
    ) -> Response:
        """The answer of a unary call."""
        call = asyncio.ensure_future(channels.invoke(method, request, timeout_s=timeout_s))
        try:
            await asyncio.wait((call,), timeout=self._patience_s)
            if not call.done():
                await self._check_alive()
            return await call
        finally:
            call.cancel()

    async def read(
        self, method: "grpc.aio.UnaryStreamMultiCallable[Request, Response]", request: Request, *, timeout_s: float
    ) -> AsyncIterator[Response]:
        """The messages of a server-streaming call."""
        async for message in channels.invoke_stream(method, request, timeout_s=timeout_s):
            yield message

    async def send(
        self,
        method: "grpc.aio.StreamUnaryMultiCallable[Request, Response]",
        requests: AsyncIterable[Request],
        *,
        timeout_s: float,
    ) -> Response:
        """The answer of a client-streaming call."""
        return await channels.invoke_upload(method, requests, timeout_s=timeout_s)

    async def health(self) -> dict[str, Health]:
        """What each service says within 0.6 s, by name."""
        states = await asyncio.gather(*(_health_of(service) for service in self._services))
        return {service.name: state for service, state in zip(self._services, states, strict=True)}

    async def _check_alive(self) -> None:
        for name, state in (await self.health()).items():
            if state is Health.UNREACHABLE:
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
