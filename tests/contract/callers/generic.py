"""A client of MirageService made of descriptors alone, wherever they come from."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import grpc
from google.protobuf import descriptor_pool, json_format, message_factory
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc

SERVICE = "mirage.v1.MirageService"
TIMEOUT_S = 60


class GenericCaller:
    """Calls the methods that the pool's descriptors name."""

    def __init__(self, channel: grpc.Channel, pool: descriptor_pool.DescriptorPool) -> None:
        self._channel = channel
        self._service = pool.FindServiceByName(SERVICE)

    def call(self, method: str, request: dict[str, Any]) -> dict[str, Any]:
        message, invoke = self._prepare(method, self._channel.unary_unary)
        return to_dict(invoke(json_format.ParseDict(request, message()), timeout=TIMEOUT_S))

    def stream(self, method: str, request: dict[str, Any]) -> Iterator[dict[str, Any]]:
        message, invoke = self._prepare(method, self._channel.unary_stream)
        yield from map(to_dict, invoke(json_format.ParseDict(request, message()), timeout=TIMEOUT_S))

    def upload(self, method: str, requests: Iterable[dict[str, Any]]) -> dict[str, Any]:
        message, invoke = self._prepare(method, self._channel.stream_unary)
        return to_dict(invoke((json_format.ParseDict(one, message()) for one in requests), timeout=TIMEOUT_S))

    def healthy(self) -> bool:
        stub: Any = health_pb2_grpc.HealthStub(self._channel)
        reply = stub.Check(health_pb2.HealthCheckRequest(service=SERVICE), timeout=TIMEOUT_S)
        return bool(reply.status == health_pb2.HealthCheckResponse.SERVING)

    def refusal(self, method: str, request: dict[str, Any]) -> str:
        return reason_of(lambda: self.call(method, request))

    def _prepare(self, name: str, kind: Callable[..., Any]) -> tuple[type[Message], Any]:
        method = self._service.FindMethodByName(name)
        request = message_factory.GetMessageClass(method.input_type)
        reply = message_factory.GetMessageClass(method.output_type)
        path = f"/{SERVICE}/{name}"
        return request, kind(path, request_serializer=request.SerializeToString, response_deserializer=reply.FromString)


def to_dict(message: Message) -> dict[str, Any]:
    """A message as protobuf's JSON."""
    return json_format.MessageToDict(message)


def reason_of(call: Callable[[], object]) -> str:
    """The ErrorInfo.reason with which a call fails."""
    try:
        call()
    except grpc.RpcError as error:
        trailers: Any = error.trailing_metadata()
        for key, value in trailers:
            if key == "grpc-status-details-bin":
                info = error_details_pb2.ErrorInfo()
                for detail in status_pb2.Status.FromString(value).details:
                    if detail.Unpack(info):
                        return str(info.reason)
        return f"no ErrorInfo: {error.code()}"
    return "no error"
