"""Calls to other services: channels with a service config, deadlines on every call, catalogue errors coming back."""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias, TypeVar

import grpc

from mirage_core import context, limits, tracing
from mirage_core.errors import Code, MirageError
from mirage_core.rpc_errors import from_rpc_error
from mirage_core.tracing import Kind, Span

Request = TypeVar("Request")
Response = TypeVar("Response")


def service_config(idempotent: Mapping[str, Sequence[str]]) -> str:
    """The gRPC service config: round robin over the addresses, up to 3 tries for the methods named.

    `idempotent` maps a full service name to its methods that may be tried again: on UNAVAILABLE, and on CANCELLED,
    which is what gRPC makes of a call that reached a server as it began to stop and that no handler had taken yet. A
    call that this side cancels is over and not tried again.
    """
    names = [{"service": service, "method": method} for service, methods in idempotent.items() for method in methods]
    retry = {
        "maxAttempts": 3,
        "initialBackoff": "0.05s",
        "maxBackoff": "0.5s",
        "backoffMultiplier": 2,
        "retryableStatusCodes": ["UNAVAILABLE", "CANCELLED"],
    }
    return json.dumps(
        {
            "loadBalancingConfig": [{"round_robin": {}}],
            "methodConfig": [{"name": names, "retryPolicy": retry}] if names else [],
        }
    )


def open_channel(address: str, *, idempotent: Mapping[str, Sequence[str]]) -> grpc.aio.Channel:
    """A channel to `host:port`, `unix:path` or `dns:///name:port`.

    It connects by itself, also again after a failure.
    """
    return grpc.aio.insecure_channel(
        address,
        options=[
            ("grpc.service_config", service_config(idempotent)),
            ("grpc.enable_retries", 1),
            ("grpc.max_receive_message_length", limits.MESSAGE_BYTES),
            ("grpc.max_send_message_length", limits.MESSAGE_BYTES),
            # A peer that vanished without a word is noticed within this, and looked for again soon after.
            ("grpc.keepalive_time_ms", 20_000),
            ("grpc.keepalive_timeout_ms", 5_000),
            # An attempt to connect is given this long, for a busy server to answer it; after a refusal the next one comes
            # within a second.
            ("grpc.min_reconnect_backoff_ms", 3_000),
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 1_000),
            # A restarted container has another address: its name is resolved again after this time, not after 30 s.
            ("grpc.dns_min_time_between_resolutions_ms", 1_000),
            ("grpc.optimization_target", "latency"),
            # Its own connection: one of an earlier channel to this address may still wait after a failure.
            ("grpc.use_local_subchannel_pool", 1),
            # Of a stream that its reader does not read, this much is taken ahead. gRPC would widen it by what the line can
            # carry, to megabytes for each of a hundred slow downloads.
            ("grpc.http2.bdp_probe", 0),
            ("grpc.http2.lookahead_bytes", 2**17),
            # An environment's HTTP proxy is for the outside; services are never behind it.
            ("grpc.enable_http_proxy", 0),
        ],
    )


# Further metadata of a call: names and printable ASCII values.
Metadata: TypeAlias = Sequence[tuple[str, str]]

_service_key = ""


def set_service_key(key: str) -> None:
    """Sets the API key that every call of this process carries from now on; empty for none."""
    global _service_key  # one identity a process, set once at its start
    _service_key = key


def _metadata(span: Span, more: Metadata = ()) -> tuple[tuple[str, str], ...]:
    pairs = list(more)
    if span.traceparent:
        pairs.append((tracing.HEADER, span.traceparent))
    if request_id := context.request_id.get():
        pairs.append(("x-request-id", request_id))
    if _service_key:
        pairs.append(("authorization", f"Bearer {_service_key}"))
    return tuple(pairs)


def _path_of(method: Any) -> str:
    # grpc.aio's multi-callables keep the path that they call, such as mirage.encoder.v1.EncoderService/EncodeText.
    path = getattr(method, "_method", b"")
    return (path.decode() if isinstance(path, bytes) else str(path)).strip("/")


def _service_of(method: Any) -> str:
    # For the error text.
    return _path_of(method).partition("/")[0].rpartition(".")[2].removesuffix("Service").lower() or "service"


@contextmanager
def _called(method: Any) -> Iterator[Span]:
    """The span of a call, and its errors as the catalogue's. It is not the current span: the reader of a stream
    works in between.
    """
    span = tracing.open_span(_path_of(method), Kind.CLIENT)
    span.set(**{"rpc.system": "grpc"})
    try:
        yield span
    except grpc.RpcError as error:
        coded = from_rpc_error(error, service=_service_of(method))
        span.fail(coded)
        raise coded from error
    finally:
        span.end()


async def invoke(
    method: "grpc.aio.UnaryUnaryMultiCallable[Request, Response]",
    request: Request,
    *,
    timeout_s: float,
    metadata: Metadata = (),
) -> Response:
    """Calls a unary method within `timeout_s` or what the caller's own deadline leaves; raises MirageError."""
    with _called(method) as span:
        return await method(request, timeout=context.remaining_s(timeout_s), metadata=_metadata(span, metadata))


async def invoke_stream(
    method: "grpc.aio.UnaryStreamMultiCallable[Request, Response]",
    request: Request,
    *,
    timeout_s: float,
    metadata: Metadata = (),
) -> AsyncGenerator[Response]:
    """Yields the messages of a server-streaming call, all of them within the deadline; raises MirageError."""
    with _called(method) as span:
        call = method(request, timeout=context.remaining_s(timeout_s), metadata=_metadata(span, metadata))
        try:
            async for message in call:
                yield message
        finally:
            call.cancel()


async def invoke_upload(
    method: "grpc.aio.StreamUnaryMultiCallable[Request, Response]",
    requests: AsyncIterable[Request],
    *,
    timeout_s: float,
) -> Response:
    """Sends the messages of a client-streaming call and awaits its answer; raises MirageError.

    If `requests` raises, the call is cancelled: CancelledError.
    """
    unread: list[Exception] = []

    async def messages() -> AsyncIterator[Request]:
        try:
            async for request in requests:
                yield request
        except Exception as error:
            unread.append(error)
            raise

    with _called(method) as span:
        try:
            return await method(messages(), timeout=context.remaining_s(timeout_s), metadata=_metadata(span))
        except asyncio.CancelledError as error:
            # grpc.aio also raises it if the server dies while a message is sent, and nothing was cancelled then.
            task = asyncio.current_task()
            if unread or task is None or task.cancelling():
                raise
            service = _service_of(method)
            raise MirageError(Code.DEPENDENCY_UNAVAILABLE, retry_after_s=1.0, service=service) from error


async def invoke_exchange(
    method: "grpc.aio.StreamStreamMultiCallable[Request, Response]",
    requests: AsyncIterable[Request],
    *,
    timeout_s: float,
) -> AsyncIterator[Response]:
    """Sends the messages of a bidirectional call and yields its answers as they come; raises MirageError."""
    with _called(method) as span:
        call = method(requests.__aiter__(), timeout=context.remaining_s(timeout_s), metadata=_metadata(span))
        try:
            async for message in call:
                yield message
        finally:
            call.cancel()
