"""Server-sent events, whatever the pieces in which they arrive."""

import pytest

from mirage.errors import ReplyError
from mirage.events import EventParser

STREAM = (
    ": a comment\n\n"
    "event: one\ndata: first line\ndata:second line\nid: 7\nretry: 10\n\n"
    "data\n\n"
    "event: nothing\n\n"
    "event: ü\ndata:  𝔸\n\n"
    "data: unfinished"
)
EVENTS = [("", ""), ("one", "first line\nsecond line"), ("message", ""), ("ü", " 𝔸")]


def parse(content: bytes, size: int) -> list[tuple[str, str]]:
    parser = EventParser(1000)
    return [event for at in range(0, len(content), size) for event in parser.feed(content[at : at + size])]


@pytest.mark.parametrize("size", [1, 2, 3, 5, 1000])
@pytest.mark.parametrize("end", ["\n", "\r", "\r\n"])
def test_pieces_and_line_ends_change_nothing(end: str, size: int) -> None:
    assert parse(STREAM.replace("\n", end).encode(), size) == EVENTS


def test_a_byte_order_mark_is_no_part_of_the_first_line() -> None:
    assert parse(b"\xef\xbb\xbfdata: x\n\n", 1) == [("message", "x")]


def test_bytes_that_are_not_utf8_are_replaced() -> None:
    assert parse(b"data: \xff\n\n", 1000) == [("message", "\N{REPLACEMENT CHARACTER}")]


@pytest.mark.parametrize("content", [b"data: " + b"x" * 2000, b"data: " + b"x\ndata: " * 400, b":" * 2000])
def test_an_event_that_does_not_end_is_refused(content: bytes) -> None:
    with pytest.raises(ReplyError, match="exceeds"):
        parse(content, 64)


def test_many_short_events_are_no_long_one() -> None:
    assert parse(b"data: x\n\n" * 500, 64) == [("message", "x")] * 500
