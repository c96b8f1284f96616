"""Calls to other services: channels with a service config, deadlines on every call, catalogue errors coming back."""

import json
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Mapping, Sequence
from typing import Any, TypeAlias, TypeVar

import grpc

from mirage_core import context, limits
from mirage_core.rpc_errors import from_rpc_error

Request = TypeVar("Request")
Response = TypeVar("Response")


def service_config(idempotent: Mapping[str, Sequence[str]]) -> str:
    """The gRPC service config: round robin over the addresses, up to 3 tries on UNAVAILABLE for the methods named.

    `idempotent` maps a full service name to its methods that may be tried again.
    """
    names = [{"service": service, "method": method} for service, methods in idempotent.items() for method in methods]
    retry = {
        "maxAttempts": 3,
        "initialBackoff": "0.05s",
        "maxBackoff": "0.5s",
        "backoffMultiplier": 2,
        "retryableStatusCodes": ["UNAVAILABLE"],
    }
    return json.dumps(
        {
            "loadBalancingConfig": [{"round_robin": {}}],
            "methodConfig": [{"name": names, "retryPolicy": retry}] if names else [],
        }
    )


def open_channel(address: str, *, idempotent: Mapping[str, Sequence[str]]) -> grpc.aio.Channel:
    """A channel to `host:port`, `unix:path` or `dns:///name:port`; it connects by itself, also again after a failure."""
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
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.min_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 1_000),
            # A container that was started anew has another address: its name is asked for again this soon, not after 30 s.
            ("grpc.dns_min_time_between_resolutions_ms", 1_000),
            ("grpc.optimization_target", "latency"),
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


def _metadata(more: Metadata = ()) -> tuple[tuple[str, str], ...]:
    pairs = list(more)
    if request_id := context.request_id.get():
        pairs.append(("x-request-id", request_id))
    if _service_key:
        pairs.append(("authorization", f"Bearer {_service_key}"))
    return tuple(pairs)


def _service_of(method: Any) -> str:
    # grpc.aio's multi-callables keep the path they call; it names the service for the error text.
    path = getattr(method, "_method", b"")
    text = path.decode() if isinstance(path, bytes) else str(path)
    return text.strip("/").partition("/")[0].rpartition(".")[2].removesuffix("Service").lower() or "service"


async def invoke(
    method: "grpc.aio.UnaryUnaryMultiCallable[Request, Response]",
    request: Request,
    *,
    timeout_s: float,
    metadata: Metadata = (),
) -> Response:
    """Calls a unary method within `timeout_s` or what the caller's own deadline leaves; raises MirageError."""
    try:
        return await method(request, timeout=context.remaining_s(timeout_s), metadata=_metadata(metadata))
    except grpc.RpcError as error:
        raise from_rpc_error(error, service=_service_of(method)) from error


async def invoke_stream(
    method: "grpc.aio.UnaryStreamMultiCallable[Request, Response]",
    request: Request,
    *,
    timeout_s: float,
    metadata: Metadata = (),
) -> AsyncGenerator[Response]:
    """Yields the messages of a server-streaming call, all of them within the deadline; raises MirageError."""
    call = method(request, timeout=context.remaining_s(timeout_s), metadata=_metadata(metadata))
    try:
        async for message in call:
            yield message
    except grpc.RpcError as error:
        raise from_rpc_error(error, service=_service_of(method)) from error
    finally:
        call.cancel()


async def invoke_upload(
    method: "grpc.aio.StreamUnaryMultiCallable[Request, Response]",
    requests: AsyncIterable[Request],
    *,
    timeout_s: float,
) -> Response:
    """Sends the messages of a client-streaming call and awaits its answer; raises MirageError."""
    try:
        return await method(requests.__aiter__(), timeout=context.remaining_s(timeout_s), metadata=_metadata())
    except grpc.RpcError as error:
        raise from_rpc_error(error, service=_service_of(method)) from error


async def invoke_exchange(
    method: "grpc.aio.StreamStreamMultiCallable[Request, Response]",
    requests: AsyncIterable[Request],
    *,
    timeout_s: float,
) -> AsyncIterator[Response]:
    """Sends the messages of a bidirectional call and yields its answers as they come; raises MirageError."""
    call = method(requests.__aiter__(), timeout=context.remaining_s(timeout_s), metadata=_metadata())
    try:
        async for message in call:
            yield message
    except grpc.RpcError as error:
        raise from_rpc_error(error, service=_service_of(method)) from error
    finally:
        call.cancel()
