"""A caller that speaks HTTP/2 itself, and can do what no gRPC library does: send half a message, rubbish, or a wrong path."""

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, ResponseReceived, StreamEnded, StreamReset, TrailersReceived
from h2.exceptions import ProtocolError

PATH = b"/mirage.encoder.v1.EncoderService/EncodeText"


@dataclass
class Call:
    """One stream: what came back on it."""

    headers: dict[str, str] = field(default_factory=dict)
    data: bytes = b""
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def status(self) -> int | None:
        """The gRPC status; None before there is one."""
        return int(self.headers["grpc-status"]) if "grpc-status" in self.headers else None


class RawConnection:
    """A connection to a gRPC server on this machine."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._state = H2Connection(
            H2Configuration(
                client_side=True,
                header_encoding=None,
                validate_outbound_headers=False,
                normalize_outbound_headers=False,
            )
        )
        self._calls: dict[int, Call] = {}
        self._moved = asyncio.Event()
        self.closed = asyncio.Event()
        self._state.initiate_connection()
        self._reading = asyncio.create_task(self._read())

    @classmethod
    async def open(cls, port: int, address: str = "127.0.0.1") -> "RawConnection":
        """Connects, from an address of this machine."""
        made = cls(*await asyncio.open_connection("127.0.0.1", port, local_addr=(address, 0)))
        await made._flush()
        return made

    async def close(self) -> None:
        """Ends the connection and all of its calls."""
        self._reading.cancel()
        await asyncio.wait((self._reading,))
        self._writer.close()
        with suppress(OSError):
            await self._writer.wait_closed()

    async def call(self, path: bytes = PATH, *, more: tuple[tuple[bytes, bytes], ...] = ()) -> tuple[int, Call]:
        """Starts a call: its headers are out, nothing of its message."""
        number = self._state.get_next_available_stream_id()
        headers = [
            (b":method", b"POST"),
            (b":scheme", b"http"),
            (b":authority", b"localhost"),
            (b":path", path),
            (b"content-type", b"application/grpc"),
            (b"te", b"trailers"),
            *more,
        ]
        self._calls[number] = Call()
        self._state.send_headers(number, headers)
        await self._flush()
        return number, self._calls[number]

    async def send(self, number: int, data: bytes, *, declared: int | None = None, end: bool = False) -> int:
        """Sends a message that says it has `declared` bytes, as far as the server takes it; returns how much that was."""
        prefix = b"\0" + (len(data) if declared is None else declared).to_bytes(4, "big")
        # Never copied as a whole: a thousand calls may send the same data.
        rest = memoryview(data)
        total, sent = len(prefix) + len(data), 0
        while sent < total:
            if self._calls[number].ended.is_set() or self.closed.is_set():
                return sent
            try:
                room = min(self._state.local_flow_control_window(number), 16_384, total - sent)
                if room > 0:
                    after = max(0, sent - len(prefix))
                    part = (prefix[sent:] + rest[after : after + room].tobytes())[:room]
                    self._state.send_data(number, part)
            except ProtocolError:
                return sent
            sent += max(0, room)
            await self._flush()
            if room <= 0:
                self._moved.clear()
                try:
                    await asyncio.wait_for(self._moved.wait(), 0.5)
                except TimeoutError:
                    return sent
        if end:
            await self.end(number)
        return sent

    async def end(self, number: int) -> None:
        """Says that no more messages come."""
        self._state.end_stream(number)
        await self._flush()

    async def _flush(self) -> None:
        self._writer.write(self._state.data_to_send())
        await self._writer.drain()

    async def _read(self) -> None:
        try:
            while data := await self._reader.read(65_536):
                for event in self._state.receive_data(data):
                    self._take(event)
                self._moved.set()
                await self._flush()
        except (OSError, ProtocolError):
            pass
        finally:
            self.closed.set()
            self._moved.set()
            for call in self._calls.values():
                call.ended.set()

    def _take(self, event: object) -> None:
        if isinstance(event, ResponseReceived | TrailersReceived):
            call = self._calls[event.stream_id]
            call.headers |= {name.decode(): value.decode("latin-1") for name, value in event.headers or ()}
        elif isinstance(event, DataReceived):
            self._calls[event.stream_id].data += event.data
            self._state.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, StreamEnded | StreamReset) and event.stream_id in self._calls:
            self._calls[event.stream_id].ended.set()
