"""Messages between the retriever and a searcher process: msgpack with a length in front, over a socket pair."""

import socket
import struct
from typing import Any

import msgpack

_LENGTH = struct.Struct("<I")
_MAX_BYTES = 256 * 2**20


def pack(message: Any) -> bytes:
    """A frame: four bytes of length (little-endian), then the message."""
    body: bytes = msgpack.packb(message)
    return _LENGTH.pack(len(body)) + body


class FrameReader:
    """Cuts a stream of bytes into messages."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[Any]:
        """The messages that `data` completes. Raises ValueError for a frame too long to be one of ours."""
        self._buffer += data
        messages: list[Any] = []
        start = 0
        while len(self._buffer) - start >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._buffer, start)
            if length > _MAX_BYTES:
                raise ValueError("frame too long")
            end = start + _LENGTH.size + length
            if len(self._buffer) < end:
                break
            messages.append(msgpack.unpackb(memoryview(self._buffer)[start + _LENGTH.size : end], use_list=True))
            start = end
        if start:
            del self._buffer[:start]
        return messages


def receive(sock: socket.socket) -> Any:
    """Returns the next message of a blocking socket; None if the other side closed it."""
    header = _receive_exactly(sock, _LENGTH.size)
    if header is None:
        return None
    body = _receive_exactly(sock, _LENGTH.unpack(header)[0])
    return None if body is None else msgpack.unpackb(body, use_list=True)


def _receive_exactly(sock: socket.socket, count: int) -> bytes | None:
    data = bytearray()
    while len(data) < count:
        piece = sock.recv(count - len(data))
        if not piece:
            return None
        data += piece
    return bytes(data)
