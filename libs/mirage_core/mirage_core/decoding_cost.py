"""Estimates the memory that decoding an image file may take, from its first bytes.

These are estimates for sharing a budget. A file that lies about its size is stopped by the limits of the decoding
child.
"""

import struct

_MIB = 2**20
# Memory of a decoder in addition to the file and the pixels.
_FIXED_BYTES = 24 * _MIB
# For each pixel: what the decoder holds, the picture, a copy in another mode, and what is computed and written from it.
# Most was
# measured for WebP and 16-bit PNG with transparency (12).
_PIXEL_BYTES = 14
_SEGMENTS = 1000
# The size of a DICOM image is searched in this part of the file.
_HEAD_BYTES = 64 * 1024
_ROWS, _COLUMNS = b"\x28\0\x10\0US\x02\0", b"\x28\0\x11\0US\x02\0"
_DEFLATED = b"1.2.840.10008.1.2.1.99"


def decoding_bytes(data: bytes) -> int | None:
    """Returns an upper estimate in bytes for a PNG, JPEG, WebP or DICOM file.

    None if its first bytes do not say enough.
    """
    for read in (_jpeg, _png, _webp, _dicom):
        if size := read(data):
            return _FIXED_BYTES + len(data) + size[0] * size[1] * _PIXEL_BYTES
    return None


def _png(data: bytes) -> tuple[int, int] | None:
    if data[:8] != b"\x89PNG\r\n\x1a\n" or len(data) < 24:
        return None
    width, height = struct.unpack_from(">II", data, 16)
    return width, height


def _jpeg(data: bytes) -> tuple[int, int] | None:
    if data[:3] != b"\xff\xd8\xff":
        return None
    start = 2
    for _ in range(_SEGMENTS):
        while data[start : start + 2] == b"\xff\xff":
            start += 1
        if len(data) < start + 9 or data[start] != 0xFF:
            return None
        marker = data[start + 1]
        # The frame headers; C4, C8 and CC are tables and an extension.
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack_from(">HH", data, start + 5)
            return width, height
        start += 2 + int.from_bytes(data[start + 2 : start + 4], "big")
    return None


def _webp(data: bytes) -> tuple[int, int] | None:
    if data[:4] != b"RIFF" or data[8:12] != b"WEBP" or len(data) < 30:
        return None
    kind = data[12:16]
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return width & 0x3FFF, height & 0x3FFF
    if kind == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8X":
        return int.from_bytes(data[24:27], "little") + 1, int.from_bytes(data[27:30], "little") + 1
    return None


def _dicom(data: bytes) -> tuple[int, int] | None:
    """Returns rows and columns if the file has them as plain elements, as nearly all files except deflated ones do."""
    head = data[:_HEAD_BYTES]
    rows, columns = head.find(_ROWS), head.find(_COLUMNS)
    if head[128:132] != b"DICM" or _DEFLATED in head[:1024] or min(rows, columns) < 0:
        return None
    sizes = head[rows + 8 : rows + 10], head[columns + 8 : columns + 10]
    return int.from_bytes(sizes[0], "little"), int.from_bytes(sizes[1], "little")
