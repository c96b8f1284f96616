"""Structured logs and Prometheus metrics. Neither ever holds a query, a caption, an image or a key."""

import logging
import sys
import time
from collections.abc import MutableMapping, Sequence
from contextlib import suppress
from typing import Any, TextIO, cast

import structlog
from prometheus_client import Counter, Gauge, Histogram, start_http_server

from mirage_core import context, tracing

# From half a millisecond (a cached text) to half a minute (a large image on a slow machine).
_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


def _add_request(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    if request_id := context.request_id.get():
        event.setdefault("request_id", request_id)
    if trace_id := tracing.current().trace_id:
        event.setdefault("trace_id", trace_id)
    return event


class _Stderr:
    """Standard error. Lines that cannot be written, because the disk is full or the reader has ended, are lost.

    The work continues.
    """

    def write(self, text: str) -> int:
        with suppress(OSError):
            return sys.stderr.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            sys.stderr.flush()


def configure_logging(service: str, *, level: str = "INFO", form: str = "json") -> None:
    """Sends every log line of this process to standard error, as JSON or for a terminal, with service, request and
    trace id.
    """
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _add_request,
    ]
    renderer: Any = structlog.processors.JSONRenderer() if form == "json" else structlog.dev.ConsoleRenderer()
    structlog.configure(
        processors=[*shared, structlog.processors.format_exc_info, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level]),
        logger_factory=structlog.PrintLoggerFactory(cast(TextIO, _Stderr())),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(service=service)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                renderer,
            ],
        )
    )
    logging.getLogger("grpc._cython.cygrpc").addFilter(_LibraryErrors())
    logging.basicConfig(
        handlers=[handler], level=max(logging.getLevelNamesMapping()[level], logging.WARNING), force=True
    )


def get_logger() -> structlog.typing.FilteringBoundLogger:
    """The logger: `log.info("event", key=value)`."""
    return cast("structlog.typing.FilteringBoundLogger", structlog.get_logger())


class Sampled:
    """Writes at most ten lines a second for what anybody can cause by the thousand, and counts the others.

    Their number is in a line of its own, `<subject> lines left out`, as soon as one is written again.
    """

    def __init__(self, subject: str, *, per_second: int = 10) -> None:
        self._subject = subject
        self._per_second = per_second
        self._second = 0.0
        self._written = 0
        self._left_out = 0

    def info(self, event: str, **fields: object) -> None:
        """Writes or counts one line."""
        now = time.monotonic()
        if now - self._second >= 1.0:
            if self._left_out:
                get_logger().info(f"{self._subject} lines left out", count=self._left_out)
            self._second, self._written, self._left_out = now, 0, 0
        if self._written < self._per_second:
            self._written += 1
            get_logger().info(event, **fields)
        else:
            self._left_out += 1


class _LibraryErrors(logging.Filter):
    """Takes the traceback and the text of an exception out of what gRPC logs about a call: both can hold what a
    caller sent.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Replaces the text by a fixed phrase."""
        if record.exc_info or record.levelno >= logging.ERROR:
            record.msg, record.args, record.exc_info, record.exc_text = "gRPC could not serve a call", (), None, None
        return True


def counter(name: str, doc: str, labels: Sequence[str] = ()) -> Counter:
    """A counter named mirage_<name>."""
    return Counter(f"mirage_{name}", doc, labels)


def gauge(name: str, doc: str, labels: Sequence[str] = ()) -> Gauge:
    """A gauge named mirage_<name>."""
    return Gauge(f"mirage_{name}", doc, labels)


def histogram(name: str, doc: str, labels: Sequence[str] = (), *, buckets: Sequence[float] = _BUCKETS) -> Histogram:
    """A histogram named mirage_<name>; buckets in seconds unless given."""
    return Histogram(f"mirage_{name}", doc, labels, buckets=buckets)


def serve_metrics(host: str, port: int) -> None:
    """Serves /metrics in a thread of its own."""
    start_http_server(port, addr=host)
