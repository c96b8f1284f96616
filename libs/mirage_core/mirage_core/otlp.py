"""Spans by OpenTelemetry's SDK, sent to an OTLP endpoint. Only `tracing` imports it, if traces are switched on.

A thread with a bounded queue sends them: if the endpoint is slow or down, spans are lost, and the work continues. The
SDK's own variables hold (OTEL_TRACES_SAMPLER, OTEL_BSP_*, OTEL_RESOURCE_ATTRIBUTES, OTEL_EXPORTER_OTLP_HEADERS and so
on).
"""

import logging
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from mirage_core import telemetry, tracing
from mirage_core.errors import Code
from mirage_core.tracing import Kind, Span, Value

# Seconds that sending may add to the end of a process.
_STOP_S = 2.0
# No attribute of ours is longer; one that were by mistake would not carry a text away.
_ATTRIBUTE_CHARS = 128

_log = telemetry.get_logger()
_spans = telemetry.counter(
    "trace_spans", "Spans sent to the endpoint, or lost because it did not take them.", ("outcome",)
)
_propagator = TraceContextTextMapPropagator()


class OtlpRecorder:
    """See `tracing.Recorder`."""

    def __init__(self, service: str, endpoint: str) -> None:
        # It logs each failed try with texts of its own; `_Exporter` logs what an operator needs.
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
        self._exporter = _Exporter(endpoint)
        self._provider = TracerProvider(
            resource=Resource.create({"service.name": f"mirage-{service}", "service.version": version("mirage-core")}),
            span_limits=SpanLimits(max_span_attribute_length=_ATTRIBUTE_CHARS),
            shutdown_on_exit=False,
        )
        self._provider.add_span_processor(BatchSpanProcessor(self._exporter))
        # Not set as the process's provider: libraries that look for one would put into spans what they like.
        self._tracer = self._provider.get_tracer("mirage")
        _log.info("traces are sent", endpoint=endpoint)

    def open(self, name: str, kind: Kind, parent: str | None, *, ago_s: float) -> Span:
        """See `tracing.Recorder`."""
        if parent is not None:
            context = _propagator.extract({tracing.HEADER: parent}, otel_context.Context())
        elif trace.get_current_span().get_span_context().is_valid:
            context = otel_context.get_current()
        else:
            return tracing.OFF
        made = self._tracer.start_span(
            name, context, trace.SpanKind[kind.value], start_time=time.time_ns() - round(ago_s * 1e9)
        )
        return OtlpSpan(made)

    def current(self) -> Span:
        """See `tracing.Recorder`."""
        found = trace.get_current_span()
        return OtlpSpan(found) if found.get_span_context().is_valid else tracing.OFF

    def close(self) -> None:
        """See `tracing.Recorder`."""
        cut = threading.Timer(_STOP_S, self._exporter.cut)
        cut.daemon = True
        cut.start()
        self._provider.shutdown()
        cut.cancel()


class OtlpSpan(Span):
    """A span of the SDK."""

    def __init__(self, made: trace.Span) -> None:
        self._made = made

    @property
    def traceparent(self) -> str:
        """See `tracing.Span`."""
        carrier: dict[str, str] = {}
        _propagator.inject(carrier, trace.set_span_in_context(self._made))
        return carrier.get(tracing.HEADER, "")

    @property
    def trace_id(self) -> str:
        """See `tracing.Span`."""
        context = self._made.get_span_context()
        return trace.format_trace_id(context.trace_id) if context.trace_flags.sampled else ""

    def rename(self, name: str) -> None:
        """See `tracing.Span`."""
        self._made.update_name(name)

    def set(self, **attributes: Value) -> None:
        """See `tracing.Span`."""
        for name, value in attributes.items():
            self._made.set_attribute(name if "." in name else f"mirage.{name}", value)

    def fail(self, error: BaseException | str) -> None:
        """See `tracing.Span`."""
        code = tracing.told_of(error)
        self._made.set_attribute("error.type", code)
        if code != Code.CANCELLED:
            # Without a description: that would be a text.
            self._made.set_status(trace.StatusCode.ERROR)

    def enter(self) -> None:
        """See `tracing.Span`."""
        otel_context.attach(trace.set_span_in_context(self._made))

    @contextmanager
    def entered(self) -> Iterator[None]:
        """See `tracing.Span`."""
        token = otel_context.attach(trace.set_span_in_context(self._made))
        try:
            yield
        finally:
            otel_context.detach(token)

    def end(self) -> None:
        """See `tracing.Span`."""
        if self._made.is_recording():
            self._made.end()


class _Exporter(SpanExporter):
    """OTLP over gRPC. Says once when spans begin to be lost, and once when they come through again."""

    def __init__(self, endpoint: str) -> None:
        # An environment's HTTP proxy is for the outside, and a collector is one's own. (The SDK's type knows texts
        # alone.)
        options: Any = (("grpc.enable_http_proxy", 0),)
        self._inner = OTLPSpanExporter(endpoint=endpoint, channel_options=options)
        self._losing = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = self._inner.export(spans)
        losing = result is not SpanExportResult.SUCCESS
        _spans.labels("lost" if losing else "sent").inc(len(spans))
        if losing is not self._losing:
            self._losing = losing
            if losing:
                _log.warning("spans are lost: the endpoint for traces does not take them")
            else:
                _log.info("spans are sent again")
        return result

    def shutdown(self) -> None:
        self._inner.shutdown()

    def cut(self) -> None:
        """Ends what is being sent: its call, or the wait before it is tried again."""
        self._inner.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return True
