"""Waits for what another process or task does. There is no sleep of a fixed length in a test: it waits for a condition."""

import asyncio
import inspect
import subprocess
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, overload

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

# Long enough for a busy machine: a test that passes never waits so long.
PATIENCE_S = 120.0
_LOOK_S = 0.01

Found = TypeVar("Found")


def until(condition: Callable[[], Found | None], *, within_s: float = PATIENCE_S) -> Found:
    """Returns the condition's value once it is true; raises TimeoutError."""
    deadline = time.monotonic() + within_s
    while not (found := condition()):
        if time.monotonic() >= deadline:
            raise TimeoutError(_source(condition))
        time.sleep(_LOOK_S)
    return found


@overload
async def until_async(
    condition: Callable[[], Awaitable[Found | None]], *, within_s: float = PATIENCE_S, look_s: float = _LOOK_S
) -> Found: ...
@overload
async def until_async(
    condition: Callable[[], Found | None], *, within_s: float = PATIENCE_S, look_s: float = _LOOK_S
) -> Found: ...
async def until_async(condition: Callable[[], Any], *, within_s: float = PATIENCE_S, look_s: float = _LOOK_S) -> Any:
    """Returns the condition's value, awaited if need be, once it is true; raises TimeoutError."""
    deadline = time.monotonic() + within_s
    while True:
        given = condition()
        found = await given if inspect.isawaitable(given) else given
        if found:
            return found
        if time.monotonic() >= deadline:
            raise TimeoutError(_source(condition))
        await asyncio.sleep(look_s)


def wait_until_serving(
    address: str, process: "subprocess.Popen[bytes]", *, service: str = "", within_s: float = PATIENCE_S
) -> None:
    """Returns when grpc.health.v1 says SERVING; raises AssertionError if the process ends before, and TimeoutError."""
    request = health_pb2.HealthCheckRequest(service=service)
    deadline = time.monotonic() + within_s
    with grpc.insecure_channel(address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        while time.monotonic() < deadline:
            assert process.poll() is None, "the service ended"
            try:
                for reply in stub.Watch(request, timeout=5, wait_for_ready=True):
                    if reply.status == health_pb2.HealthCheckResponse.SERVING:
                        return
            except grpc.RpcError:
                continue
    raise TimeoutError(address)


def _source(condition: Callable[[], object]) -> str:
    try:
        return inspect.getsource(condition).strip()
    except (OSError, TypeError):
        return repr(condition)
