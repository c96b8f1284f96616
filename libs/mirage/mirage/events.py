"""Server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html), out of the pieces of a stream."""

import codecs
import re
from collections.abc import Iterator

from mirage.errors import ReplyError

_LINE_END = re.compile("\r\n|\r|\n")


class EventParser:
    """Parses a stream whose pieces may end anywhere. An event may have `limit` characters."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")("replace")
        self._pieces: list[str] = []
        self._after_return = False
        self._name = ""
        self._data: list[str] = []
        self._size = 0

    def feed(self, piece: bytes) -> Iterator[tuple[str, str]]:
        """Yields the events that a piece completes as (name, data); a comment comes as ("", "").

        Raises ReplyError for an event that is too long.
        """
        text = self._decoder.decode(piece)
        if self._after_return:
            # The line feed of a line end whose carriage return was in the piece before.
            text = text.removeprefix("\n")
        if not text:
            self._after_return = self._after_return and not piece
            return
        self._after_return = text.endswith("\r")
        self._size += len(text)
        *lines, rest = _LINE_END.split(text)
        if lines:
            lines[0] = "".join((*self._pieces, lines[0]))
            self._pieces = []
        self._pieces.append(rest)
        for line in lines:
            yield from self._take(line)
        if self._size > self._limit:
            raise ReplyError(f"an event exceeds {self._limit} bytes")

    def _take(self, line: str) -> Iterator[tuple[str, str]]:
        if not line:
            if self._data:
                yield self._name or "message", "\n".join(self._data)
            self._name, self._data = "", []
            self._size = sum(map(len, self._pieces))
            return
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if not field:
            yield "", ""
        elif field == "event":
            self._name = value
        elif field == "data":
            self._data.append(value)
