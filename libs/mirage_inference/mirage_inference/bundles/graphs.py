"""Finds the other files that an ONNX graph reads: its external weights.

The file is mapped, not loaded, and walked field by field: of a graph of gigabytes only the heads of its fields are
read. The services lack the package `onnx`, and loading a graph with it would take all its weights into memory.
"""

import mmap
from collections.abc import Iterator
from pathlib import Path

# Numbers of fields in onnx.proto that lead to tensors, by message.
_CHILDREN = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "entry"},
}
# As deep as protobuf itself reads messages in messages.
_DEPTH = 100


def external_locations(path: Path) -> set[str]:
    """Returns the `location` of every tensor whose data is in another file.

    Raises ValueError for what is not a graph.
    """
    with path.open("rb") as stream:
        if not stream.seek(0, 2):
            raise ValueError("an empty file")
        with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return set(_locations(data))


def _locations(data: mmap.mmap) -> Iterator[str]:
    left = [("model", 0, len(data), 0)]
    graphs = 0
    while left:
        message, start, end, depth = left.pop()
        if message == "entry":
            fields = {number: data[first:last] for number, first, last in _fields(data, start, end)}
            if fields.get(1) == b"location":
                yield fields.get(2, b"").decode("utf-8", "replace")
            continue
        if depth > _DEPTH:
            raise ValueError("messages too deep in messages")
        graphs += message == "graph"
        children = _CHILDREN[message]
        left += [
            (children[number], first, last, depth + 1)
            for number, first, last in _fields(data, start, end)
            if number in children
        ]
    if not graphs:
        raise ValueError("no graph")


def _fields(data: mmap.mmap, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Yields number, first byte and end of the fields of a message that have a length; others are passed over."""
    while start < end:
        tag, start = _varint(data, start, end)
        match tag & 7:
            case 0:
                _, start = _varint(data, start, end)
            case 1:
                start += 8
            case 5:
                start += 4
            case 2:
                length, start = _varint(data, start, end)
                yield tag >> 3, start, min(start + length, end)
                start += length
            case _:
                raise ValueError("not a protobuf message")
    if start > end:
        raise ValueError("a field goes beyond its message")


def _varint(data: mmap.mmap, start: int, end: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if start >= end:
            break
        byte = data[start]
        start += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, start
    raise ValueError("a number that does not end")
