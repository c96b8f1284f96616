"""Traces: what a request took in each process that it went through. Off, and nothing loaded for it, unless an endpoint is given.

A span's name and attributes tell what was done and how much of it, never what was in it: no query, caption, prompt, image or key.
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
    """Which end of a call or of a queue a span is."""

    INTERNAL = "INTERNAL"
    SERVER = "SERVER"
    CLIENT = "CLIENT"
    PRODUCER = "PRODUCER"
    CONSUMER = "CONSUMER"


class Span:
    """A stretch of work. This one is not recorded; a recorder's are."""

    @property
    def traceparent(self) -> str:
        """How another process names this span as the parent of its own; empty where nothing is recorded."""
        return ""

    @property
    def trace_id(self) -> str:
        """The trace's 32 hex digits; empty where nothing is recorded, or a sampler left it out."""
        return ""

    def rename(self, name: str) -> None:
        """Gives it the name that was not known at its start."""

    def set(self, **attributes: Value) -> None:
        """Adds attributes; a name without a dot is one of ours and gets `mirage.` before it."""

    def fail(self, error: BaseException | str) -> None:
        """Marks it as failed: with an error's code in the catalogue or the name of its class, never with its text."""

    def enter(self) -> None:
        """What the current task does from now on belongs to it; for a task that ends with the request."""

    def entered(self) -> AbstractContextManager[None]:
        """What is done within the block belongs to it."""
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
    """From now on spans are recorded, as `service`, and sent to an OTLP endpoint by gRPC; does nothing where that is empty."""
    global _recorder  # one a process, set once at its start
    if endpoint and _recorder is None:
        # Imported here: whoever wants no traces does not pay for them.
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
    """A span that the caller ends, for what is spread over several tasks or goes on over a generator's `yield`.

    `parent` is what another process gave: its traceparent, or "" where it gave none and a trace begins here. With None it
    belongs to the current span, and outside of any nothing is recorded: there is no trace of what nobody asked for.
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
    """What may be told of a failure."""
    if isinstance(error, MirageError):
        return str(error.code)
    return error if isinstance(error, str) else type(error).__name__
