"""Catalogue errors over gRPC: a google.rpc.Status with ErrorInfo (and RetryInfo) in the trailing metadata, and back."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2

from mirage_core.errors import Code, MirageError
from mirage_protos.v1.problem_pb2 import Problem

DOMAIN = "mirage"
_STATUS_KEY = "grpc-status-details-bin"
_BY_NUMBER: dict[int, grpc.StatusCode] = {code.value[0]: code for code in grpc.StatusCode}


def grpc_status(error: MirageError) -> grpc.StatusCode:
    """The gRPC status code that the catalogue gives the error."""
    return _BY_NUMBER[error.entry.status.value]


def to_trailers(error: MirageError) -> tuple[tuple[str, bytes], ...]:
    """The trailing metadata that carries the error's details."""
    details = [_pack(error_details_pb2.ErrorInfo(reason=error.code, domain=DOMAIN, metadata=error.metadata))]
    if error.retry_after_s is not None:
        delay = Duration()
        delay.FromTimedelta(timedelta(seconds=error.retry_after_s))
        details.append(_pack(error_details_pb2.RetryInfo(retry_delay=delay)))
    status = status_pb2.Status(code=error.entry.status.value, message=error.message, details=details)
    return ((_STATUS_KEY, status.SerializeToString()),)


def from_rpc_error(error: grpc.RpcError, *, service: str) -> MirageError:
    """The catalogue error behind a failed call; one without details becomes the nearest code, named after `service`."""
    if not isinstance(error, grpc.aio.AioRpcError):
        return MirageError(Code.INTERNAL)
    for key, value in error.trailing_metadata() or ():
        if key == _STATUS_KEY and isinstance(value, bytes):
            found = _from_status(value)
            if found is not None:
                return found
    match error.code():
        # CANCELLED without details is the other side's: a server that stops resets what no handler has taken.
        case grpc.StatusCode.UNAVAILABLE | grpc.StatusCode.CANCELLED:
            return MirageError(Code.DEPENDENCY_UNAVAILABLE, retry_after_s=1.0, service=service)
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            return MirageError(Code.DEADLINE_EXCEEDED, service=service)
        case grpc.StatusCode.RESOURCE_EXHAUSTED:
            return MirageError(Code.REQUEST_TOO_LARGE)
    return MirageError(Code.INTERNAL)


def problem_to_proto(error: MirageError) -> Problem:
    """The error about one item of a request, as a message."""
    return Problem(code=error.code, message=error.message, metadata=error.metadata)


def problem_from_proto(problem: Problem) -> MirageError:
    """The error behind a Problem message; an unknown code becomes INTERNAL."""
    code = Code(problem.code) if problem.code in Code.__members__ else Code.INTERNAL
    return MirageError(code, **_public(problem.metadata))


def _pack(message: error_details_pb2.ErrorInfo | error_details_pb2.RetryInfo) -> AnyMessage:
    packed = AnyMessage()
    packed.Pack(message)
    return packed


def _from_status(value: bytes) -> MirageError | None:
    status = status_pb2.Status.FromString(value)
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    code: Code | None = None
    retry_after_s: float | None = None
    for detail in status.details:
        if detail.Unpack(info) and info.domain == DOMAIN and info.reason in Code.__members__:
            code = Code(info.reason)
        elif detail.Unpack(retry):
            retry_after_s = retry.retry_delay.ToTimedelta().total_seconds()
    return MirageError(code, retry_after_s=retry_after_s, **_public(info.metadata)) if code else None


def _public(metadata: Mapping[str, str]) -> dict[str, Any]:
    # A name that MirageError uses itself cannot be a metadata key, whatever a peer sends.
    return {key: value for key, value in metadata.items() if key != "retry_after_s"}
