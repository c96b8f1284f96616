"""`protos_only.py ADDRESS IMAGE STUBS`: a client with the stubs that another team generated from the protos into STUBS."""

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, sys.argv[3])

import grpc
from generic import TIMEOUT_S, reason_of, to_dict
from google.protobuf import json_format
from grpc_health.v1 import health_pb2, health_pb2_grpc
from walk import walk

from mirage.v1 import mirage_service_pb2, mirage_service_pb2_grpc  # type: ignore[attr-defined, import-not-found, unused-ignore]  # generated into STUBS

if not Path(mirage_service_pb2.__file__).is_relative_to(sys.argv[3]):
    raise SystemExit("this client must not know the repository's stubs")


class StubCaller:
    """Calls through the generated stub."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._stub = mirage_service_pb2_grpc.MirageServiceStub(channel)
        self._health: Any = health_pb2_grpc.HealthStub(channel)

    def call(self, method: str, request: dict[str, Any]) -> dict[str, Any]:
        return to_dict(getattr(self._stub, method)(message(method, request), timeout=TIMEOUT_S))

    def stream(self, method: str, request: dict[str, Any]) -> Iterator[dict[str, Any]]:
        yield from map(to_dict, getattr(self._stub, method)(message(method, request), timeout=TIMEOUT_S))

    def upload(self, method: str, requests: Iterable[dict[str, Any]]) -> dict[str, Any]:
        messages = (message(method, request) for request in requests)
        return to_dict(getattr(self._stub, method)(messages, timeout=TIMEOUT_S))

    def healthy(self) -> bool:
        reply = self._health.Check(health_pb2.HealthCheckRequest(service="mirage.v1.MirageService"), timeout=TIMEOUT_S)
        return bool(reply.status == health_pb2.HealthCheckResponse.SERVING)

    def refusal(self, method: str, request: dict[str, Any]) -> str:
        return reason_of(lambda: self.call(method, request))


def message(method: str, request: dict[str, Any]) -> Any:
    """The method's request message, from protobuf's JSON."""
    return json_format.ParseDict(request, getattr(mirage_service_pb2, f"{method}Request")())


with grpc.insecure_channel(sys.argv[1]) as channel:
    walk(StubCaller(channel), sys.argv[2])
