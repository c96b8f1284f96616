"""A collector of spans for tests: the OTLP service over real gRPC, which keeps what it is sent."""

import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc


@dataclass(frozen=True)
class Seen:
    """A span as it was sent. Times in nanoseconds since 1970."""

    service: str
    name: str
    trace: str
    id: str
    parent: str
    kind: int
    start: int
    end: int
    failed: bool
    attributes: dict[str, Any]


@dataclass
class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """`sent` is everything that came, as bytes: to look for what must not be in it."""

    port: int = 0
    spans: list[Seen] = field(default_factory=list)
    sent: bytes = b""
    # How many requests came, and what a test wants to happen to each: raise, wait.
    calls: int = 0
    on_call: Callable[[grpc.ServicerContext], object] | None = None

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def Export(self, request: Any, context: grpc.ServicerContext) -> Any:
        self.calls += 1
        if self.on_call is not None:
            self.on_call(context)
        self.sent += request.SerializeToString()
        self.spans += list(_read(request))
        return trace_service_pb2.ExportTraceServiceResponse()

    def trace_with(self, names: Iterable[str], *, within_s: float = 60.0, attribute: tuple[str, str]) -> list[Seen]:
        """The spans of the trace that has an attribute of that value, once all of these names are among them."""
        give_up = time.monotonic() + within_s
        wanted = set(names)
        while True:
            key, value = attribute
            traces = {span.trace for span in list(self.spans) if span.attributes.get(key) == value}
            found = [span for span in list(self.spans) if span.trace in traces]
            missing = wanted - {span.name for span in found}
            if not missing:
                assert len(traces) == 1, f"{len(traces)} traces"
                return found
            assert time.monotonic() < give_up, f"no span {sorted(missing)} among {sorted({s.name for s in found})}"
            time.sleep(0.02)


def _read(request: Any) -> Iterator[Seen]:
    for of_resource in request.resource_spans:
        resource = {each.key: each.value.string_value for each in of_resource.resource.attributes}
        for scope in of_resource.scope_spans:
            for span in scope.spans:
                yield Seen(
                    resource["service.name"],
                    span.name,
                    span.trace_id.hex(),
                    span.span_id.hex(),
                    span.parent_span_id.hex(),
                    span.kind,
                    span.start_time_unix_nano,
                    span.end_time_unix_nano,
                    span.status.code == 2,
                    {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in span.attributes},
                )


@contextmanager
def collector(port: int = 0) -> Iterator[Collector]:
    """One that listens on loopback."""
    made = Collector()
    with ThreadPoolExecutor(4) as pool:
        server = grpc.server(pool)
        trace_service_pb2_grpc.add_TraceServiceServicer_to_server(made, server)
        made.port = server.add_insecure_port(f"127.0.0.1:{port}")
        server.start()
        try:
            yield made
        finally:
            server.stop(0).wait()
