"""Finds the start and the coding of a DICOM file's elements, with or without preamble and file meta information."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

IMPLICIT = "1.2.840.10008.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
DEFLATED = "1.2.840.10008.1.2.1.99"
BIG_ENDIAN = "1.2.840.10008.1.2.2"
STANDARD_UID = "1.2.840.10008."

_LONG = frozenset((b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"))
_SHORT = frozenset(
    (b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FL", b"FD", b"IS", b"LO", b"LT", b"PN", b"SH", b"SL", b"SS", b"ST", b"TM",
     b"UI", b"UL", b"US")
)  # fmt: skip
_UNDEFINED = 0xFFFFFFFF
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_ELEMENTS_MAX = 20_000
_DEPTH_MAX = 16
_META_MAX = 64
_ROWS, _COLUMNS = 0x00280010, 0x00280011


@dataclass(frozen=True)
class Layout:
    """`start` is where the data set begins, `transfer_syntax` the UID that the file states, or what its elements
    look like.
    """

    start: int
    transfer_syntax: str


def looks_like_dicom(data: bytes) -> bool:
    """True for a DICOM file, also without preamble or file meta information.

    Without them its elements are walked: they must start with group 0002 or 0008, have rising tags and lengths that
    fit, and lead to Rows and Columns (0028,0010 and 0028,0011). No other kind of file does.
    """
    if data[128:132] == b"DICM" or data[:4] == b"DICM":
        return True
    if data[:2] == b"\2\0":
        meta, syntax = _meta(data, 0)
        return meta > 0 and syntax.startswith(STANDARD_UID)
    return any(_leads_to_an_image(data, 0, syntax) for syntax in (EXPLICIT, IMPLICIT, BIG_ENDIAN))


def find_layout(data: bytes) -> Layout:
    """Returns where the data set starts and its transfer syntax.

    Without file meta information, the syntax is guessed.
    """
    start = 132 if data[128:132] == b"DICM" else 4 if data[:4] == b"DICM" else 0
    start, syntax = _meta(data, start)
    return Layout(start, syntax or _guess(data, start))


def _meta(data: bytes, start: int) -> tuple[int, str]:
    """Returns where the elements of group 0002 end, and the transfer syntax that they state ("" if none)."""
    place, syntax = start, ""
    for _ in range(_META_MAX):
        if data[place : place + 2] != b"\2\0":
            break
        element = int.from_bytes(data[place + 2 : place + 4], "little")
        kind = data[place + 4 : place + 6]
        if kind in _LONG:
            length, head = int.from_bytes(data[place + 8 : place + 12], "little"), 12
        elif kind in _SHORT:
            length, head = int.from_bytes(data[place + 6 : place + 8], "little"), 8
        else:  # some writers use implicit VR here
            length, head = int.from_bytes(data[place + 4 : place + 8], "little"), 8
        if place + head + length > len(data):
            return start, ""
        if element == 0x0010:
            text = data[place + head : place + head + min(length, 64)]
            syntax = text.decode("latin-1").strip("\0 ")
        place += head + length
    return place, syntax


def _guess(data: bytes, start: int) -> str:
    head = data[start : start + 8]
    if head[4:6] in _LONG | _SHORT:
        return BIG_ENDIAN if head[:1] == b"\0" and head[1:2] != b"\0" else EXPLICIT
    return IMPLICIT


def _leads_to_an_image(data: bytes, start: int, syntax: str) -> bool:
    seen, last = set(), -1
    for tag, length in _walk(data, start, syntax):
        if tag <= last or (last < 0 and tag >> 16 not in (0x0002, 0x0008)):
            return False
        last = tag
        if tag in (_ROWS, _COLUMNS):
            seen.add(tag)
            if length != 2:
                return False
        if len(seen) == 2:
            return True
        if tag > _COLUMNS:
            return False
    return False


def _walk(data: bytes, start: int, syntax: str) -> Iterator[tuple[int, int]]:
    """Yields (tag, length) of the top-level elements; ends early at the first one that does not fit."""
    order = ">" if syntax == BIG_ENDIAN else "<"
    place, depth = start, 0
    for _ in range(_ELEMENTS_MAX):
        if place + 8 > len(data):
            return
        group, element = struct.unpack_from(order + "HH", data, place)
        tag = group << 16 | element
        if tag in (_ITEM, _ITEM_END, _SEQUENCE_END):
            (length,) = struct.unpack_from(order + "I", data, place + 4)
            if depth == 0 or depth > _DEPTH_MAX:
                return
            place += 8
            if tag == _ITEM:
                if length == _UNDEFINED:
                    depth += 1
                else:
                    place += length
            else:
                depth -= 1
            continue
        head = 8
        if syntax == IMPLICIT:
            (length,) = struct.unpack_from(order + "I", data, place + 4)
        elif (kind := data[place + 4 : place + 6]) in _SHORT:
            (length,) = struct.unpack_from(order + "H", data, place + 6)
        elif kind in _LONG and place + 12 <= len(data):
            (length,) = struct.unpack_from(order + "I", data, place + 8)
            head = 12
        else:
            return
        if depth == 0:
            yield tag, length
        place += head
        if length == _UNDEFINED:
            depth += 1
        else:
            place += length
        if place > len(data):
            return
