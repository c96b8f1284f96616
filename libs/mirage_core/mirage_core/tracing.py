"""Traces: the times of a request in each of its processes. They are off, and nothing is loaded for them, unless an
endpoint is given.

A span's name and attributes have operations and counts, never contents: no query, caption, prompt, image or key.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from enum import Enum
from typing import Protocol, TypeAlias

from mirage_core.errors import MirageError

Value: TypeAlias = str | bool | int | float
# Name of the HTTP header and of the gRPC metadata (W3C Trace Context).
HEADER = "traceparent"


class Kind(Enum):
    """The end of a call or of a queue that a span describes."""

    INTERNAL = "INTERNAL"
    SERVER = "SERVER"
    CLIENT = "CLIENT"
    PRODUCER = "PRODUCER"
    CONSUMER = "CONSUMER"


class Span:
    """A stretch of work. This one is not recorded; a recorder's are."""

    @property
    def traceparent(self) -> str:
        """The name of this span as a parent in another process; empty if nothing is recorded."""
        return ""

    @property
    def trace_id(self) -> str:
        """The trace's 32 hex digits; empty if nothing is recorded, or if a sampler left it out."""
        return ""

    def rename(self, name: str) -> None:
        """Gives it the name that was not known at its start."""

    def set(self, **attributes: Value) -> None:
        """Adds attributes; a name without a dot is one of ours and gets `mirage.` before it."""

    def fail(self, error: BaseException | str) -> None:
        """Marks it as failed: with an error's code in the catalogue or the name of its class, never with its text."""

    def enter(self) -> None:
        """Makes it the current span of this task, for a task that ends with the request."""

    def entered(self) -> AbstractContextManager[None]:
        """Makes it the current span within the block."""
        return nullcontext()

    def end(self) -> None:
        """Ends it now; a second time does nothing."""


class Recorder(Protocol):
    """Makes spans that are kept."""

    def open(self, name: str, kind: Kind, parent: str | None, *, ago_s: float) -> Span:
        """A span that began `ago_s` seconds ago; `parent` as in `open_span`."""
        ...

    def current(self) -> Span:
        """The span that the current task is in; one that is not recorded outside of any."""
        ...

    def close(self) -> None:
        """Sends what is kept, for a few seconds at most."""
        ...


OFF = Span()
_recorder: Recorder | None = None


def start(service: str, endpoint: str) -> None:
    """Starts to record spans as `service` and to send them to an OTLP endpoint by gRPC.

    Does nothing if that is empty.
    """
    global _recorder  # one a process, set once at its start
    if endpoint and _recorder is None:
        # Imported here: without traces it is not loaded.
        from mirage_core.otlp import OtlpRecorder

        _recorder = OtlpRecorder(service, endpoint)


def stop() -> None:
    """Sends what is kept, for a few seconds at most; records no more."""
    global _recorder
    recorder, _recorder = _recorder, None
    if recorder is not None:
        recorder.close()


def current() -> Span:
    """The span that the current task is in."""
    return OFF if _recorder is None else _recorder.current()


def open_span(name: str, kind: Kind = Kind.INTERNAL, *, parent: str | None = None) -> Span:
    """Opens a span that the caller ends, for work in several tasks or across a generator's `yield`.

    `parent` is another process's traceparent, or "" if it did not send one and a trace begins here. With None it
    belongs to the current span; without one, nothing is recorded.
    """
    return OFF if _recorder is None else _recorder.open(name, kind, parent, ago_s=0.0)


@contextmanager
def span(name: str, kind: Kind = Kind.INTERNAL, *, parent: str | None = None, **attributes: Value) -> Iterator[Span]:
    """A span around a block, which must not `yield` to its caller's code. An exception marks it as failed."""
    made = open_span(name, kind, parent=parent)
    made.set(**attributes)
    with made.entered():
        try:
            yield made
        except Exception as error:
            made.fail(error)
            raise
        finally:
            made.end()


def past(name: str, seconds: float, **attributes: Value) -> None:
    """A span of the last `seconds`, for what is known only when it is over."""
    if _recorder is not None:
        made = _recorder.open(name, Kind.INTERNAL, None, ago_s=seconds)
        made.set(**attributes)
        made.end()


def told_of(error: BaseException | str) -> str:
    """The public part of a failure."""
    if isinstance(error, MirageError):
        return str(error.code)
    return error if isinstance(error, str) else type(error).__name__
