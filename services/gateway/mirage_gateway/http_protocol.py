"""HTTP/1.1 on one connection, with bounds on what is buffered and on how long a peer may take."""

import asyncio
from typing import Any

import httptools
from starlette.types import ASGIApp
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.server import ServerState

from mirage_core import limits, telemetry
from mirage_core.errors import Code, MirageError
from mirage_gateway.connections import Connections, Pace
from mirage_gateway.web import problems

_ended = telemetry.counter("http_connections_ended_total", "Connections that this server ended early.", ("reason",))

# Requests that may wait on a connection for the answer to the one before.
_PIPELINED = 8
_PIECE = 2**13
# Bytes of framing (chunk sizes, their extensions, trailers) that a body may need for each of its own.
_FRAMING = 16
# A body that arrives at this rate is not a burden.
_WELL_BYTES_PER_S = 64 * 2**10
# After this a new connection has had the chance to say what it wants.
_SETTLE_S = 0.02
# After an answer that ends the connection: how long, and how much, the peer may still send. A connection that is closed with
# unread bytes is reset, and the peer may never see the answer.
_LINGER_S = 5.0
_LINGER_BYTES = 64 * 2**20
# After an answer that came before the end of its request's body: how long the rest may take.
_LEFTOVER_S = 30.0


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's protocol with bounds. It is in `connections` from the moment that its connection was accepted.

    - A head has at most 32 KiB and 100 fields, counted as its bytes arrive, and so have the trailers of a chunked body.
    - `check`, which `connections` calls regularly, ends a connection whose peer is too slow or has nothing to ask.
    """

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        loop: asyncio.AbstractEventLoop,
        connections: Connections,
        *,
        pace: Pace,
        client: str,
        app: ASGIApp | None = None,
    ) -> None:
        super().__init__(config, server_state, {}, loop)
        if app is not None:
            self.app = app
        self.key = client
        self.opening: asyncio.Task[Any] | None = None
        self._registry = connections
        self._pace = pace
        # When the connection came into the state that it is in.
        self._since = loop.time()
        self._settled = False
        # Twice: between two timers what has arrived is read, however busy this process is.
        loop.call_later(_SETTLE_S, loop.call_later, _SETTLE_S / 10, self._settle)
        self._answered_any = False
        self._in_head = False
        self._in_body = False
        self._chunked = False
        # Requests begun.
        self._number = 0
        # Of the head, or of the trailers: bytes and number of the fields that are complete; and all bytes of the head.
        self._head_bytes = 0
        self._head_fields = 0
        self._head_fed = 0
        # Of the request's body and of its framing; and of either since the parser last had something complete.
        self._body_bytes = 0
        self._framing_bytes = 0
        self._unfinished = 0
        self._progress = False
        self._refusal: MirageError | None = None
        self._too_many = False
        # Nothing of what arrives is read any more.
        self._deaf = False
        self._discarded = 0
        self._lingering = False
        self._leftover = False
        # Of the answers: bytes that wait for the peer, and what it has taken in the current window.
        self._waiting_bytes = 0
        self._taken_bytes = 0
        self._window = self._since

    # The connection

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Starts the time in which a head must arrive."""
        super().connection_made(transport)
        self._since = self.loop.time()

    def connection_lost(self, exc: Exception | None) -> None:
        """Leaves the registry."""
        self._registry.remove(self)
        if self.transport is not None:
            super().connection_lost(exc)

    @property
    def settled(self) -> bool:
        """False for a new connection whose first bytes may be there and are not read yet."""
        return self._settled

    @property
    def rank(self) -> tuple[bool, float] | None:
        """Order in which connections have to go when there are too many; None for one that must stay.

        It is the order in which they began to wait for their peer. Bodies that arrive well come last; a request that is being
        answered must stay, and so must a new connection.
        """
        if not self._settled:
            return None
        if self._answering() and not self._lingering:
            if not self._in_body:
                return None
            return (self._body_bytes >= _WELL_BYTES_PER_S * (self.loop.time() - self._since), self._since)
        return (False, self._since)

    def _settle(self) -> None:
        self._settled = True

    def evict(self) -> None:
        """Closes the connection at once, to make room for another."""
        _ended.labels("evicted").inc()
        self._abort()

    def check(self, now: float) -> None:
        """Closes the connection if its peer takes too long."""
        if self.transport is None:
            return  # the TLS handshake has a limit of its own
        if not self._takes(now):
            _ended.labels("slow reader").inc()
            self._abort()
        elif self._lingering:
            if now - self._since > _LINGER_S:
                self._abort()
        elif self._leftover:
            if now - self._since > _LEFTOVER_S:
                _ended.labels("slow body").inc()
                self._abort()
        elif self._answering():
            return
        elif self._in_head:
            if now - self._since > self._pace.head_s:
                _ended.labels("slow head").inc()
                self._refuse(MirageError(Code.REQUEST_TOO_SLOW))
        elif now - self._since > (self._pace.keep_alive_s if self._answered_any else self._pace.head_s):
            _ended.labels("idle").inc()
            self.transport.close()

    def _takes(self, now: float) -> bool:
        # While the buffer is above its limit nothing is added to it, so that what it loses is what the peer took.
        waiting = self.transport.get_write_buffer_size()
        if not waiting:
            self._waiting_bytes = self._taken_bytes = 0
            self._window = now
            return True
        self._taken_bytes += max(0, self._waiting_bytes - waiting)
        self._waiting_bytes = waiting
        if now - self._window < self._pace.window_s:
            return True
        slow = self._taken_bytes < self._pace.bytes_per_s * (now - self._window)
        self._taken_bytes, self._window = 0, now
        return not slow

    def resume_writing(self) -> None:
        """Counts what the peer has taken: the buffer has gone from above its high mark to below its low one."""
        self._taken_bytes += max(0, self._waiting_bytes - self.transport.get_write_buffer_size()) or 2**15
        self._waiting_bytes = 0
        super().resume_writing()

    def shutdown(self) -> None:
        """Ends the connection after the answer that is being given, or at once."""
        if self._lingering:
            self._abort()
        else:
            super().shutdown()

    def _abort(self) -> None:
        if self.transport is None:
            if self.opening is not None:
                self.opening.cancel()
        else:
            self.transport.abort()

    def _answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    # Receiving

    def data_received(self, data: bytes) -> None:
        """Feeds the parser, and stops it at the bounds."""
        self._settled = True
        at = 0
        while at < len(data) and not self._deaf:
            # Everything but a body is fed in small pieces: then the count below is exact to one of them.
            size = len(data) if self._in_body and not self._chunked else _PIECE
            self._feed(data[at : at + size])
            at += size
        if self._deaf:
            self._discarded += len(data)
            if self._discarded > _LINGER_BYTES:
                self._abort()

    def _feed(self, data: bytes) -> None:
        fresh = not (self._in_head or self._in_body)
        number, body_bytes = self._number, self._body_bytes
        self._progress = False
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            # No other protocol is spoken here: the request is answered as it is, and the connection ends.
            self.cycle.keep_alive = False
            self._deaf = True
            return
        except httptools.HttpParserError:
            if self._too_many:
                self._deaf = True
                self.cycle.keep_alive = False
                return
            self._refuse(self._refusal or MirageError(Code.REQUEST_MALFORMED, field="HTTP"))
            return
        begun = self._number - number
        if self._in_head:
            # If a message began inside these bytes, behind another one, the number of its own bytes is not known.
            if begun == (1 if fresh else 0):
                self._head_fed += len(data)
            if self._head_fed > limits.HEAD_BYTES:
                self._refuse(_head_too_large())
            return
        if not begun and not fresh:
            self._framing_bytes += len(data) - (self._body_bytes - body_bytes)
        self._unfinished = 0 if self._progress else self._unfinished + len(data)
        if (
            self._framing_bytes > limits.HEAD_BYTES + _FRAMING * self._body_bytes
            or self._unfinished > limits.HEAD_BYTES
        ):
            self._refuse(_head_too_large())

    def on_message_begin(self) -> None:
        """Begins a head."""
        if len(self.pipeline) >= _PIPELINED:
            self._too_many = True
            raise _StopParsing
        super().on_message_begin()
        if not self._answering():
            self._since = self.loop.time()
        self._number += 1
        self._in_head = True
        self._head_bytes = self._head_fields = self._head_fed = 0

    def on_url(self, url: bytes) -> None:
        """Counts a part of the address."""
        self._count(len(url), fields=0)
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Counts a field, of the head or of the trailers; those of the trailers are dropped."""
        self._count(len(name) + len(value) + 4, fields=1)
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Begins to serve the request."""
        self._progress = True
        self._in_head = False
        self._in_body = True
        self._head_bytes = self._head_fields = 0
        self._body_bytes = self._framing_bytes = 0
        self._chunked = any(name == b"transfer-encoding" for name, _ in self.headers)
        super().on_headers_complete()
        if self.cycle is not None:
            self.cycle.transport = _CycleTransport(self)  # type: ignore[assignment]  # has what the cycle calls

    def on_chunk_header(self) -> None:
        """Notes that the line before a chunk is complete."""
        self._progress = True

    def on_body(self, body: bytes) -> None:
        """Passes a part of the body on."""
        self._progress = True
        self._body_bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Ends a request."""
        self._progress = True
        self._in_body = self._leftover = False
        self._head_bytes = self._head_fields = 0
        self._since = self.loop.time()
        super().on_message_complete()

    def _count(self, size: int, *, fields: int) -> None:
        self._progress = True
        self._head_bytes += size
        self._head_fields += fields
        if self._head_bytes > limits.HEAD_BYTES or self._head_fields > limits.HEAD_FIELDS:
            self._refusal = _head_too_large()
            raise _StopParsing

    # Answering

    def on_response_complete(self) -> None:
        """Starts the next request that waits; otherwise the connection waits for its peer."""
        self.server_state.total_requests += 1
        self._answered_any = True
        self._since = self.loop.time()
        self._leftover = self._in_body
        if self._lingering or self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            cycle, app = self.pipeline.pop()
            self._start_asgi_task(cycle, app)

    def send_400_response(self, msg: str) -> None:
        """Refuses what is not HTTP."""
        self._refuse(MirageError(Code.REQUEST_MALFORMED, field="HTTP"))

    def _refuse(self, error: MirageError) -> None:
        """Answers with a problem and ends the connection; if another answer is on its way, only ends it."""
        self._deaf = True
        if self.transport.is_closing():
            return
        if self._answering():
            if self.pipeline or not self._in_body or self.cycle.response_started:
                self._abort()
                return
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self.transport.write(render(error, self.server_state))
        self.end()

    def end(self) -> None:
        """Closes the connection, once the peer has had the chance to read the answer."""
        if not (self._deaf or self._in_body):
            self.transport.close()
            return
        self._deaf = self._lingering = True
        self._since = self.loop.time()
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.flow.resume_reading()


class _CycleTransport:
    """The transport for uvicorn's request cycle: the same, except that `close` lingers if bytes are unread."""

    __slots__ = ("close", "is_closing", "write")

    def __init__(self, protocol: BoundedProtocol) -> None:
        self.write = protocol.transport.write
        self.is_closing = protocol.transport.is_closing
        self.close = protocol.end


class _StopParsing(Exception):  # noqa: N818 -- never leaves the parser
    """Raised in a callback, it stops the parser."""


def render(error: MirageError, state: ServerState) -> bytes:
    """Returns a whole HTTP answer with the error as a problem document."""
    response = problems.problem_response(error, headers={"connection": "close"})
    head = [STATUS_LINE[response.status_code]]
    head += [b"%s: %s\r\n" % field for field in (*state.default_headers, *response.raw_headers)]
    return b"".join((*head, b"\r\n", bytes(response.body)))


def _head_too_large() -> MirageError:
    return MirageError(Code.REQUEST_HEAD_TOO_LARGE, max_bytes=limits.HEAD_BYTES, max_fields=limits.HEAD_FIELDS)
