"""Writes small DICOM files element by element, so that a test can write what no library would."""

import struct
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from pydicom.datadict import dictionary_VR, tag_for_keyword

IMPLICIT = "1.2.840.10008.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
DEFLATED = "1.2.840.10008.1.2.1.99"
BIG_ENDIAN = "1.2.840.10008.1.2.2"
RLE = "1.2.840.10008.1.2.5"
JPEG_BASELINE = "1.2.840.10008.1.2.4.50"
JPEG_EXTENDED = "1.2.840.10008.1.2.4.51"
JPEG_LOSSLESS = "1.2.840.10008.1.2.4.57"
JPEG_LOSSLESS_SV1 = "1.2.840.10008.1.2.4.70"
JPEG_LS = "1.2.840.10008.1.2.4.80"
JPEG_LS_NEAR = "1.2.840.10008.1.2.4.81"
JPEG_2000_LOSSLESS = "1.2.840.10008.1.2.4.90"
JPEG_2000 = "1.2.840.10008.1.2.4.91"
HTJ2K_LOSSLESS = "1.2.840.10008.1.2.4.201"

_LONG = {"OB", "OD", "OF", "OL", "OV", "OW", "SQ", "UC", "UN", "UR", "UT"}
_NUMBERS = {"US": "H", "SS": "h", "UL": "I", "SL": "i", "FL": "f", "FD": "d"}
_UNDEFINED = 0xFFFFFFFF


def element(
    tag: int, kind: str, value: bytes, *, order: str = "<", implicit: bool = False, length: int | None = None
) -> bytes:
    """One element; `length` states another length than the value has."""
    if length is None and len(value) % 2:
        value += b"\0" if kind in ("OB", "UN", "UI", "OW") else b" "
    length = len(value) if length is None else length
    head = struct.pack(order + "HH", tag >> 16, tag & 0xFFFF)
    if implicit or tag >> 16 == 0xFFFE:
        return head + struct.pack(order + "I", length) + value
    if kind in _LONG:
        return head + kind.encode() + b"\0\0" + struct.pack(order + "I", length) + value
    return head + kind.encode() + struct.pack(order + "H", length) + value


def dataset(fields: Mapping[str | int, Any], *, order: str = "<", implicit: bool = False) -> bytes:
    """The elements in order of their tags. A value is bytes, text, numbers, a list of items, or (representation, value)."""
    found = []
    for key, value in fields.items():
        tag = key if isinstance(key, int) else tag_for_keyword(key)
        assert tag is not None, key
        kind, value = value if isinstance(value, tuple) else (None, value)
        if value is None:
            continue
        if kind is None:
            kind = dictionary_VR(tag).split(" or ")[0] if tag >> 16 & 1 == 0 else "LO"
        found.append(
            (
                tag,
                element(tag, kind, _coded(kind, value, order=order, implicit=implicit), order=order, implicit=implicit),
            )
        )
    return b"".join(coded for _, coded in sorted(found))


def _coded(kind: str, value: Any, *, order: str, implicit: bool) -> bytes:
    if isinstance(value, bytes):
        return value
    if kind == "SQ":
        items = [dataset(item, order=order, implicit=implicit) for item in value]
        return b"".join(struct.pack(order + "HHI", 0xFFFE, 0xE000, len(item)) + item for item in items)
    several = list(value) if isinstance(value, Sequence | np.ndarray) and not isinstance(value, str) else [value]
    if kind in _NUMBERS:
        return struct.pack(f"{order}{len(several)}{_NUMBERS[kind]}", *several)
    return "\\".join(str(each) for each in several).encode("latin-1")


def encapsulated(frames: Sequence[bytes], *, offsets: bool = True, parts: int = 1) -> bytes:
    """Fragments with their offset table; each frame in `parts` fragments."""
    body, starts = b"", []
    for frame in frames:
        starts.append(len(body))
        size = -(-len(frame) // parts)
        size = max(2, size + size % 2)
        for start in range(0, len(frame), size):
            piece = frame[start : start + size]
            piece += b"\0" * (len(piece) % 2)
            body += struct.pack("<HHI", 0xFFFE, 0xE000, len(piece)) + piece
    table = struct.pack(f"<{len(starts)}I", *starts) if offsets else b""
    return struct.pack("<HHI", 0xFFFE, 0xE000, len(table)) + table + body + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)


def file(
    body: bytes, *, syntax: str = EXPLICIT, preamble: bytes | None = bytes(128), meta: bool = True, extra: bytes = b""
) -> bytes:
    """A file around a coded data set."""
    head = b"" if preamble is None else preamble + b"DICM"
    if meta:
        group = (
            element(0x00020001, "OB", b"\0\1")
            + element(0x00020002, "UI", b"1.2.840.10008.5.1.4.1.1.7")
            + element(0x00020003, "UI", b"1.2.3")
            + element(0x00020010, "UI", syntax.encode())
            + extra
        )
        head += element(0x00020000, "UL", struct.pack("<I", len(group))) + group
    if syntax == DEFLATED:
        deflater = zlib.compressobj(9, zlib.DEFLATED, -15)
        body = deflater.compress(body) + deflater.flush()
    return head + body


def dicom(
    pixels: np.ndarray | bytes | None,
    *,
    syntax: str = EXPLICIT,
    preamble: bytes | None = bytes(128),
    meta: bool = True,
    fragments: bytes | None = None,
    **fields: Any,
) -> bytes:
    """An image file: native pixels of an array of (rows, columns), or with `frames=True` in front, or with samples last.

    Rows, Columns, bits and sign are those of the array unless fields say otherwise; a field of None is left out.
    """
    order: Literal["<", ">"] = ">" if syntax == BIG_ENDIAN else "<"
    implicit = syntax == IMPLICIT
    said: dict[str | int, Any] = {
        "SOPClassUID": "1.2.840.10008.5.1.4.1.1.7",
        "SOPInstanceUID": "1.2.3",
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
    }
    if isinstance(pixels, np.ndarray):
        bits = 8 * pixels.dtype.itemsize
        colour = pixels.ndim >= 3 and pixels.shape[-1] == 3
        shape = pixels.shape[:-1] if colour else pixels.shape
        said |= {
            "Rows": shape[-2],
            "Columns": shape[-1],
            "BitsAllocated": bits,
            "BitsStored": bits,
            "HighBit": bits - 1,
            "PixelRepresentation": int(pixels.dtype.kind == "i"),
        }
        if colour:
            said |= {"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB", "PlanarConfiguration": 0}
        if len(shape) == 3:
            said["NumberOfFrames"] = shape[0]
    said.update(fields)
    body = dataset({key: value for key, value in said.items() if value is not None}, order=order, implicit=implicit)
    if fragments is not None:
        body += element(0x7FE00010, "OB", fragments, length=_UNDEFINED)
    elif pixels is not None:
        data = pixels if isinstance(pixels, bytes) else pixels.astype(pixels.dtype.newbyteorder(order)).tobytes()
        tag = 0x7FE00010
        kind = "OB" if not isinstance(pixels, np.ndarray) or pixels.dtype.itemsize == 1 else "OW"
        if isinstance(pixels, np.ndarray) and pixels.dtype.kind == "f":
            tag, kind = (0x7FE00008, "OF") if pixels.dtype.itemsize == 4 else (0x7FE00009, "OD")
        body += element(tag, kind, data, order=order, implicit=implicit)
    return file(body, syntax=syntax, preamble=preamble, meta=meta)


def run_lengths(planes: Sequence[bytes]) -> bytes:
    """A frame of RLE Lossless (PS3.5 annex G): one segment for each plane of bytes."""
    segments = []
    for plane in planes:
        out, place = bytearray(), 0
        while place < len(plane):
            run = 1
            while run < 128 and place + run < len(plane) and plane[place + run] == plane[place]:
                run += 1
            if run > 1:
                out += bytes((257 - run, plane[place]))
                place += run
                continue
            end = place + 1
            while end < len(plane) and end - place < 128 and (end + 1 >= len(plane) or plane[end] != plane[end + 1]):
                end += 1
            out += bytes((end - place - 1,)) + plane[place:end]
            place = end
        segments.append(bytes(out) + b"\0" * (len(out) % 2))
    starts = [64 + sum(map(len, segments[:number])) for number in range(len(segments))]
    return struct.pack("<16I", len(segments), *starts, *[0] * (15 - len(segments))) + b"".join(segments)


def jpeg_lossless(pixels: np.ndarray, *, precision: int) -> bytes:
    """A frame of JPEG Lossless (ITU T.81 annex H), first-order prediction, of (rows, columns) or (rows, columns, samples)."""
    values = pixels.astype(np.int64)[..., None] if pixels.ndim == 2 else pixels.astype(np.int64)
    rows, columns, samples = values.shape
    out: list[str] = []
    for row in range(rows):
        for column in range(columns):
            for sample in range(samples):
                if column:
                    predicted = values[row, column - 1, sample]
                else:
                    predicted = values[row - 1, 0, sample] if row else 1 << precision - 1
                difference = int(values[row, column, sample] - predicted)
                size = abs(difference).bit_length()
                # Every size has a code of five bits.
                out.append(f"{size:05b}")
                if 0 < size < 16:  # the one difference of 16 bits has none to follow
                    out.append(f"{difference if difference > 0 else difference + (1 << size) - 1:0{size}b}")
    bits = "".join(out)
    bits += "1" * (-len(bits) % 8)
    entropy = int(bits, 2).to_bytes(len(bits) // 8, "big").replace(b"\xff", b"\xff\x00")

    def segment(marker: int, content: bytes) -> bytes:
        return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content

    parts = b"".join(bytes((number + 1, 0x11, 0)) for number in range(samples))
    table = bytes((0,)) + bytes((0, 0, 0, 0, 17, *[0] * 11)) + bytes(range(17))
    scan = bytes((samples,)) + b"".join(bytes((number + 1, 0)) for number in range(samples)) + b"\1\0\0"
    frame = struct.pack(">BHHB", precision, rows, columns, samples) + parts
    return b"\xff\xd8" + segment(0xC3, frame) + segment(0xC4, table) + segment(0xDA, scan) + entropy + b"\xff\xd9"
